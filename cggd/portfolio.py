"""The portfolio: the default improvers of a search, and their order."""

from __future__ import annotations

from dataclasses import replace

from cggd.improve.cores import Cores
from cggd.improve.descent import Descent
from cggd.improve.enumerate import Enumerate
from cggd.improve.exact import Exact
from cggd.improve.knapsacks import Knapsacks
from cggd.improve.model import Model
from cggd.improve.multipliers import Multipliers
from cggd.improve.presolve import Presolve
from cggd.improve.switches import Switches
from cggd.incumbent import Improver

# Spaces of at most this many selections are enumerated before anything else is tried.
FEW_SELECTIONS = 20_000

# Share of the time left that branch and bound on the whole problem may use before the others.
EXACT_SHARE = 0.3

# Share of the time left that descents may use; the improvers after them get the rest.
DESCENT_SHARE = 0.8

# Where a start has no time for this many steps, as with black boxes of many options, local search uses the time better.
FEWEST_STEPS = 100

# Black boxes are enumerated up to this many selections: a single step of a descent takes one call for each option.
FEW_BLACK_BOXES = 1000

# With a limit of at most this many evaluations, each selection for black boxes is chosen by a model, which takes
# 10 to 150 ms.
FEW_EVALUATIONS = 1000

# A search for a feasible selection enumerates black boxes up to this many selections. A search by replacement tables
# would need more calls.
FEW_CALLS = 4096


def portfolio(
    descent: Descent | None = None, *, few_calls: int = FEW_BLACK_BOXES, costly: bool = False, complete: bool = False
) -> list[Improver]:
    """The improvers of `cggd.minimize`, in order; each is skipped if it does not suit the problem.

    Parameters
    ----------
    descent : Descent, optional
        A descent with your own parameters, in place of the default one.
    few_calls : int
        Spaces of at most this many selections are enumerated even if metrics are black boxes.
    costly : bool
        Whether some metric is costly. Then only `Model` asks for evaluations, one selection at a time.
    complete : bool
        Parameter of `Model`.

    Examples
    --------
    >>> [type(improver).__name__ for improver in portfolio()]  # doctest: +NORMALIZE_WHITESPACE
    ['Presolve', 'Enumerate', 'Multipliers', 'Exact', 'Knapsacks', 'Enumerate', 'Descent', 'Switches', 'Descent',
    'Cores', 'Switches']
    """
    if costly:
        return [Presolve(), Model(complete=complete)]
    descent = descent or Descent()
    fewest = max(descent.fewest_steps, FEWEST_STEPS)
    descent = replace(descent, share=min(descent.share, DESCENT_SHARE), fewest_steps=fewest)
    return [
        Presolve(),  # constraints that no selection satisfies
        Enumerate(FEW_SELECTIONS, few_calls),  # milliseconds, and a proof
        Multipliers(),  # a bound, reduced costs and a selection, in linear time
        Exact(share=EXACT_SHARE, beside=Switches()),  # branch and bound solves many problems; local search in parallel
        Knapsacks(),  # a better relaxation of assignment problems
        Enumerate(),  # larger spaces, about a second at most
        replace(descent, last=1),  # needs nothing but evaluations
        Switches(feasible=True),  # only if no feasible selection is known yet
        replace(descent, first=1),  # the remaining starts, which mix both kinds of start
        Cores(beside=Switches()),  # exact subproblems up to a proof, with local search in parallel
        Switches(),  # local search in the remaining time
    ]


def feasibility_portfolio(*, costly: bool = False) -> list[Improver]:
    """The improvers of `cggd.find_feasible`: a first selection that satisfies all constraints, or a proof."""
    if costly:
        return portfolio(costly=True)
    return [
        Presolve(),
        Enumerate(most_calls=FEW_CALLS),
        Multipliers(),
        Exact(),
        Switches(feasible=True),
    ]
