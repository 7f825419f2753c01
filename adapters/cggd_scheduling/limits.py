"""When a limit is exceeded: the only definition for capacities, budgets, memory and times.

Sums of whole numbers of any size are compared exactly. Other sums may exceed the limit by the rounding error of a sum
of floats: 0.1 + 0.2 does not exceed 0.3. A single number in a list is compared exactly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from cggd.rounding import READ, UNIT, sum_rounding


def time_rounding(time: Any, terms: int) -> Any:
    """Bound on the rounding error of a time that is the sum of so many durations.

    Each duration and each partial sum is rounded (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section
    4.2).
    """
    return UNIT * (terms + READ) * time


def is_whole(number: Any) -> bool:
    """Whether a number is whole, of any size."""
    return isinstance(number, Integral) or float(number).is_integer()


def exceeds(amount: Any, limit: Any) -> bool:
    """Whether an amount is above a limit.

    Parameters
    ----------
    amount : number, or iterable of numbers
        The terms of the sum; a single number not in a list counts as a sum of two.
    limit : number

    Examples
    --------
    >>> exceeds([0.1, 0.2], 0.3), exceeds(0.1 + 0.2, 0.3), exceeds([0.1, 0.2], 0.2999999)
    (False, False, True)
    >>> exceeds([2**34, 1], 2**34), exceeds([0.3000000001], 0.3)
    (True, True)
    """
    if not math.isfinite(limit):
        return limit < 0
    amounts: list[Any] = [amount] if isinstance(amount, Real) else list(amount)
    if all(map(is_whole, amounts)):
        return sum(map(int, amounts)) > limit  # integers are compared with floats exactly
    terms = 2 if isinstance(amount, Real) else len(amounts)
    rounding = sum_rounding(math.fsum(map(abs, amounts)), terms) if terms > 1 else 0.0
    return math.fsum(amounts) - limit > rounding


def exact(amount: Any) -> Any:
    """A number in exact arithmetic: itself if it is whole, otherwise a Fraction."""
    return int(amount) if is_whole(amount) else Fraction(float(amount))


def common_step(numbers: Iterable[Fraction]) -> Fraction:
    """Greatest common divisor of fractions; 0 if all are 0."""
    numbers = set(numbers)
    denominator = math.lcm(*(number.denominator for number in numbers))
    return Fraction(math.gcd(*(int(number * denominator) for number in numbers)), denominator)


def decimal_step(numbers: Iterable[Any]) -> Fraction:
    """Greatest common divisor of numbers as they are written in decimals; 0 if all are 0.

    Examples
    --------
    >>> decimal_step([0.5, 1.25, 3])
    Fraction(1, 4)
    """
    return common_step(Fraction(int(n)) if isinstance(n, Integral) else Fraction(repr(float(n))) for n in numbers)


def as_written(number: Any) -> Fraction:
    """A number as the fraction that its decimals say."""
    return Fraction(int(number)) if is_whole(number) else Fraction(repr(float(number)))


def in_steps(number: Any, step: Fraction) -> int:
    """A multiple of a step, as a number of steps."""
    return int(as_written(number) / step)


def most_steps(limit: Any, step: Fraction, terms: int) -> int:
    """Most steps within a limit; the rounding error of a float sum of so many terms is added to the limit."""
    rounding = 0 if is_whole(limit) else 2 * sum_rounding(abs(float(limit)), terms + 2)
    return math.floor((as_written(limit) + as_written(rounding)) / step)


def out_of_steps(number: int, step: Fraction) -> Any:
    """The number that so many steps are, as an int if it is whole, otherwise as a float.

    Examples
    --------
    >>> out_of_steps(in_steps(0.75, Fraction(1, 4)), Fraction(1, 4)), most_steps(0.3, Fraction(1, 10), 3)
    (0.75, 3)
    """
    exact_number = number * step
    return int(exact_number) if exact_number.denominator == 1 else float(exact_number)
