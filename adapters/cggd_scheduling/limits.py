"""When a limit is exceeded: the one definition for capacities, budgets, memory and times.

A sum of whole numbers is compared exactly, of any size. A sum of others is exact up to the rounding of a sum of floats:
0.1 + 0.2 does not exceed 0.3. A single number is compared as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from numbers import Integral, Real
from typing import Any

from cggd.rounding import READ, UNIT, sum_rounding


def time_rounding(time: Any, terms: int) -> Any:
    """How far a time may be off that is the sum of so many durations, added one after another.

    Each is rounded when it is read, and each partial sum (Higham, Accuracy and Stability of Numerical Algorithms, 2002,
    section 4.2).
    """
    return UNIT * (terms + READ) * time


def is_whole(number: Any) -> bool:
    """Whether a number has no fraction; true of whole numbers of any size."""
    return isinstance(number, Integral) or float(number).is_integer()


def exceeds(amount: Any, limit: Any) -> bool:
    """Whether an amount is above a limit.

    Parameters
    ----------
    amount : number, or iterable of numbers
        What is added up; a number alone counts as the sum of two.
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
    """A number that adds up without rounding: itself where it is whole, or a fraction."""
    return int(amount) if is_whole(amount) else Fraction(float(amount))


def common_step(numbers: Iterable[Fraction]) -> Fraction:
    """The greatest number that all numbers are multiples of; 0 where all are 0."""
    numbers = set(numbers)
    denominator = math.lcm(*(number.denominator for number in numbers))
    return Fraction(math.gcd(*(int(number * denominator) for number in numbers)), denominator)


def decimal_step(numbers: Iterable[Any]) -> Fraction:
    """What all numbers are multiples of, as they are written in decimals; 0 where all are 0.

    Examples
    --------
    >>> decimal_step([0.5, 1.25, 3])
    Fraction(1, 4)
    """
    return common_step(Fraction(int(n)) if isinstance(n, Integral) else Fraction(repr(float(n))) for n in numbers)


def as_written(number: Any) -> Fraction:
    """A number as it is written in decimals."""
    return Fraction(int(number)) if is_whole(number) else Fraction(repr(float(number)))


def in_steps(number: Any, step: Fraction) -> int:
    """A multiple of a step as the number of steps."""
    return int(as_written(number) / step)


def most_steps(limit: Any, step: Fraction, terms: int) -> int:
    """Steps within a limit; what the rounding of a float sum of some terms may add to the limit is within."""
    rounding = 0 if is_whole(limit) else 2 * sum_rounding(abs(float(limit)), terms + 2)
    return math.floor((as_written(limit) + as_written(rounding)) / step)


def out_of_steps(number: int, step: Fraction) -> Any:
    """A number of steps as an int, or as a float where it is not whole.

    Examples
    --------
    >>> out_of_steps(in_steps(0.75, Fraction(1, 4)), Fraction(1, 4)), most_steps(0.3, Fraction(1, 10), 3)
    (0.75, 3)
    """
    exact_number = number * step
    return int(exact_number) if exact_number.denominator == 1 else float(exact_number)
