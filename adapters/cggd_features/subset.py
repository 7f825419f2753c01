"""Subset search by least squares, on closed forms: paid for at a falling rate, repaired, swapped and forced.

R^2 less a *rate* times the price is climbed at rates that fall until the budgets are exceeded, each from where the last
one ended: the subsets met are best for what they cost (up to swaps), for budgets all along the way. The last one within
the budgets is filled, the first one beyond is repaired, and both are improved by additions and swaps that fit. Then
variables that look promising are forced in, one at a time, at the expense of others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cggd_features.gram import Gram
from cggd_features.least_squares import UPDATES, Fit
from cggd_features.limits import Limits

# Powers of the price by which gains are divided in greedy starts.
POWERS = (0.0, 0.5, 1.0)

# The rate falls by this factor. On designs of 2,000 variables 0.7 found no more than 0.5 on average (differences of R^2
# below 0.0005 either way), and took a quarter more time.
FALL = 0.5

# A change of R^2 below this is rounding.
EQUAL = 1e-10

# With more columns inside, swaps are no longer tried on all variables, and what fits is added many at a time.
MOST_INSIDE = 300
BATCH = 0.25

# Additions and swaps in a row at the most.
SWITCHES = 2_000

# Variables that are forced in before a subset counts as good, and the work, in entries of U, that all of it may take.
FORCED = 40
WORK = 600_000
LEAST_WORK = 2_000


@dataclass(frozen=True, eq=False)
class Penalties:
    """What a variable must add to be worth having, by an information criterion; nothing by default.

    Attributes
    ----------
    penalties : ndarray of shape (n_variables,)
    logarithmic : bool
        Whether a fit is as good as ``-log(1 - R^2)`` less its penalties, or as R^2 less those.
    """

    penalties: NDArray[np.float64]
    logarithmic: bool = False

    def of(self, fit: Fit, *, out: bool = False) -> NDArray[np.float64]:
        """In units of R^2 at a fit: what each variable must add, or must be worth to stay, shape (n_variables,)."""
        if not self.logarithmic:
            return self.penalties
        return max(1.0 - fit.value, 0.0) * (np.expm1(self.penalties) if out else -np.expm1(-self.penalties))

    def among(self, kept: NDArray[np.int64]) -> Penalties:
        """The penalties of some variables."""
        return Penalties(self.penalties[kept], self.logarithmic)

    def worth(self, fit: Fit) -> float:
        """How good a fit is."""
        good = -float(np.log(max(1.0 - fit.value, 1e-300))) if self.logarithmic else fit.value
        return good - float(self.penalties[fit.selected].sum())

    @property
    def free(self) -> bool:
        """Whether there is none."""
        return not self.penalties.any()


def along_rates(
    gram: Gram,
    limits: Limits,
    start: NDArray[np.bool_],
    penalties: Penalties,
    *,
    most: float = 1.0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Fit]:
    """Subsets that are best at falling rates, in the order of their price; the last exceeds `most` of the budgets."""
    fit = Fit.at(gram, start)
    beyond = limits.scaled(most)
    price = np.maximum(limits.prices(fit.selected), 1e-9)
    worth = np.where(limits.free & ~fit.selected, (fit.gains - penalties.of(fit)) / price, 0.0)
    rate = float(np.max(worth, initial=0.0))
    last = None
    while rate > 0 and not stop():
        fit = paid(Fit.at(gram, fit.selected), limits, rate, penalties, stop)
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


def paid(fit: Fit, limits: Limits, rate: float, penalties: Penalties, stop: Callable[[], bool] = lambda: False) -> Fit:
    """Climb R^2 less a rate times the price, whatever the budgets: additions, removals, swaps and whole groups."""
    shares = limits.unbudgeted
    while not stop() and len(fit.inside) <= MOST_INSIDE:
        selected = fit.selected
        own = penalties.of(fit)
        price = rate * limits.prices(selected) + own
        add = np.where(shares.additions(selected), fit.gains - price, -np.inf)
        saved = price - own + penalties.of(fit, out=True)
        drop = np.where(shares.removals(selected), saved - fit.losses, -np.inf)
        if max(add.max(), drop.max()) > EQUAL:
            better = add if add.max() >= drop.max() else drop
            fit = switched(fit, int(np.argmax(better)))
            continue
        out, change = fit.swaps()
        change += price[out][:, None] - price
        change[~shares.swaps(selected, out)] = -np.inf
        if change.size and change.max() > EQUAL:
            i, j = np.unravel_index(np.argmax(change), change.shape)
            swapped = fit.minus(int(out[i])).plus(int(j))
            # Prices of a pair add up only where no group shares them.
            dearer = rate * (limits.spent(swapped.selected) - limits.spent(selected)) + own[j] - own[out[i]]
            if swapped.value - fit.value > dearer + EQUAL / 2:
                fit = swapped
                continue
        regrouped = _regrouped(fit, limits, rate, own)
        if regrouped is None:
            return fit
        fit = regrouped
    return fit


def _regrouped(fit: Fit, limits: Limits, rate: float, penalties: NDArray[np.float64]) -> Fit | None:
    """A fit with a group opened, or one closed, that is better at a rate; None where there is none."""

    def net(changed: Fit) -> float:
        return changed.value - rate * limits.spent(changed.selected) - float(penalties[changed.selected].sum())

    prices, spent = limits.prices(fit.selected), limits.spent(fit.selected)
    for members, entry in limits.shared:
        inside = members[fit.selected[members]]
        if len(inside) == 0:
            price = rate * np.maximum(prices[members] - entry, 0.0) + penalties[members]
            worth = fit.gains[members] - price
            if np.maximum(worth, 0.0).sum() <= rate * entry:
                continue
            changed = fit
            while True:
                left = np.where(limits.unbudgeted.additions(changed.selected), changed.gains, 0.0)[members] - price
                if left.max() <= EQUAL:
                    break
                changed = changed.plus(int(members[np.argmax(left)]))
        else:
            if limits.must[inside].any() or fit.losses[inside].max() > rate * spent:
                continue
            changed = fit
            for member in inside.tolist():
                changed = changed.minus(member)
            if not limits.unbudgeted.holds(changed.selected):
                continue
        if net(changed) > net(fit) + EQUAL:
            return changed
    return None


def greedy(
    fit: Fit, limits: Limits, power: float, penalties: Penalties, stop: Callable[[], bool] = lambda: False
) -> Fit:
    """Add the variable of greatest gain per power of its price that fits, until none does, or many are inside."""
    while not stop() and len(fit.inside) <= MOST_INSIDE:
        fits = limits.additions(fit.selected) & (fit.gains > penalties.of(fit) + EQUAL)
        if not fits.any():
            break
        price = np.maximum(limits.prices(fit.selected), 1e-9) ** power if power else 1.0
        fit = fit.plus(int(np.argmax(np.where(fits, fit.gains / price, -np.inf))))
    return fit


def filled(fit: Fit, limits: Limits, penalties: Penalties, stop: Callable[[], bool] = lambda: False) -> Fit:
    """Add what fits, most gain for its price first; where many columns are inside, many before gains are looked at."""
    while not stop():
        fits = limits.additions(fit.selected) & (fit.gains > penalties.of(fit) + EQUAL)
        if not fits.any():
            break
        worth = promise(fit, limits)
        at = np.flatnonzero(fits)
        some = at[np.argsort(-worth[at], kind="stable")][: max(1, int(BATCH * (len(fit.inside) - MOST_INSIDE)))]
        selected = fit.selected.copy()
        for variable in some.tolist():
            selected[variable] = limits.additions(selected)[variable]
        fit = fit.plus(int(some[0])) if len(some) == 1 else Fit.at(fit.gram, selected)
    return fit


def climb(fit: Fit, limits: Limits, penalties: Penalties, stop: Callable[[], bool] = lambda: False) -> Fit:
    """Add what fits, leave out what is not worth its penalties, and swap what is better, until none helps."""
    for update in range(1, SWITCHES):
        if stop():
            break
        if update % UPDATES == 0:
            fit = Fit.at(fit.gram, fit.selected)
        selected, own = fit.selected, penalties.of(fit)
        add = np.where(limits.additions(selected), fit.gains - own, -np.inf)
        saved = penalties.of(fit, out=True)
        drop = np.where(limits.removals(selected), saved - fit.losses, -np.inf) if not penalties.free else add
        if max(add.max(), drop.max()) > EQUAL:
            fit = switched(fit, int(np.argmax(add if add.max() >= drop.max() else drop)))
            continue
        out, change = fit.swaps()
        change += own[out][:, None] - own
        change[~limits.swaps(selected, out)] = -np.inf
        if change.size == 0 or change.max() <= EQUAL:
            break
        i, j = np.unravel_index(np.argmax(change), change.shape)
        fit = fit.minus(int(out[i])).plus(int(j))
    return fit


def repaired(fit: Fit, limits: Limits, keep: int | None = None) -> Fit | None:
    """Leave out what is worth least for what it saves until all fits; None where that cannot be."""
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
    """Put in the variables of greatest gain for their price at the expense of others, for as long as that helps."""
    left = WORK
    while True:
        gain = promise(fit, limits)
        gain[fit.selected | ~limits.free] = 0.0
        for variable in np.argsort(-gain, kind="stable")[:FORCED].tolist():
            left -= max(fit.rows.size, LEAST_WORK)
            if stop() or left < 0 or gain[variable] <= 0:
                return fit
            candidate = repaired(fit.plus(variable), limits, variable)
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
    met: Sequence[Fit],
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
        A selection that satisfies them.
    met : list of Fit
        Subsets best at some rates, in the order of their price, as `along_rates` gives them.
    penalties : Penalties
    stop : callable
    seeds : list of Fit
        Further subsets within the limits; greedy ones by default.
    """
    first = Fit.at(gram, start)
    within = [fit for fit in met if limits.holds(fit.selected)]
    beyond = [fit for fit in met if not limits.holds(fit.selected)]
    ends = [first, *within[-1:], *(repaired(fit, limits) for fit in beyond[:1])]
    climbed = [climb(fit, limits, penalties, stop) for fit in ends[1:] if fit is not None]
    seeds = seeds or [greedy(first, limits, power, penalties, stop) for power in POWERS]
    best = max([first, *climbed, *seeds], key=penalties.worth)
    return force(climb(Fit.at(gram, best.selected), limits, penalties, stop), limits, penalties, stop)


def promise(fit: Fit, limits: Limits) -> NDArray[np.float64]:
    """What each variable would gain for the root of its price: between the best ones and the best for their price."""
    return fit.gains / np.sqrt(np.maximum(limits.prices(fit.selected), 1e-9))


def switched(fit: Fit, variable: int) -> Fit:
    """The fit with a variable put in, or left out."""
    return fit.minus(variable) if fit.selected[variable] else fit.plus(variable)
