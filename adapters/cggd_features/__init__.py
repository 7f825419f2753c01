"""Feature selection within budgets, for users of scikit-learn."""

from cggd_features.costs import SharedCost, prices
from cggd_features.path import PathPoint
from cggd_features.selector import BudgetedSelector

__all__ = ["BudgetedSelector", "PathPoint", "SharedCost", "prices"]
