"""Checks of arguments; the messages name the argument, its value and what is expected."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np


def own(instance: Any, **fields: Any) -> None:
    """Set fields of a frozen dataclass from its own `__post_init__`."""
    for name, value in fields.items():
        object.__setattr__(instance, name, value)


def as_number(value: Any, argument: str, *, finite: bool = True, nan: bool = False) -> float:
    """A float from any real number but a bool; `argument` names it in the error. With `nan`, NaN counts as a number."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, bool | np.bool_ | str | bytes | complex | np.complexfloating):
        raise TypeError(f"{argument} must be a number, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{argument} must be a number, got {value!r}") from None
    except OverflowError:
        raise ValueError(f"{argument} must be at most 1e308, got one that no float holds") from None
    if (np.isnan(number) and not nan) or (finite and np.isinf(number)):
        raise ValueError(f"{argument} must be {'finite' if finite else 'a number'}, got {number}")
    return number


def as_amount(value: Any, argument: str) -> float:
    """A finite number of at least 0; `argument` names it in the error."""
    number = as_number(value, argument)
    if number < 0:
        raise ValueError(f"{argument} must be at least 0, got {value}")
    return number


def as_above(value: Any, argument: str, limit: float) -> float:
    """A finite number greater than `limit`; `argument` names it in the error."""
    number = as_number(value, argument)
    if number <= limit:
        raise ValueError(f"{argument} must be greater than {limit}, got {number}")
    return number


def as_share(value: Any, argument: str) -> float:
    """A number of at least 0 and less than 1; `argument` names it in the error."""
    number = as_number(value, argument)
    if not 0 <= number < 1:
        raise ValueError(f"{argument} must be at least 0 and less than 1, got {value}")
    return number


def whole(value: Any, argument: str, *, least: int) -> int:
    """A whole number that is no less than `least`; `argument` names it in the error."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        raise TypeError(f"{argument} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{argument} must be at least {least}, got {value}")
    return int(value)


def check_time_limit(time_limit: Any, *, finite: bool = False) -> None:
    """Raise an error unless a time limit is None or a number greater than 0."""
    if time_limit is not None and as_number(time_limit, "time_limit", finite=finite) <= 0:
        raise ValueError(f"time_limit must be more than 0 seconds, got {time_limit}")


def check_sense(sense: Any) -> None:
    """Raise a ValueError unless the sense of an objective is "minimize" or "maximize"."""
    if sense not in ("minimize", "maximize"):
        raise ValueError(f'sense must be "minimize" or "maximize", got {sense!r}')


def check_choice(value: Any, choices: Any, argument: str) -> None:
    """Raise a ValueError if a value is not one of the strings of a Literal type."""
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"{argument} must be one of {', '.join(map(repr, known))}, got {value!r}")


def short(thing: Any, most: int = 200) -> str:
    """The beginning of the `repr` of something, for messages."""
    text = repr(thing)
    return text if len(text) <= most else text[: most - 3] + "..."
