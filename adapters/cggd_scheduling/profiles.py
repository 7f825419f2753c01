"""Resource profiles: use of renewable resources over time, and the earliest time at which a task fits.

Profiles are immutable: `placed` returns a new one. Times are whole numbers. There are two implementations with the same
results: `Packed` is one Python integer for all of time, and is faster; `Steps` is a list of changes, and allows
durations of any size.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any, Protocol

# Integers of more bits than this are slower than a list of a few hundred changes.
PACKED_BITS = 1 << 16


class Profiles(Protocol):
    """Operations on profiles of fixed capacities. The types of profiles and needs depend on the implementation."""

    empty: Any

    def need(self, duration: int, demands: Sequence[int]) -> Any:
        """Prepare duration and demands of a task; demands are in the order of the capacities and do not exceed them."""
        ...

    def earliest(self, profile: Any, need: Any, time: int) -> int:
        """Earliest start from `time` on at which a task fits for its whole duration."""
        ...

    def placed(self, profile: Any, need: Any, time: int) -> Any:
        """The profile with a task added at a time."""
        ...


def profiles_for(capacities: Sequence[int], horizon: int) -> Profiles:
    """The faster implementation: `Packed` if its integers are short enough, otherwise `Steps`.

    Parameters
    ----------
    capacities : list of int
    horizon : int
        Latest end of all tasks.
    """
    packed = Packed(capacities, 0)
    return Packed(capacities, horizon) if packed.width * horizon <= PACKED_BITS else Steps(capacities)


class Packed:
    """Profiles as integers: a field of bits per unit of time, with a subfield and a guard bit per resource.

    A number is added to every subfield that makes it overflow into its guard bit if the task does not fit. So one
    addition tests all times and all resources. Shifts by doubling distances then find the starts that are free for the
    whole duration.

    Examples
    --------
    >>> profiles = Packed([2], horizon=10)
    >>> long, wide = profiles.need(3, [1]), profiles.need(2, [2])
    >>> profile = profiles.placed(profiles.empty, long, 1)
    >>> profiles.earliest(profile, long, 0), profiles.earliest(profile, wide, 0)
    (0, 4)
    """

    def __init__(self, capacities: Sequence[int], horizon: int) -> None:
        self.empty = 0
        self.capacities = list(capacities)
        self.widths = [c.bit_length() for c in self.capacities]
        self.offsets = [sum(self.widths[:k]) + k for k in range(len(self.widths))]
        self.width = sum(self.widths) + len(self.widths)
        # A one in each field: 1 + 2**width + 2**(2 width) + ...
        self.ones = self._repeated(horizon)
        guards = [offset + bits for offset, bits in zip(self.offsets, self.widths, strict=True)]
        self.guards = sum(self.ones << g for g in guards)
        self.first = self.ones << guards[0] if guards else 0
        self.folds = [g - guards[0] for g in guards[1:]]

    def _repeated(self, times: int) -> int:
        return ((1 << (self.width * times)) - 1) // ((1 << self.width) - 1) if self.width else 0

    def need(self, duration: int, demands: Sequence[int]) -> tuple[int, int, int]:
        amount = sum(d << offset for d, offset in zip(demands, self.offsets, strict=True))
        if not amount or not duration:
            return duration, 0, 0
        missing = sum(
            ((1 << bits) - 1 - c + d) << offset
            for bits, c, d, offset in zip(self.widths, self.capacities, demands, self.offsets, strict=True)
        )
        return duration, missing * self.ones, amount * self._repeated(duration)

    def earliest(self, profile: int, need: tuple[int, int, int], time: int) -> int:
        duration, missing, pattern = need
        if not pattern:
            return time
        width = self.width
        over = ((profile >> (time * width)) + missing) & self.guards
        if not over:
            return time
        taken = over
        for fold in self.folds:
            taken |= over >> fold
        taken &= self.first
        # Afterwards, a field says whether any of the `duration` fields from there on is taken.
        reach = 1
        while 2 * reach <= duration:
            taken |= taken >> (reach * width)
            reach *= 2
        if reach < duration:
            taken |= taken >> ((duration - reach) * width)
        free = ~taken & self.first
        return time + ((free & -free).bit_length() - 1) // width

    def placed(self, profile: int, need: tuple[int, int, int], time: int) -> int:
        return profile + (need[2] << (time * self.width))


class Steps:
    """Profiles as two lists: times at which the used amounts change, and the amounts from then on.

    Examples
    --------
    >>> profiles = Steps([2])
    >>> long, wide = profiles.need(3 * 10**18, [1]), profiles.need(2, [2])
    >>> profile = profiles.placed(profiles.empty, long, 1)
    >>> profiles.earliest(profile, wide, 0)
    3000000000000000001
    """

    def __init__(self, capacities: Sequence[int]) -> None:
        self.capacities = list(capacities)
        self.empty: tuple[list[int], list[tuple[int, ...]]] = ([0], [(0,) * len(self.capacities)])

    def need(self, duration: int, demands: Sequence[int]) -> tuple[int, tuple[int, ...]]:
        return duration, tuple(demands)

    def earliest(self, profile: Any, need: tuple[int, tuple[int, ...]], time: int) -> int:
        (times, amounts), (duration, demands) = profile, need
        if not duration or not any(demands):
            return time
        room = [c - d for c, d in zip(self.capacities, demands, strict=True)]
        at = bisect_right(times, time) - 1
        while at < len(times) and times[at] < time + duration:
            if any(a > r for a, r in zip(amounts[at], room, strict=True)):
                time = times[at + 1]  # exists, since nothing is used after the last time
            at += 1
        return time

    def placed(self, profile: Any, need: tuple[int, tuple[int, ...]], time: int) -> Any:
        (times, amounts), (duration, demands) = profile, need
        if not duration or not any(demands):
            return profile
        times, amounts = list(times), list(amounts)
        first, last = (self._cut(times, amounts, t) for t in (time, time + duration))
        for at in range(first, last):
            amounts[at] = tuple(a + d for a, d in zip(amounts[at], demands, strict=True))
        return times, amounts

    @staticmethod
    def _cut(times: list[int], amounts: list[tuple[int, ...]], time: int) -> int:
        at = bisect_left(times, time)
        if at == len(times) or times[at] != time:
            times.insert(at, time)
            amounts.insert(at, amounts[at - 1])
        return at
