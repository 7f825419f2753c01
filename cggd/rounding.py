"""Rounding: how far a sum of floats may be from the exact sum of its decimals, and numbers as text.

A value satisfies a bound if it misses the bound by at most the metric's own rounding error (`cggd.Constraint`). A sum
of whole numbers below 2**53 has no rounding error. A sum of floats has one of a few units in the last place of its
largest partial sum, so ``0.1 + 0.2 <= 0.3`` holds. Anything else is compared as it was returned.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Relative error of one rounded operation in double precision (Higham, 2002, ch. 2).
UNIT = 2.0**-53

# Whole numbers up to this are exact, and so are their sums.
WHOLE = 2.0**53

# Rounded operations on a number before and after the sum. A decimal is rounded when it is read, and so is the bound.
# Tables that were scaled and added (`2 * a + b`) were rounded once or twice more.
READ = 6

# Upper bound on the rounded operations on each number of a sum. `additions` and READ stay below it for 1e7 numbers.
OPERATIONS = 64

# numpy adds blocks of at most 128 numbers in eight partial sums (lanes), and the block sums in pairs (Higham, 1993).
BLOCK, LANES = 128, 8


def additions(terms: int) -> int:
    """Largest number of additions that one of `terms` numbers goes through in ``numpy.sum``.

    Examples
    --------
    >>> additions(2), additions(100), additions(10**6)
    (1, 22, 39)
    """
    if terms <= LANES:
        return max(terms - 1, 0)
    blocks = max(terms / BLOCK, 1.0)
    # A lane adds its numbers one after another. Then come three additions of lanes, up to seven additions of numbers
    # that fill no lane, and the additions of blocks.
    return min(terms, BLOCK) // LANES + 10 + int(np.ceil(np.log2(blocks)))


def sum_rounding(magnitude: Any, terms: int) -> Any:
    """The largest error of a float sum of decimals, given the sum of their absolute values, elementwise.

    Parameters
    ----------
    magnitude : float or ndarray
        Sum of the absolute values of the numbers that are added.
    terms : int
        How many numbers are added.

    Examples
    --------
    >>> 0.1 + 0.2 - 0.3 <= sum_rounding(0.3, 2) < 1e-15
    True
    """
    return UNIT * (additions(terms) + READ) * magnitude


def is_whole(numbers: Any) -> bool:
    """Whether all numbers are whole.

    Examples
    --------
    >>> is_whole([1.0, 2.0]), is_whole(0.5)
    (True, False)
    """
    numbers = np.asarray(numbers)
    return numbers.dtype.kind in "iub" or bool((np.rint(numbers) == numbers).all())


def snapped(values: NDArray[Any], rounding: Any, sign: float, bound: float) -> NDArray[Any]:
    """Return the values; a value that misses the bound by no more than rounding is replaced by the bound.

    Parameters
    ----------
    values : ndarray
    rounding : float or ndarray like `values`
    sign : float
        1 for a bound from above, -1 for one from below.
    bound : float

    Examples
    --------
    >>> snapped(np.array([0.1 + 0.2, 0.31, 0.2]), 1e-15, 1.0, 0.3)
    array([0.3 , 0.31, 0.2 ])
    """
    if not np.any(rounding) or np.isinf(bound):
        return values
    with np.errstate(over="ignore"):
        excess = sign * (values - bound)
    missed = (excess > 0) & (excess <= rounding)
    return np.where(missed, bound, values) if missed.any() else values


def number_text(number: float, digits: int = 6) -> str:
    """A number as text: whole numbers in full, others with at least `digits` significant digits.

    Examples
    --------
    >>> number_text(17179869184), number_text(2 / 3), number_text(1234567.25), number_text(5e-13)
    ('17179869184', '0.666667', '1234567.25', '5e-13')
    """
    number = float(number) + 0.0  # no negative zero
    if not np.isfinite(number):
        return str(number)
    if number == round(number):
        return f"{number:.0f}" if abs(number) < 1e16 else repr(number)
    before = len(f"{abs(number):.0f}") if 1e5 <= abs(number) < 1e15 else 0  # then two decimal places are shown
    return f"{number:.{max(digits, before + 2 if before else 0)}g}"


def bound_text(bound: float, sense: str = "") -> str:
    """A bound as text: exactly if 12 digits suffice, otherwise as `number_text`; with a sense, never a tighter one.

    Examples
    --------
    >>> bound_text(1.0000001), bound_text(2 / 3), bound_text(2 / 3, ">="), bound_text(1 / 3, "<=")
    ('1.0000001', '0.666667', '0.666666', '0.333334')
    """
    for text in (number_text(bound), f"{bound:.12g}"):
        if float(text) == bound:
            return text
    nearest = number_text(bound)
    if not sense or (float(nearest) > bound) == (sense == "<="):
        return nearest
    digits = sum(map(str.isdigit, nearest.split("e")[0].lstrip("-0.")))
    rounding = ROUND_CEILING if sense == "<=" else ROUND_FLOOR
    return number_text(float(Context(prec=max(6, digits), rounding=rounding).create_decimal(Decimal(bound))))


def true_texts(*numbers: float) -> list[str]:
    """Numbers as text, with enough digits that different numbers read differently and in the right order.

    Examples
    --------
    >>> true_texts(5.0000001, 5.0)
    ['5.0000001', '5']
    """
    texts: list[str] = []
    for digits in range(6, 18):
        texts = [number_text(number, digits) for number in numbers]
        read = [float(text) for text in texts]
        pairs = [(a, b) for i, a in enumerate(numbers) for b in numbers[i + 1 :]]
        shown = [(a, b) for i, a in enumerate(read) for b in read[i + 1 :]]
        if all((a < b) == (x < y) and (a > b) == (x > y) for (a, b), (x, y) in zip(pairs, shown, strict=True)):
            break
    return texts
