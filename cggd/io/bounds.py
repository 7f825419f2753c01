"""Bounds as a user types them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal
from unicodedata import normalize

from cggd.constraints import Constraint
from cggd.io.text import not_a_number, to_number
from cggd.metrics import Metric
from cggd.space import few

# The bound holds no comparison sign, so that names may.
_BOUND = re.compile(r"(.*?)\s*(<=|>=|=<|=>|==|≤|≥|<|>|=)\s*([^<>=≤≥]*)", re.DOTALL)
_NUMBER = re.compile(r"(q?)\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*)", re.DOTALL | re.ASCII)
_SENSES: dict[str, Literal["<=", ">="]] = {"<=": "<=", "≤": "<=", ">=": ">=", "≥": ">="}


def parse_bound(text: str, metrics: Mapping[str, Metric]) -> Constraint:
    """Make a constraint of a text such as ``latency <= 5.3``.

    The text is the name of a metric, ``<=`` or ``>=``, and one of

    * a number, which the metric's unit may follow: ``5.3``, ``1e-3``, ``5.3 ms``;
    * ``q0.5``, for ``metric.quantile(0.5)``: the value that this share of all selections does not exceed;
    * ``0.6max``, for ``0.6 * metric.maximum()``.

    Blanks around the parts are ignored. Names may hold blanks, digits, dots and signs.

    Parameters
    ----------
    text : str
    metrics : mapping of name to Metric

    Raises
    ------
    ValueError
        If the text is not such a bound, there is no such metric, or its greatest value is not known.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> metrics = {"latency": Additive(space, [1, 2, 3, 8], name="latency", unit="ms")}
    >>> parse_bound("latency <= 5.3", metrics)
    Constraint(latency <= 5.3 ms)
    >>> parse_bound("latency<=0.6max", metrics), parse_bound("latency>=q0.5", metrics)
    (Constraint(latency <= 6 ms), Constraint(latency >= 7 ms))
    """
    match = _BOUND.fullmatch(text.strip())
    if not match:
        raise ValueError(f"bound {text!r} must read like weight<=100 or weight>=100")
    name, sign, right = match.groups()
    if name not in metrics:
        flipped = sign.translate(str.maketrans("<>≤≥", "><≥≤"))
        hint = f"; write the metric first: {right}{flipped}{name}" if right in metrics else ""
        hint = "; write two bounds, one after the other" if _BOUND.fullmatch(name) else hint
        raise ValueError(f"bound {text!r}: unknown metric {name!r}; known are {few(list(metrics), 20)}{hint}")
    if sign not in _SENSES:
        raise ValueError(f"bound {text!r}: use <= or >= instead of {sign}: {name}<={right} or {name}>={right}")
    if not right:
        raise ValueError(f"bound {text!r}: the number after {sign} is missing")
    try:
        return Constraint(metrics[name], _bound_value(right, metrics[name]), _SENSES[sign])
    except ValueError as error:
        raise ValueError(f"bound {text!r}: {error}") from None


def parse_bounds(text: str, metrics: Mapping[str, Metric]) -> list[Constraint]:
    """Make constraints of a text: a bound as `parse_bound` reads it, or one of these.

    * ``5 <= latency <= 14`` and ``latency == 11``, which are two constraints;
    * ``used <= offered`` and ``draw + 60 <= supply``, ``tv <= 0.4*spend - 1``: sums of metrics, each with a factor, and
      of numbers, on both sides.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> space = ChoiceSpace.from_sizes([2, 2])
    >>> metrics = {name: Additive(space, [1, 2, 3, 8], name=name) for name in ("draw", "supply")}
    >>> parse_bounds("5 <= draw <= 7", metrics), parse_bounds("draw == 5", metrics)
    ([Constraint(draw >= 5), Constraint(draw <= 7)], [Constraint(draw <= 5), Constraint(draw >= 5)])
    >>> parse_bounds("draw + 60 <= 2*supply", metrics)
    [Constraint(draw + 60 <= 2*supply)]
    """
    words = normalize("NFC", text.strip())
    parts = re.split(r"(<=|>=|==|≤|≥)", words)
    if len(parts) == 5 and parts[1] in _SENSES and parts[3] in _SENSES and parts[2].strip() in metrics:
        if _SENSES[parts[1]] != _SENSES[parts[3]]:
            raise ValueError(f"bound {text!r}: both signs must point the same way, as in 5<=x<=14")
        flipped = ">=" if _SENSES[parts[1]] == "<=" else "<="
        name = parts[2].strip()
        return [parse_bound(f"{name}{flipped}{parts[0]}", metrics), parse_bound(f"{name}{parts[3]}{parts[4]}", metrics)]
    if len(parts) == 3 and parts[1] == "==" and parts[0].strip() in metrics and _NUMBER.fullmatch(parts[2].strip()):
        return [parse_bound(f"{parts[0]}{sense}{parts[2]}", metrics) for sense in ("<=", ">=")]
    if len(parts) == 3:
        left, right = _linear(parts[0], metrics), _linear(parts[2], metrics)
        plain = parts[0].strip() in metrics and (right is None or not right[0])
        if not plain and left is not None and right is not None and left[0] + right[0]:
            weights = [*left[0], *((-weight, metric) for weight, metric in right[0])]
            total: Any = sum((weight * metric for weight, metric in weights[1:]), weights[0][0] * weights[0][1])
            senses = ("<=", ">=") if parts[1] == "==" else (_SENSES[parts[1]],)
            return [Constraint(total, right[1] - left[1], sense, words=words) for sense in senses]
    match = _BOUND.fullmatch(words)
    if match and match[2] == "=":
        name, other = (match[3], match[1]) if match[3] in metrics else (match[1], match[3])
        if known_name(name, metrics) in metrics:
            raise ValueError(f"bound {text!r}: write == for equality, {name}=={other}, or use <= or >=")
    return [parse_bound(words if match is None else known_name(match[1], metrics) + words[match.end(1) :], metrics)]


def named_in(text: str) -> list[str]:
    """The names of metrics in the text of a bound, before the metrics are known.

    A plus or minus between blanks separates two names.

    Examples
    --------
    >>> named_in("2 <= memory <= 64"), named_in("time + 2*power<=0.5*cost"), named_in("run-time>=1e-3")
    (['memory'], ['time', 'power', 'cost'], ['run-time'])
    """
    found = []
    for side in map(str.strip, re.split(r"<=|>=|==|≤|≥", normalize("NFC", text))):
        number = _NUMBER.fullmatch(side)
        if number is not None and not number[3].startswith(("*", "+", "-")):
            continue  # a number, perhaps with a unit
        for term in re.split(r"\s[+-]\s|^\s*[+-]|[+-]\s*(?=[\d.]+\s*(?:[*+-]|$))", side):
            name = re.sub(r"^\s*[\d.]+(?:[eE][+-]?\d+)?\s*(\*|$)", "", term).strip()
            found += [name] if name else []
    return found


def known_name(name: str, metrics: Mapping[str, Metric]) -> str:
    """The name of a metric given in other capitals, or with its unit, as in ``latency [ms]``."""
    if name in metrics:
        return name
    like = [known for known in metrics if known.casefold() == name.casefold()]
    if len(like) == 1:
        return like[0]
    for known, metric in metrics.items():
        rest = name.removeprefix(known).strip()
        if metric.unit and name.startswith(known) and rest in (f"[{metric.unit}]", f"({metric.unit})"):
            return known
    return name


def _linear(text: str, metrics: Mapping[str, Metric]) -> tuple[list[tuple[float, Metric]], float] | None:
    """Factors and metrics, and the constant, of a sum such as ``2*a - b + 3``; None for other texts."""
    names = sorted(metrics, key=len, reverse=True)
    terms: list[tuple[float, Metric]] = []
    constant, rest, first = 0.0, text.strip(), True
    while rest:
        sign = re.match(r"([+-])?\s*", rest)
        assert sign is not None
        if sign[1] is None and not first:
            return None
        factor, rest, first = -1.0 if sign[1] == "-" else 1.0, rest[sign.end() :], False
        if number := re.match(r"(\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*(\*?)\s*", rest, re.ASCII):
            factor, rest = factor * to_number(number[0].rstrip("* ")), rest[number.end() :]
            if not number[2]:
                constant += factor
                continue
        name = next((n for n in names if rest.startswith(n) and re.match(r"\s*([+-]|$)", rest[len(n) :])), None)
        if name is None:
            return None
        terms.append((factor, metrics[name]))
        rest = rest[len(name) :].strip()
    return None if first else (terms, constant)


def _bound_value(text: str, metric: Metric) -> float:
    quantile, number, rest = match.groups() if (match := _NUMBER.fullmatch(text)) else ("", "", text)
    if number and not quantile and rest in ("", metric.unit):
        return to_number(number)
    if quantile and not rest:
        return metric.quantile(to_number(number))
    if number and not quantile and rest == "max":
        return to_number(number) * metric.maximum()
    if rest == "%":
        raise ValueError(f"{text} may mean two things; write q0.5 for a quantile or 0.5max for a share of the maximum")
    if number and re.match(r"[,._]\d", rest):  # 1,5 and 1_000
        raise ValueError(not_a_number(text))
    unit = f", with or without the unit {metric.unit}" if metric.unit else ""
    raise ValueError(f"expected a number{unit}, a quantile such as q0.5 or a share such as 0.6max, got {text!r}")
