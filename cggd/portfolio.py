"""The portfolio: which improvers a search uses by default, and why."""

from __future__ import annotations

from dataclasses import replace

from cggd.improve.cores import Cores
from cggd.improve.descent import Descent
from cggd.improve.enumerate import Enumerate
from cggd.improve.exact import Exact
from cggd.improve.multipliers import Multipliers
from cggd.improve.presolve import Presolve
from cggd.improve.switches import Switches
from cggd.incumbent import Improver

# Spaces of at most this many selections are enumerated before anything else is tried.
FEW_SELECTIONS = 20_000

# Share of the time left for descents; local search gets the rest.
DESCENT_SHARE = 0.8

# Black boxes are called on all selections to settle whether one is feasible, up to this many: fewer calls than a search
# by replacement tables makes.
FEW_CALLS = 4096


def portfolio(descent: Descent | None = None, *, few_calls: int = 0) -> list[Improver]:
    """The improvers of `cggd.minimize`, in their order; each leaves out the problems that do not suit it.

    Parameters
    ----------
    descent : Descent, optional
        The descent with other parameters than the default ones.
    few_calls : int
        Black boxes are called on all selections of spaces that have at most this many.

    Examples
    --------
    >>> [type(improver).__name__ for improver in portfolio()]  # doctest: +NORMALIZE_WHITESPACE
    ['Presolve', 'Enumerate', 'Multipliers', 'Exact', 'Enumerate', 'Descent', 'Switches', 'Descent', 'Cores',
    'Switches']
    """
    descent = descent or Descent()
    descent = replace(descent, share=min(descent.share, DESCENT_SHARE))
    return [
        Presolve(),  # bounds that no selection satisfies: at once
        Enumerate(FEW_SELECTIONS, few_calls),  # milliseconds, and a proof
        Multipliers(),  # a bound, reduced costs and a selection, in linear time
        Exact(),  # what branch and bound solves in a short time needs nothing else
        Enumerate(),  # at most a second or so
        replace(descent, last=1),  # the method for everything that can be evaluated
        Switches(feasible=True),  # only where nothing feasible is known yet
        replace(descent, first=1),  # other starts, with the other rule
        Cores(beside=Switches()),  # exact solutions near the bound, up to a proof, beside local search
        Switches(),  # local search, with what time is left
    ]


def feasibility_portfolio() -> list[Improver]:
    """The improvers of `cggd.find_feasible`: a first selection that satisfies all constraints, or a proof."""
    return [
        Presolve(),
        Enumerate(most_calls=FEW_CALLS),
        Multipliers(),
        Exact(share=1.0),
        Switches(feasible=True),
    ]
