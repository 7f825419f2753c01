"""Subset search by least squares with closed forms: price weights, repair, swaps and forced additions.

For each price weight (*rate*) in a decreasing series, hill-climb R^2 - rate * price, each from the subset before, until
the budgets are exceeded. This gives a subset that swaps do not improve for each of many budgets. Add variables to the
last subset within the budgets, repair the first one beyond, and improve both by additions and swaps that fit. Then
force promising variables in, one at a time, and remove others for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cggd_features.gram import Gram
from cggd_features.least_squares import UPDATES, Fit
from cggd_features.limits import Limits
from cggd_features.refine import EQUAL

# Greedy starts rank variables by gain / price**power.
POWERS = (0.0, 0.5, 1.0)

# The rate falls by this factor. On designs of 2,000 variables 0.7 found no more than 0.5 on average (differences of R^2
# below 0.0005 either way), and took a quarter more time.
FALL = 0.5

# With more columns selected, swaps are not tried on all variables, and variables are added in batches.
MOST_INSIDE = 300
BATCH = 0.25

# Most additions and swaps of one hill climb.
SWITCHES = 2_000

# Variables to try to force in without success before `force` ends, and its total work, in entries of V. On about 140
# designs, 25 variables took 5 % less time and lost R^2 on two, by up to 0.001; half of the work lost it more often.
FORCED = 40
WORK = 600_000
LEAST_WORK = 2_000


@dataclass(frozen=True, eq=False)
class Penalties:
    """Penalty of each variable by an information criterion.

    Attributes
    ----------
    penalties : ndarray of shape (n_variables,)
    logarithmic : bool
        Whether penalties are subtracted from ``-log(1 - R^2)`` instead of R^2.
    """

    penalties: NDArray[np.float64]
    logarithmic: bool = False

    def of(self, fit: Fit, *, out: bool = False) -> NDArray[np.float64]:
        """R^2 that each variable must add to enter a fit, or to stay in it (`out`), shape (n_variables,)."""
        if not self.logarithmic:
            return self.penalties
        return max(1.0 - fit.value, 0.0) * (np.expm1(self.penalties) if out else -np.expm1(-self.penalties))

    def among(self, kept: NDArray[np.int64]) -> Penalties:
        """The penalties of some variables."""
        return Penalties(self.penalties[kept], self.logarithmic)

    def worth(self, fit: Fit) -> float:
        """Penalised quality of a fit."""
        good = -float(np.log(max(1.0 - fit.value, 1e-300))) if self.logarithmic else fit.value
        return good - float(self.penalties[fit.selected].sum())


def along_rates(
    gram: Gram,
    limits: Limits,
    start: NDArray[np.bool_],
    penalties: Penalties,
    *,
    most: float = 1.0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Fit]:
    """Subsets for decreasing rates, in the order of their price; the last exceeds `most` of the budgets."""
    fit = Fit.at(gram, start)
    beyond = limits.scaled(most)
    price = np.maximum(limits.prices(fit.selected), 1e-9)
    worth = np.where(limits.free & ~fit.selected, (fit.gains - penalties.of(fit)) / price, 0.0)
    rate = float(np.max(worth, initial=0.0))
    last = None
    while rate > 0 and not stop():
        fit = climb(Fit.at(gram, fit.selected), limits, penalties, stop, rate=rate)
        if last is None or not np.array_equal(fit.selected, last):
            yield fit
            if not beyond.holds(fit.selected):
                return
        last = fit.selected
        rate *= FALL
        if len(fit.inside) > MOST_INSIDE:
            return
        if not (limits.unbudgeted.additions(fit.selected) & (fit.gains > penalties.of(fit) + EQUAL)).any():
            return


def climb(
    fit: Fit, limits: Limits, penalties: Penalties, stop: Callable[[], bool] = lambda: False, *, rate: float = 0.0
) -> Fit:
    """Hill-climb R^2 less penalties, by additions, removals and swaps within the limits.

    With a rate, hill-climb R^2 - rate * price less penalties, without budgets, also by adding or removing whole groups.
    """
    shares = limits.unbudgeted if rate else limits
    for update in range(1, SWITCHES):
        if stop() or (rate and len(fit.inside) > MOST_INSIDE):
            break
        if update % UPDATES == 0:
            fit = fit.recomputed()
        selected, own = fit.selected, penalties.of(fit)
        price = own + rate * limits.prices(selected) if rate else own
        gain = fit.gains - price
        saved = (price - own + penalties.of(fit, out=True))[selected]
        gain[selected] = saved - fit.losses[selected] if saved.any() else -np.inf
        gain[~shares.switches(selected)] = -np.inf
        if gain.max() > EQUAL:
            fit = fit.switched(int(np.argmax(gain)))
            continue
        out, change = fit.swaps()
        change += price[out][:, None] - price
        change[~shares.swaps(selected, out)] = -np.inf
        if change.size and change.max() > EQUAL:
            i, j = np.unravel_index(np.argmax(change), change.shape)
            swapped = fit.minus(int(out[i])).plus(int(j))
            # The prices of a swap add up only if the two share no group.
            dearer = rate * (limits.spent(swapped.selected) - limits.spent(selected)) if rate else 0.0
            if swapped.value - fit.value > dearer + own[j] - own[out[i]] + EQUAL / 2:
                fit = swapped
                continue
        regrouped = _regrouped(fit, limits, rate, own) if rate else None
        if regrouped is None:
            return fit
        fit = regrouped
    return fit


def _regrouped(fit: Fit, limits: Limits, rate: float, penalties: NDArray[np.float64]) -> Fit | None:
    """A better fit at this rate with a group added or removed; None if there is none."""

    def net(value: float, selected: NDArray[np.bool_]) -> float:
        return value - rate * limits.spent(selected) - float(penalties[selected].sum())

    prices, spent, now = limits.prices(fit.selected), limits.spent(fit.selected), net(fit.value, fit.selected)
    for members, entry in limits.shared:
        selected, inside = fit.selected.copy(), members[fit.selected[members]]
        if len(inside) == 0:
            price = rate * np.maximum(prices[members] - entry, 0.0) + penalties[members]
            if np.maximum(fit.gains[members] - price, 0.0).sum() <= rate * entry:
                continue
            part = fit.remainder(members)
            while True:
                left = np.where(limits.unbudgeted.additions(selected)[members], part.gains, 0.0) - price
                best = int(np.argmax(left))
                if left[best] <= EQUAL:
                    break
                part, selected[members[best]] = part.plus(best), True
            value = fit.value + part.value
        else:
            selected[inside] = False
            saved = rate * (spent - limits.spent(selected)) + float(penalties[inside].sum())
            if limits.must[inside].any() or fit.losses[inside].max() > saved or not limits.unbudgeted.holds(selected):
                continue
            part = fit.light
            for member in inside.tolist():
                part = part.minus(member)
            value = part.value
        if net(value, selected) > now + EQUAL:
            changed = Fit.at(fit.gram, selected)
            if net(changed.value, selected) > now + EQUAL:
                return changed
    return None


def greedy(
    fit: Fit,
    limits: Limits,
    penalties: Penalties,
    stop: Callable[[], bool] = lambda: False,
    *,
    power: float = 0.5,
    most: float = np.inf,
) -> Fit:
    """Add variables of largest gain / price**power that fit; with many columns selected, several at a time.

    It ends if no more variable fits, or if more than `most` columns are selected.
    """
    while not stop() and len(fit.inside) <= most:
        at = np.flatnonzero(limits.additions(fit.selected) & (fit.gains > penalties.of(fit) + EQUAL))
        if len(at) == 0:
            break
        worth = promise(fit, limits, power)[at]
        some = at[np.argsort(-worth, kind="stable")][: max(1, int(BATCH * (len(fit.inside) - MOST_INSIDE)))].tolist()
        selected = fit.selected.copy()
        for variable in some:
            selected[variable] = limits.additions(selected)[variable]
        fit = fit.plus(some[0]) if len(some) == 1 else Fit.at(fit.gram, selected)
    return fit


def repaired(fit: Fit, limits: Limits, keep: int | None = None) -> Fit | None:
    """Remove the variables of least loss per cost saved until the limits hold; None if that is impossible."""
    fit = fit.light
    while True:
        excess, without = limits.excess(fit.selected)
        if excess == 0:
            return fit
        saved = excess - without
        if keep is not None:
            saved[keep] = 0.0
        if saved.max() <= 0:
            return None
        worth = np.full(len(saved), np.inf)
        np.divide(fit.losses, saved, out=worth, where=saved > 0)
        fit = fit.minus(int(np.argmin(worth)))


def force(fit: Fit, limits: Limits, penalties: Penalties, stop: Callable[[], bool] = lambda: False) -> Fit:
    """Force in the variables of best gain for price and remove others for them, as long as that helps."""
    left = WORK
    while True:
        gain = promise(fit, limits)
        gain[fit.selected | ~limits.free] = 0.0
        for variable in np.argsort(-gain, kind="stable")[:FORCED].tolist():
            left -= max(len(fit.inside) * len(fit.gram.matrix), LEAST_WORK)
            if stop() or left < 0 or gain[variable] <= 0:
                return fit
            candidate = repaired(fit.light.plus(variable), limits, variable)
            if candidate is None:
                continue
            candidate = climb(candidate, limits, penalties, stop)
            if penalties.worth(candidate) > penalties.worth(fit) + EQUAL:
                fit = Fit.at(fit.gram, candidate.selected)
                break
        else:
            return fit


def search(
    gram: Gram,
    limits: Limits,
    start: NDArray[np.bool_],
    path: Sequence[Fit],
    penalties: Penalties,
    stop: Callable[[], bool] = lambda: False,
    *,
    seeds: Sequence[Fit] = (),
) -> Fit:
    """The best subset found within the limits.

    Parameters
    ----------
    gram : Gram
    limits : Limits
    start : bool array of shape (n_variables,)
        A selection within the limits.
    path : list of Fit
        Subsets in the order of their price, as `along_rates` yields them.
    penalties : Penalties
    stop : callable
    seeds : list of Fit
        Further subsets within the limits; greedy ones by default.
    """
    first = Fit.at(gram, start)
    climbed = [climb(fit, limits, penalties, stop) for fit in ends(path, limits)]
    greedily = (greedy(first, limits, penalties, stop, power=power, most=MOST_INSIDE) for power in POWERS)
    seeds = seeds or list(greedily)
    best = max([first, *climbed, *seeds], key=penalties.worth)
    return force(climb(Fit.at(gram, best.selected), limits, penalties, stop), limits, penalties, stop)


def ends(path: Sequence[Fit], limits: Limits) -> list[Fit]:
    """The last subset of a path within the limits, and the first one beyond, repaired."""
    within: list[Fit] = []
    beyond: list[Fit] = []
    for fit in path:
        (within if limits.holds(fit.selected) else beyond).append(fit)
    found = [*within[-1:], *(repaired(fit, limits) for fit in beyond[:1])]
    return [fit for fit in found if fit is not None]


def promise(fit: Fit, limits: Limits, power: float = 0.5) -> NDArray[np.float64]:
    """Gain of each variable / price**power; the root of the price is a compromise of gain and gain per price."""
    return fit.gains / np.maximum(limits.prices(fit.selected), 1e-9) ** power if power else fit.gains.copy()
