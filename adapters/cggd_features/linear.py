"""The gram engine for least squares: subset search, the core's search on the best candidates, and a proof."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd import Branches, Status, maximize
from cggd.budget import Budget
from cggd_features.engine_result import EngineResult
from cggd_features.gram import Gram
from cggd_features.least_squares import Fit, LeastSquares, switched
from cggd_features.limits import Limits
from cggd_features.refine import refined
from cggd_features.subset import EQUAL, MOST_INSIDE, POWERS, Penalties, along_rates, greedy, promise, search

# Up to this many columns, branch and bound looks for a proof, and each budget of the path is searched separately.
PROVABLE = 40
PATH_NODES = 100

# Nodes of branch and bound: about a second for 40 variables.
NODES = 1_000

# Up to this many columns, the fit on all of them gives a bound; it takes a twentieth of a second.
BOUNDED = 1_000

# With more variables than this, only the most promising ones are searched, after all took part in `along_rates`.
PROMISING = 400

# The core's search gets the selected variables and this many of the most promising others. Each of its steps is a
# replacement table, so it takes fewer steps with many columns, and is skipped if many are selected. On designs of 2,000
# variables its descent found nothing better than swaps did, but its pairs of switches did in 2 of 8 cases.
CANDIDATES = 60
STEPS = 60
MOST_REFINED = 150
PATIENCE = 60


def solve(
    gram: Gram,
    limits: Limits,
    start: NDArray[np.bool_],
    *,
    shares: Sequence[float] = (),
    seed: int = 0,
    clock: Budget | None = None,
    penalty: float = 0.0,
    prove: bool = True,
) -> EngineResult:
    """The best subset within the limits by R^2 on the training data.

    Parameters
    ----------
    gram : Gram
    limits : Limits
    start : bool array of shape (n_variables,)
        A selection within the limits.
    shares : list of float
        Further shares of the budgets to search.
    seed : int
    clock : Budget
    penalty : float
        Penalty of an information criterion: ``log(1 - R^2) + penalty * columns`` is minimised, and nothing is proved.
    prove : bool
        Compute a bound, and use branch and bound if there are few columns.

    Notes
    -----
    There is no proof and no bound if rounding hides whether a column adds anything to others (`Gram.measured`).
    """
    clock = Budget() if clock is None else clock
    sizes = np.array([len(c) for c in gram.columns])
    penalties = Penalties(sizes * penalty, logarithmic=penalty > 0)
    few = len(gram.matrix) <= PROVABLE
    provable = few and prove and penalty == 0
    path = list(along_rates(gram, limits, start, penalties, most=max([1.0, *shares]), stop=clock.part(share=0.4).over))
    everything = start | limits.free
    if penalty == 0 and limits.holds(everything):
        return _all(gram, limits, everything, path, clock, prove)
    # With shared prices, greedy subsets may need variables that `along_rates` does not find promising.
    powers = POWERS if limits.shared else ()
    first, stop = Fit.at(gram, start), clock.part(share=0.2).over
    seeds = [greedy(first, limits, penalties, stop, power=power, most=MOST_INSIDE) for power in powers]
    kept = _promising(limits, start, [*path, *seeds])
    small, narrow = (gram, limits) if len(kept) == len(start) else (gram.among(kept), limits.among(kept))
    near, begin, own = [Fit.at(small, fit.selected[kept]) for fit in path], start[kept], penalties.among(kept)
    seeds = [Fit.at(small, fit.selected[kept]) for fit in seeds]
    fit = search(small, narrow, begin, near, own, clock.part(share=0.6).over, seeds=seeds)
    fit = max([fit, *(fit for fit in near if narrow.holds(fit.selected))], key=own.worth)
    proof = proved(small, narrow, fit.selected, clock.part(share=0.5)) if provable else None
    selected = fit.selected
    if penalty == 0 and not (proof and proof.optimal):
        selected = _searched(fit, narrow, seed, clock.part(share=0.7), STEPS if few else 1)
    selected, bound, status = _whole(selected, kept, start), None, Status.FEASIBLE
    if proof:
        proof = proof if proof.optimal else proved(gram, limits, selected, clock)
        selected, bound = proof.selected, proof.bound
        status = Status.OPTIMAL if proof.optimal else status
    else:
        selected = greedy(Fit.at(gram, selected), limits, penalties, clock.over).selected
        if prove and len(gram.matrix) <= BOUNDED:
            most, sure = gram.measured(limits.affordable)
            bound = most if sure else None
    selected = thrifty(Fit.at(gram, selected), limits, clock.over).selected
    subsets = [fit.selected for fit in near]
    for share in shares:
        scaled = narrow.scaled(share)
        if share != 1 and scaled.holds(begin) and not clock.over():
            found = search(small, scaled, begin, near, own, clock.over).selected
            if status is Status.OPTIMAL and few:
                found = proved(small, scaled, found, clock, PATH_NODES).selected
            subsets.append(thrifty(Fit.at(small, found), scaled, clock.over).selected)
    wholes = [_whole(s, kept, start) for s in subsets]
    held = [s for s in (selected, *wholes, start) if limits.holds(s)]
    selected = max(held, key=lambda s: penalties.worth(Fit.at(gram, s)))
    score = gram.score(gram.explained(selected))
    if bound is not None:
        status = Status.OPTIMAL if penalty == 0 and bound <= gram.explained(selected) + EQUAL else status
        bound = score if status is Status.OPTIMAL else max(gram.score(bound), score)
    return EngineResult(selected, score, status, bound, [(s, gram.score(gram.explained(s))) for s in wholes])


@dataclass(frozen=True, eq=False)
class Proof:
    """The best subset by branch and bound, and an upper bound for all subsets within the limits; None if not sure."""

    selected: NDArray[np.bool_]
    value: float
    bound: float | None

    @property
    def optimal(self) -> bool:
        """Whether the subset is proved optimal."""
        return self.bound is not None and self.bound <= self.value + EQUAL


def proved(gram: Gram, limits: Limits, best: NDArray[np.bool_], clock: Budget, nodes: int = NODES) -> Proof:
    """Branch and bound from a subset within the limits.

    There is no bound if rounding hides whether some column adds anything to others.
    """
    how: dict[str, Any] = {"initial": best.astype(np.int64), "forbid": limits.forbidden}
    how["time_limit"] = max(clock.left, 1e-3) if clock.limited else None
    branches = Branches(nodes, tolerance=EQUAL, share=1.0)
    result = maximize(LeastSquares(limits.space, gram), limits.constraints, improvers=[branches], **how)
    selected = best if result.indices is None else result.indices.astype(bool)
    value, sure = gram.measured(selected)
    sure &= gram.measured(limits.affordable)[1]
    return Proof(selected, value, max(value, result.bound) if sure and result.bound is not None else None)


def _all(
    gram: Gram, limits: Limits, everything: NDArray[np.bool_], path: Sequence[Fit], clock: Budget, prove: bool
) -> EngineResult:
    """The result if all variables together are within the limits."""
    fit = Fit.at(gram, everything)
    selected = thrifty(fit, limits, clock.over).selected
    score = gram.score(gram.explained(selected))
    status, bound = (Status.OPTIMAL, score) if fit.sure and prove else (Status.FEASIBLE, None)
    return EngineResult(selected, score, status, bound, [(fit.selected, gram.score(fit.value)) for fit in path])


def _promising(limits: Limits, start: NDArray[np.bool_], path: Sequence[Fit]) -> NDArray[np.int64]:
    """Variables that some visited subset has, or that add most for their price to one, or that must be in."""
    worth = np.zeros(len(start))
    for fit in path:
        gains = promise(fit, limits)
        worth = np.maximum(worth, np.where(fit.selected, np.inf, gains / max(gains.max(), 1e-300)))
    worth[start | limits.must] = np.inf
    kept = max(PROMISING, int(np.isinf(worth).sum()))
    return np.sort(np.argsort(-worth, kind="stable")[:kept])


def _whole(selected: NDArray[np.bool_], kept: NDArray[np.int64], like: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Extend a selection of the kept variables to all variables."""
    whole = np.zeros_like(like)
    whole[kept] = selected
    return whole


