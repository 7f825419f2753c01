"""Constraint-guided discrete selection: choose options under bounds on anything that can be evaluated."""

from cggd.constraints import Constraint
from cggd.feasibility import Diagnosis, Feasibility, SmallestBound, diagnose, find_feasible, smallest_bound
from cggd.guide import Guide, GuideStep, Observation
from cggd.guide.safeguard import Safeguard, SafeguardState, SafeguardStep
from cggd.metrics import Additive, Function, LongestPath, Metric, MetricError, Peak, Predicted, Table, maximum
from cggd.options import Progress, Start
from cggd.problem import Problem
from cggd.result import History, Result, Status
from cggd.search import SearchError, maximize, minimize, solve
from cggd.space import ChoiceSpace
from cggd.sweep import Front, Point, SweepError, SweepProgress, sweep

__version__ = "0.1.0"

__all__ = [
    "Additive",
    "ChoiceSpace",
    "Constraint",
    "Diagnosis",
    "Feasibility",
    "Front",
    "Function",
    "Guide",
    "GuideStep",
    "History",
    "LongestPath",
    "Metric",
    "MetricError",
    "Observation",
    "Peak",
    "Point",
    "Predicted",
    "Problem",
    "Progress",
    "Result",
    "Safeguard",
    "SafeguardState",
    "SafeguardStep",
    "SearchError",
    "SmallestBound",
    "Start",
    "Status",
    "SweepError",
    "SweepProgress",
    "Table",
    "diagnose",
    "find_feasible",
    "maximize",
    "maximum",
    "minimize",
    "smallest_bound",
    "solve",
    "sweep",
]
