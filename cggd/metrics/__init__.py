"""Metrics: anything that can be evaluated on a selection, with its replacement table."""

from cggd.metrics.additive import Additive
from cggd.metrics.base import Invalid, Metric, MetricError, SumTable, table_of, values_of
from cggd.metrics.black_box import Function, Predicted, one_hot
from cggd.metrics.compose import Combination, Maximum, maximum
from cggd.metrics.embedded import Embedded
from cggd.metrics.evaluation import Evaluation, Executor, evaluating, without_cache
from cggd.metrics.excess import Excess
from cggd.metrics.interactions import Interactions
from cggd.metrics.longest_path import LongestPath
from cggd.metrics.measurement import Measurement
from cggd.metrics.peak import Peak
from cggd.metrics.state import State
from cggd.metrics.table import Table

__all__ = [
    "Additive",
    "Combination",
    "Embedded",
    "Evaluation",
    "Excess",
    "Executor",
    "Function",
    "Interactions",
    "Invalid",
    "LongestPath",
    "Maximum",
    "Measurement",
    "Metric",
    "MetricError",
    "Peak",
    "Predicted",
    "State",
    "SumTable",
    "Table",
    "evaluating",
    "maximum",
    "one_hot",
    "table_of",
    "values_of",
    "without_cache",
]