def _searched(fit: Fit, limits: Limits, seed: int, clock: Budget, steps: int) -> NDArray[np.bool_]:
    """Improve a subset by the core's search: guided descent, then switches of one or two variables."""
    worth = promise(fit, limits)
    worth[~limits.free] = 0.0
    candidates = np.argsort(-worth, kind="stable")[:CANDIDATES]
    inside = fit.selected.copy()
    inside[candidates[worth[candidates] > 0]] = True
    if not (limits.free & inside).any() or len(fit.inside) > MOST_REFINED:
        return fit.selected
    kept = np.flatnonzero(inside)
    gram, few = (fit.gram, limits) if inside.all() else (fit.gram.among(kept), limits.among(kept))
    metric, how = LeastSquares(few.space, gram), {"steps": steps, "seed": seed, "clock": clock, "patience": PATIENCE}
    return _whole(refined(metric, few, fit.selected[kept], **how), kept, fit.selected)


def no_penalties(limits: Limits) -> Penalties:
    """Penalties of 0."""
    return Penalties(np.zeros(limits.space.n_decisions))


def thrifty(fit: Fit, limits: Limits, stop: Callable[[], bool] = lambda: False) -> Fit:
    """Switch to a subset that explains the same: the cheapest, then the smallest, then that of lowest numbers."""
    while not stop():
        selected, saved = fit.selected, limits.prices(fit.selected)
        useless = selected & limits.switches(selected) & (fit.losses <= EQUAL) & (saved >= 0)
        if useless.any():
            at = np.flatnonzero(useless)
            fit = fit.recomputed(int(at[np.lexsort((-at, -saved[at]))[0]]))
            continue
        out, change = fit.swaps()
        same = limits.swaps(selected, out) & (np.abs(change) <= EQUAL)
        best: tuple[float, int, int] | None = None
        for i, j in np.argwhere(same).tolist():
            swapped = switched(selected, int(out[i]), j)
            cheaper = limits.spent(swapped) - limits.spent(selected)
            if cheaper < -1e-12 or (cheaper <= 1e-12 and j < out[i]):
                best = min(best or (np.inf, 0, 0), (cheaper, int(j), int(out[i])))
        if best is None:
            return fit
        fit = fit.recomputed(*best[1:])
    return fit
