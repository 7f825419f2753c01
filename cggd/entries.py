"""Entries of files: strict reading of JSON, of its keys and of its labels."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Any, NoReturn

import numpy as np

from cggd.checks import short
from cggd.space import few

# Keys longer than this are not compared with the known ones: the time grows with the product of the lengths.
COMPARED = 60

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def check_keys(mapping: Any, known: Collection[str], where: str) -> None:
    """Raise a ValueError if an object of a file has an unknown key, or is not a mapping.

    Parameters
    ----------
    mapping : mapping
    known : collection of str
        Allowed keys. The message names the one most similar to the unknown key.
    where : str
        Name of the object, for the message.

    Examples
    --------
    >>> check_keys({"duration": 3, "demand": 1}, ("duration", "demands"), "mode 1")
    Traceback (most recent call last):
    ValueError: mode 1 has the unknown key 'demand'; known are 'duration', 'demands'; did you mean 'demands'?
    """
    known = list(known)
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{where} must be an object with {few(known, 20)}, got {shortened(mapping)}")
    names = set(known)
    for key in mapping:
        if key not in names:
            like = get_close_matches(key, known, n=1) if isinstance(key, str) and len(key) <= COMPARED else []
            # Keys that differ only in capitals or by a final s.
            like = like or [name for name in known if str(key).lower() in (name.lower(), f"{name.lower()}s")]
            hint = f"; did you mean {like[0]!r}?" if like else ""
            raise ValueError(f"{where} has the unknown key {shortened(key)}; known are {few(known, 20)}{hint}")


def parse_json(text: str | bytes | bytearray, path: object = "", *, finite: bool = True) -> Any:
    """Read JSON strictly.

    Parameters
    ----------
    text : str or bytes
    path : str or path
        The file, for messages.
    finite : bool
        Whether a number such as 1e999 is an error; otherwise it becomes infinite.

    Raises
    ------
    ValueError
        If it is not JSON, an object has a key twice, a number is not finite, lists are nested too deeply, or a string
        has half of a surrogate pair.

    Examples
    --------
    >>> parse_json('{"a": 1, "a": 2}', "problem.json")
    Traceback (most recent call last):
    ValueError: problem.json: not JSON: an object has the key 'a' twice
    """
    begin = f"{path}: " if path != "" else ""
    try:
        if not isinstance(text, str):
            text = text.decode(json.detect_encoding(text))
        numbers = _finite if finite else None
        data = json.loads(text, object_pairs_hook=_object, parse_constant=_refuse, parse_float=numbers)
        if _SURROGATE.search(text):
            json.dumps(data, ensure_ascii=False).encode()
        return data
    except json.JSONDecodeError as error:
        place = f"{path}, line" if begin else "line"
        raise ValueError(f"{place} {error.lineno}: not JSON: {error.msg} (column {error.colno})") from None
    except UnicodeEncodeError:
        why = "a string holds half of a surrogate pair, which is no character"
    except RecursionError:
        why = "lists or objects are nested too deeply to be read"
    except ValueError as error:
        why = str(error)
    raise ValueError(f"{begin}not JSON: {why}")


def label_from_json(data: Any) -> Hashable:
    """Convert a label from JSON, where tuples are lists; an object is a ValueError.

    Examples
    --------
    >>> label_from_json(["conv", [3, 3]])
    ('conv', (3, 3))
    """
    if isinstance(data, Mapping):
        got = f"the {type(data).__name__} {shortened(data)}"
        raise ValueError(f"labels must be strings, numbers, bools, null or lists of them, got {got}")
    return tuple(map(label_from_json, data)) if isinstance(data, list) else data


def label_to_json(value: Any) -> Any:
    """Convert what `json` cannot write: numpy scalars become numbers, anything else is an error."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"labels in JSON must be strings, numbers, bools, None or tuples of them, got {value!r}")


def shortened(thing: Any) -> str:
    """The `repr` of an object, cut to 40 characters.

    Examples
    --------
    >>> shortened("a" * 100)
    "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa..."
    """
    # Only the beginning of a large object is converted.
    return short(thing[:50] if isinstance(thing, str | list) else thing, 40)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"an object has the key {shortened(key)} twice")
    return found


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number of JSON; write a finite number")


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{shortened(text)} is more than a number may be (about 1.8e308)")
    return number
