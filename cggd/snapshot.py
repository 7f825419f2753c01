"""Snapshots: conversion of the state of a search to a checkpoint and back.

Proofs and bounds are not stored; a resumed search computes them again. Measurements of costly metrics are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cggd import checkpoint
from cggd.budget import Budget
from cggd.checks import as_amount, whole
from cggd.incumbent import Candidate, Improver, Incumbent
from cggd.problem import Problem
from cggd.result import History

# Facts of which only a digest is stored.
_DATA = ("layout", "labels", "forbidden options", "values of the objective", "values of the constraints")

# The columns of a stored history except the violations, and their dtype kinds.
HISTORY = (("start", "i"), ("value", "f"), ("best", "f"), ("seconds", "f"))


def fingerprint(problem: Problem, seed: int, improvers: Sequence[Improver]) -> dict[str, Any]:
    """Facts that must be equal in a checkpoint and in the search that resumes it."""
    return {
        "layout": checkpoint.digest(problem.space.offsets),
        "labels": checkpoint.digest(problem.space.options),
        "forbidden options": "" if problem.allowed is None else checkpoint.digest(problem.allowed),
        "objective": problem.objective.name,
        "constraints": [f"{c!r} {c.bound!r} {c.confidence!r}" for c in problem.constraints],
        "values of the objective": checkpoint.digest(problem.objective),
        "values of the constraints": [checkpoint.digest(c.metric) for c in problem.constraints],
        "sense": problem.sense,
        "seed": seed,
        "improvers": [f"{type(one).__name__} {checkpoint.digest(one)}" for one in improvers],
    }


def save(path: Path, incumbent: Incumbent, budget: Budget, search: Mapping[str, Any]) -> None:
    """Write the state of a search to a file; raises OSError as `cggd.checkpoint.save` does."""
    problem, n_constraints = incumbent.problem, len(incumbent.problem.constraints)
    known = [*incumbent.candidates, *([] if incumbent.nearest is None else [incumbent.nearest])]
    memory = dict(incumbent.memory)
    n_history = max((n for _, n in memory.values()), default=0)
    facts: dict[str, Any] = {"search": search, "seconds": budget.seconds, "calls": budget.evaluation.calls}
    facts |= {"n_candidates": len(incumbent.candidates), "memory": {}}
    arrays = {
        "known_value": np.array([c.value for c in known], dtype=float),
        "known_selection": np.array([c.selection for c in known], dtype=np.int64).reshape(
            len(known), problem.space.n_decisions
        ),
        "known_values": np.array([c.values for c in known], dtype=float).reshape(len(known), n_constraints),
    }
    for number, measured in enumerate(problem.memories):
        arrays[f"measured_{number}"], arrays[f"numbers_{number}"] = measured.pack()
    history = History.of(incumbent.history[:n_history], n_constraints)
    arrays |= {f"history_{name}": array for name, array in vars(history).items()}
    for place, (state, _) in memory.items():
        if state is None:
            facts["memory"][str(place)] = None
        else:
            facts["memory"][str(place)], some = state.pack()
            arrays |= {f"memory_{place}_{name}": array for name, array in some.items()}
    checkpoint.save(path, facts, arrays)


def restore(
    path: Path, incumbent: Incumbent, budget: Budget, improvers: Sequence[Improver], search: Mapping[str, Any]
) -> None:
    """Restore an incumbent and a budget from a file.

    Raises
    ------
    ValueError
        If the checkpoint belongs to another search or is damaged; the message names the file.
    """
    facts, arrays = checkpoint.load(path)
    theirs = facts.get("search")
    if not isinstance(theirs, dict):
        raise ValueError(f"{path} is not a cggd checkpoint, or is damaged: it does not say of which search")
    for name, mine in search.items():
        if theirs.get(name) != mine:
            raise ValueError(
                f"checkpoint {path} belongs to another search: its {_difference(name, theirs.get(name), mine)}; "
                f"search as before to continue from it, or {checkpoint.INSTEAD}"
            )
    try:
        _read(facts, arrays, incumbent, budget, improvers)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path} is not a cggd checkpoint, or is damaged: {what}") from error


def _difference(name: str, stored: Any, here: Any) -> str:
    """What differs between the stored search and this one; digests of data are not shown."""
    if name in _DATA:
        return f"{name} differ"
    if not isinstance(stored, list) or not isinstance(here, list):
        return f"{name} is {stored!r}, here it is {here!r}"
    texts = [[str(one).rsplit(" ", 2 if name == "constraints" else 1)[0] for one in some] for some in (stored, here)]
    if texts[0] == texts[1]:
        return f"{name} read alike, but their parameters or numbers differ"
    before, now = (", ".join(some) or "none" for some in texts)
    return f"{name} are {before}, here they are {now}"


def _read(
    facts: dict[str, Any],
    arrays: dict[str, NDArray],
    incumbent: Incumbent,
    budget: Budget,
    improvers: Sequence[Improver],
) -> None:
    problem = incumbent.problem
    space, n_constraints = problem.space, len(problem.constraints)

    def array(name: str, kind: str, *shape: int) -> NDArray:
        """An array of the file, checked for kind and shape; -1 means any length."""
        found = arrays[name]
        given = tuple(n if m < 0 else m for n, m in zip(found.shape, shape, strict=True))
        if found.dtype.kind != kind or found.dtype.itemsize != 8 or found.shape != given:
            raise ValueError(f"its {name} is an array of {found.dtype} of shape {found.shape}")
        return found

    value = array("known_value", "f", -1)
    selection = space.check_selections(array("known_selection", "i", len(value), space.n_decisions))
    values = array("known_values", "f", len(value), n_constraints)
    if not problem.permits(selection).all():
        raise ValueError("its known_selection takes forbidden options")
    columns = [array(f"history_{name}", kind, -1) for name, kind in HISTORY]
    violation = array("history_violation", "f", len(columns[0]), n_constraints)
    calls = whole(facts["calls"], "calls", least=0)
    n_candidates = whole(facts["n_candidates"], "n_candidates", least=0)
    if not 0 <= len(value) - n_candidates <= 1:
        raise ValueError(f"its n_candidates is {n_candidates}, of {len(value)} selections")
    seconds = as_amount(facts["seconds"], "seconds")
    starts, objective, best, times = (column.tolist() for column in columns)
    history = list(zip(starts, objective, violation, best, times, strict=True))
    memory: dict[int, tuple[Any, int]] = {}
    for place, kept in facts["memory"].items():
        improver: Any = improvers[whole(int(place), "memory", least=0)]
        if kept is None:
            memory[int(place)] = (None, len(history))
            continue
        own = {n.removeprefix(f"memory_{place}_"): a for n, a in arrays.items() if n.startswith(f"memory_{place}_")}
        memory[int(place)] = (improver.unpack(problem, kept, own), len(history))
    if history and not memory:
        raise ValueError(f"it holds {len(history)} steps, and not where they ended")
    for number, measured in enumerate(problem.memories):
        rows = space.check_selections(array(f"measured_{number}", "i", -1, space.n_decisions))
        measured.unpack(rows, array(f"numbers_{number}", "f", len(rows), -1))
    known = [Candidate(*row) for row in zip(value.tolist(), selection, values, strict=True)]
    incumbent.candidates, incumbent.history, incumbent.memory = known[:n_candidates], history, memory
    incumbent.nearest = known[-1] if len(known) > n_candidates else None
    budget.evaluation.calls = calls
    budget.begin_earlier(seconds)
