"""Hypothesis strategies: choice spaces, selections, metrics of every kind, constraints and problems.

Each draws a list of groups, from which all sizes follow, so that examples shrink to few decisions with few options.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import networkx as nx
import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from cggd.constraints import Constraint
from cggd.metrics import Additive, Function, LongestPath, Metric, Peak, Predicted, Table, maximum
from cggd.problem import Problem
from cggd.space import ChoiceSpace

# Tables of every selection are drawn up to this many.
TABULATED = 256


def choice_spaces(*, max_decisions: int = 6, max_options: int = 4) -> st.SearchStrategy[ChoiceSpace]:
    """Choice spaces, labelled and unlabelled, ragged and uniform, some with decisions of a single option."""
    if not 1 <= max_options <= 26:
        raise ValueError(f"max_options must lie between 1 and 26, got {max_options}")
    options = st.lists(
        st.sampled_from("abcdefghijklmnopqrstuvwxyz"[:max_options]), min_size=1, max_size=max_options, unique=True
    )
    groups = st.lists(options, min_size=1, max_size=max_decisions)
    uniform = groups.map(lambda drawn: [drawn[0]] * len(drawn))
    labelled = groups.map(lambda drawn: ChoiceSpace({f"d{i}": group for i, group in enumerate(drawn)}))
    return st.one_of(labelled, (groups | uniform).map(lambda drawn: ChoiceSpace.from_sizes([len(g) for g in drawn])))


def selections(space: ChoiceSpace) -> st.SearchStrategy[NDArray[np.int64]]:
    """Selections of a space, as index arrays that cannot be written to."""

    def frozen(selection: tuple[int, ...]) -> NDArray[np.int64]:
        array = np.array(selection, dtype=np.int64)
        array.flags.writeable = False
        return array

    return st.tuples(*[st.integers(0, size - 1) for size in space.sizes.tolist()]).map(frozen)


def values(space: ChoiceSpace, *, least: int = -5) -> st.SearchStrategy[NDArray[np.float64]]:
    """One number per option; whole numbers tie often, halves and tenths seldom."""
    number = st.integers(least, 9).map(float) | st.integers(10 * least, 90).map(lambda x: x / 10)
    return st.lists(number, min_size=space.n_options, max_size=space.n_options).map(np.array)


def metrics(space: ChoiceSpace, *, depth: int = 1) -> st.SearchStrategy[Metric]:
    """Metrics of every kind over a space, and sums, scalings and maxima of them."""
    flat = values(space)
    # Only the strategy of the kind that is drawn is built.
    kinds: list[Callable[[], st.SearchStrategy[Metric]]] = [
        lambda: st.builds(partial(Additive, space, name="additive", unit="g"), flat, st.sampled_from([0.0, 0.0, 2.5])),
        lambda: flat.map(lambda numbers: Peak(space, numbers, name="peak")),
        lambda: st.builds(partial(Peak, space, name="staged peak", unit="kB"), flat, _stages(space)),
        lambda: _paths(space),
        lambda: _functions(space),
        lambda: flat.map(lambda weights: Predicted(space, _Squares(weights), name="predicted")),
    ]
    if space.n_selections <= TABULATED:
        kinds.append(lambda: _numbers(space.n_selections).map(partial(Table, space, name="table")))
    if depth:
        part = metrics(space, depth=depth - 1)
        kinds.append(lambda: st.builds(lambda a, b, by: a + by * b - 1, part, part, st.sampled_from([1.0, -1.0, 0.5])))
        kinds.append(lambda: st.builds(maximum, part, part))
    return st.sampled_from(kinds).flatmap(lambda kind: kind())


def constraints(space: ChoiceSpace, *, feasible: bool = True) -> st.SearchStrategy[Constraint]:
    """Bounds on metrics of every kind; with `feasible`, such that some selection satisfies each, often just so."""
    return metrics(space).flatmap(lambda metric: _bounded(metric, feasible))


def problems(
    *, max_decisions: int = 6, max_options: int = 4, max_constraints: int = 4, feasible: bool = True
) -> st.SearchStrategy[Problem]:
    """Problems of one to `max_constraints` conflicting constraints; with `feasible` some selection satisfies all."""
    sizes = {"max_decisions": max_decisions, "max_options": max_options, "max_constraints": max_constraints}
    return witnessed_problems(**sizes).map(lambda drawn: drawn[0]) if feasible else _any_problems(**sizes)


@st.composite
def witnessed_problems(
    draw: st.DrawFn, *, max_decisions: int = 6, max_options: int = 4, max_constraints: int = 4
) -> tuple[Problem, NDArray[np.int64]]:
    """Feasible problems, each with a selection that satisfies its constraints, often just so."""
    space = draw(choice_spaces(max_decisions=max_decisions, max_options=max_options))
    witness = draw(selections(space))
    bounded = [draw(_at(draw(metrics(space)), witness)) for _ in range(draw(st.integers(1, max_constraints)))]
    return Problem(draw(metrics(space)), bounded, draw(_senses)), witness


@st.composite
def _any_problems(draw: st.DrawFn, *, max_decisions: int, max_options: int, max_constraints: int) -> Problem:
    space = draw(choice_spaces(max_decisions=max_decisions, max_options=max_options))
    bounded = draw(st.lists(constraints(space, feasible=False), min_size=1, max_size=max_constraints))
    return Problem(draw(metrics(space)), bounded, draw(_senses))


_senses: st.SearchStrategy[Any] = st.sampled_from(("minimize", "maximize"))


def _at(metric: Metric, witness: NDArray[np.int64]) -> st.SearchStrategy[Constraint]:
    """Bounds that a selection meets, exactly or with some slack."""
    value = metric(witness)
    slack = st.sampled_from([0.0, 0.0, 0.5, 3.0])
    return st.tuples(slack, st.booleans()).map(
        lambda drawn: metric <= value + drawn[0] if drawn[1] else metric >= value - drawn[0]
    )


def _bounded(metric: Metric, feasible: bool) -> st.SearchStrategy[Constraint]:
    if feasible:
        return selections(metric.space).flatmap(lambda witness: _at(metric, witness))
    bound = st.integers(-20, 40).map(float)
    return st.tuples(bound, st.booleans()).map(lambda drawn: metric <= drawn[0] if drawn[1] else metric >= drawn[0])


# -- kinds ------------------------------------------------------------------------------------------------------------


def _stages(space: ChoiceSpace) -> st.SearchStrategy[dict]:
    stage = st.lists(st.sampled_from(list(space.decisions)), unique=True, min_size=1)
    return st.lists(stage, min_size=1, max_size=3).map(lambda drawn: dict(enumerate(drawn)))


@st.composite
def _paths(draw: st.DrawFn, space: ChoiceSpace) -> Metric:
    nodes = list(space.decisions)
    graph = nx.DiGraph()
    graph.add_nodes_from(nodes)
    place = st.sampled_from(range(len(nodes)))
    for pair in draw(st.lists(st.tuples(place, place), max_size=2 * len(nodes))):
        if pair[0] != pair[1]:
            graph.add_edge(nodes[min(pair)], nodes[max(pair)])
    return LongestPath(space, graph, draw(values(space, least=0)), name="longest path", unit="ms")


def _functions(space: ChoiceSpace) -> st.SearchStrategy[Metric]:
    """Black boxes whose decisions interact: a table of pairs of neighbours."""
    largest = int(space.sizes.max())

    def metric(numbers: NDArray[np.float64]) -> Metric:
        pairs = numbers.reshape(largest, largest)
        batch = partial(Function, space, batch=True, name="function")
        return batch(lambda rows: pairs[rows, np.roll(rows, 1, axis=1)].sum(axis=1))

    return _numbers(largest * largest).map(metric)


class _Squares:
    """A model with a curved answer."""

    def __init__(self, weights: NDArray[np.float64]) -> None:
        self.weights = weights

    def predict(self, X: Any) -> NDArray[np.float64]:
        total = X @ self.weights
        return total + 0.1 * total**2


def _numbers(n: int) -> st.SearchStrategy[NDArray[np.float64]]:
    """Many whole numbers from few draws, so that a table costs one seed and still shrinks to zeros."""

    def numbers(scale: int, seed: int) -> NDArray[np.float64]:
        return np.random.default_rng(seed).integers(-scale, scale + 1, size=n).astype(float)

    return st.builds(numbers, st.integers(0, 9), st.integers(0, 2**16))
