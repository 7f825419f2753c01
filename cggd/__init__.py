"""Constraint-guided discrete selection: choose options under bounds on anything that can be evaluated."""

from cggd import rules
from cggd.budget import Budget, Stop
from cggd.constraints import Constraint, soft
from cggd.explain import Explanation, explain
from cggd.feasibility import Diagnosis, Feasibility, SmallestBound, diagnose, find_feasible, smallest_bound
from cggd.guide import Guide, GuideStep, Observation
from cggd.guide.safeguard import Safeguard, SafeguardState, SafeguardStep
from cggd.improve.branches import Branches
from cggd.improve.cores import Cores
from cggd.improve.descent import Descent, Start
from cggd.improve.enumerate import Enumerate
from cggd.improve.exact import Exact
from cggd.improve.knapsacks import Knapsacks
from cggd.improve.model import Model
from cggd.improve.multipliers import Multipliers
from cggd.improve.presolve import Presolve
from cggd.improve.switches import Switches
from cggd.incumbent import Finding, Improver, Incumbent
from cggd.metrics import (
    Additive,
    Function,
    Interactions,
    Invalid,
    LongestPath,
    Measurement,
    Metric,
    MetricError,
    Peak,
    Predicted,
    Table,
    maximum,
)
from cggd.portfolio import portfolio
from cggd.problem import Problem
from cggd.result import History, Result, Status
from cggd.search import Search
from cggd.solve import Progress, SearchError, maximize, minimize, solve
from cggd.space import ChoiceSpace
from cggd.sweep import Front, Point, SweepError, SweepProgress, sweep

__version__ = "0.2.0"

__all__ = [
    "Additive",
    "Branches",
    "Budget",
    "ChoiceSpace",
    "Constraint",
    "Cores",
    "Descent",
    "Diagnosis",
    "Enumerate",
    "Exact",
    "Explanation",
    "Feasibility",
    "Finding",
    "Front",
    "Function",
    "Guide",
    "GuideStep",
    "History",
    "Improver",
    "Incumbent",
    "Interactions",
    "Invalid",
    "Knapsacks",
    "LongestPath",
    "Measurement",
    "Metric",
    "MetricError",
    "Model",
    "Multipliers",
    "Observation",
    "Peak",
    "Point",
    "Predicted",
    "Presolve",
    "Problem",
    "Progress",
    "Result",
    "Safeguard",
    "SafeguardState",
    "SafeguardStep",
    "Search",
    "SearchError",
    "SmallestBound",
    "Start",
    "Status",
    "Stop",
    "SweepError",
    "SweepProgress",
    "Switches",
    "Table",
    "diagnose",
    "explain",
    "find_feasible",
    "maximize",
    "maximum",
    "minimize",
    "portfolio",
    "rules",
    "smallest_bound",
    "soft",
    "solve",
    "sweep",
]
