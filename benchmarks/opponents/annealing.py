"""Simulated annealing without penalties: feasibility first, then the objective; three runs, each longer than the last.

While the selection violates a bound, its violation is annealed; once it is feasible, only feasible moves are
accepted, and the objective is annealed. Moves are drawn in batches and the first accepted one is made, which is the
same chain as one by one. A move puts one option in, two, or exchanges the options of two decisions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.instances import Instance
from benchmarks.opponents.claim import Claim, Record
from benchmarks.opponents.repair import Switches, repair, upgrade

# Shares of the time that the runs get; a failed one costs little, the last one most often decides.
SHARES = (0.1, 0.3, 0.6)
# Temperatures as shares of the median change of the objective by one move, and of the violation. Of starts from 0.003
# to 1 and ends from 0.001 to 0.1, in 4 s on I07, c_24, d05100 and random-1000, none was better on all.
START, END = 0.03, 0.001
# Share of the decisions of a start that are random.
REDRAWN = 0.1
# Batches hold about twice the moves that it takes until one is accepted.
SMALLEST, LARGEST = 8, 256
# Seconds between records, so that writing them costs nothing that counts.
EVERY = 0.02


@dataclass
class _State:
    selection: NDArray[np.int64]
    value: float
    loads: NDArray[np.float64]
    violation: float


def solve(instance: Instance, *, seed: int, seconds: float, threads: int, record: Record) -> Claim:
    began = time.perf_counter()
    switches, rng = Switches(instance.problem), np.random.default_rng(seed)
    best, kept, shown, moves = np.inf, None, began, 0
    done = 0.0
    for share in SHARES:
        first, last = began + done * seconds, began + (done + share) * seconds
        done += share
        now = time.perf_counter()
        selection = _start(switches, rng)
        if repair(switches, selection, until=now + 0.5 * (last - now)):
            upgrade(switches, selection, until=now + 0.5 * (last - now))
        state = _state(switches, selection)
        if state.violation == 0 and state.value < best:
            best, kept = state.value, state.selection.copy()
        cooling, batch, scales = END / START, SMALLEST, None
        while now < last:
            proposals = _propose(switches, state, batch, rng)
            values, loads = _outcomes(switches, state, proposals)
            violations = switches.violation(loads)
            change = values - state.value
            scales = scales or (float(np.median(np.abs(change))) or 1.0, float(np.median(violations)) or 1.0)
            temperature = START * cooling ** min(1.0, max(0.0, now - first) / (last - first))
            worse = change / scales[0] if state.violation == 0 else (violations - state.violation) / scales[1]
            accepted = rng.random(batch) < np.exp(-np.maximum(worse, 0.0) / temperature)
            accepted &= (violations == 0) | (state.violation > 0)
            hits = np.flatnonzero(accepted)
            at = int(hits[0]) if len(hits) else batch - 1
            moves += at + 1
            batch = int(np.clip(round(0.8 * batch + 0.4 * (at + 1)) + 1, SMALLEST, LARGEST))
            if len(hits):
                _move(state, proposals, at)
                state.value, state.loads, state.violation = float(values[at]), loads[:, at], float(violations[at])
                if state.violation == 0 and state.value < best:
                    best, kept = state.value, state.selection.copy()
            now = time.perf_counter()
            if kept is not None and now > shown + EVERY:
                record(kept)
                kept, shown = None, now
    if kept is not None:
        record(kept)
    return Claim(note=f"{moves} moves")


def _start(switches: Switches, rng: np.random.Generator) -> NDArray[np.int64]:
    """Each decision's best option by the objective alone, some drawn anew.

    Repaired from there, I07 ends at 1.9 % after 4 s, and at 3.4 % from random selections.
    """
    drawn = switches.problem.space.sample(1, rng)[0]
    best = switches.layout.argmax(-switches.at(drawn)[0])
    return np.where(rng.random(len(best)) < REDRAWN, drawn, best)


def _state(switches: Switches, selection: NDArray[np.int64]) -> _State:
    objective, loads = switches.at(selection)
    here = int(switches.layout.flat(selection)[0])
    return _State(selection, float(objective[here]), loads[:, here], float(switches.violation(loads[:, [here]])[0]))


def _propose(switches: Switches, state: _State, n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Moves as rows decision, option, decision, option, shape (4, n); a single switch names its decision twice."""
    sizes, uniform = switches.layout.sizes, switches.layout.uniform
    first, second = rng.integers(0, len(sizes), size=(2, n))
    one, two = rng.integers(0, sizes[first]), rng.integers(0, sizes[second])
    kind = rng.random(n)
    if uniform is not None:
        exchanged = kind < 0.25
        one = np.where(exchanged, state.selection[second], one)
        two = np.where(exchanged, state.selection[first], two)
    single = (kind >= 0.5) | (first == second)
    return np.stack([first, one, np.where(single, first, second), np.where(single, one, two)])


def _outcomes(
    switches: Switches, state: _State, proposals: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Objective (n,) and constraints (n_constraints, n) after each move."""
    first, one, second, two = proposals
    if switches.additive is None:
        rows = np.repeat(state.selection[None], len(first), axis=0)
        rows[np.arange(len(first)), first], rows[np.arange(len(first)), second] = one, two
        problem = switches.problem
        values = problem.sign * problem.objective.evaluate(rows)
        return values, np.stack([c.sign * c.values(rows) for c in problem.constraints])
    costs, weights, _ = switches.additive
    starts = switches.layout.offsets[:-1]
    new, old = starts[first] + one, starts[first] + state.selection[first]
    new2, old2 = starts[second] + two, starts[second] + state.selection[second]
    other = first != second
    values = state.value + costs[new] - costs[old] + other * (costs[new2] - costs[old2])
    used = weights[:, new] - weights[:, old] + other * (weights[:, new2] - weights[:, old2])
    return values, state.loads[:, None] + used


def _move(state: _State, proposals: NDArray[np.int64], at: int) -> None:
    first, one, second, two = proposals[:, at]
    state.selection[first], state.selection[second] = one, two
