"""Constraint-guided discrete selection: choose options under bounds on anything that can be evaluated."""

from cggd.constraints import TOLERANCE, Constraint
from cggd.guide import Guide, GuideStep
from cggd.metrics import Additive, Function, LongestPath, Metric, MetricError, Peak, Predicted, Table, maximum
from cggd.problem import Problem
from cggd.result import History, Result, Status
from cggd.search import Progress, SearchError, Start, maximize, minimize, solve
from cggd.space import ChoiceSpace

__version__ = "0.1.0"

__all__ = [
    "TOLERANCE",
    "Additive",
    "ChoiceSpace",
    "Constraint",
    "Function",
    "Guide",
    "GuideStep",
    "History",
    "LongestPath",
    "Metric",
    "MetricError",
    "Peak",
    "Predicted",
    "Problem",
    "Progress",
    "Result",
    "SearchError",
    "Start",
    "Status",
    "Table",
    "maximize",
    "maximum",
    "minimize",
    "solve",
]
