"""Pictures of a search, of budgets, of the choices made and of what they trade off; they need ``cggd[plot]``.

Each function draws into `ax`, or into a new figure if it is None, and returns the Axes. Without matplotlib it raises an
ImportError that says what to install.
"""

from cggd.plotting.answer import plot_answer
from cggd.plotting.budgets import plot_budgets
from cggd.plotting.choices import plot_choices
from cggd.plotting.front import plot_front
from cggd.plotting.measurements import plot_measurements
from cggd.plotting.search import plot_search
from cggd.plotting.tradeoff import plot_tradeoff

__all__ = [
    "plot_answer",
    "plot_budgets",
    "plot_choices",
    "plot_front",
    "plot_measurements",
    "plot_search",
    "plot_tradeoff",
]
