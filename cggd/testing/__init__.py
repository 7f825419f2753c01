"""Property tests for metrics, constraints and guides; needs ``cggd[test]``.

One line tests a constraint of your own::

    from cggd.testing import check_constraints

    def test_my_constraint():
        check_constraints(power <= 24.0, latency <= 5.0)

It checks the laws of metrics (the replacement table equals evaluations, the same selection has the same value, the
argument is not changed, ...) and of directions. It also checks that a guided descent reaches a feasible selection
within the number of steps that docs/convergence.md proves, for adversarial gradients.
"""

from cggd.testing.convergence import GRADIENTS, OPTIMIZERS, Trace, assert_converges, check_constraints
from cggd.testing.improvers import check_improver
from cggd.testing.laws import (
    LawError,
    check_direction,
    check_expression,
    check_guide,
    check_metric,
    check_state,
    slow_direction,
)
from cggd.testing.strategies import choice_spaces, constraints, metrics, problems, selections, witnessed_problems

__all__ = [
    "GRADIENTS",
    "OPTIMIZERS",
    "LawError",
    "Trace",
    "assert_converges",
    "check_constraints",
    "check_direction",
    "check_expression",
    "check_guide",
    "check_improver",
    "check_metric",
    "check_state",
    "choice_spaces",
    "constraints",
    "metrics",
    "problems",
    "selections",
    "slow_direction",
    "witnessed_problems",
]
