"""Hypothesis strategies that tests share: every one draws a list of groups, from which all sizes follow."""

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from cggd import ChoiceSpace


def satisfying(constraint, selections):
    """Whether each selection satisfies a constraint when it is evaluated alone: what a batch rounds is no matter."""
    values = constraint.values(selections)
    held = np.array(constraint.satisfied(values))
    for i in np.flatnonzero(np.abs(values - constraint.bound) <= 1e-9 * (1 + abs(constraint.bound))):
        held[i] = constraint.report(selections[i]).satisfied
    return held


numbers = st.integers(-4, 4).map(float) | st.floats(-100, 100).map(lambda x: round(x, 3))
durations = st.integers(0, 4).map(float) | st.floats(0, 100).map(lambda x: round(x, 3))
labels = st.integers(-3, 9) | st.text("abcxyz", max_size=3) | st.tuples(st.integers(0, 3), st.sampled_from("ab"))


def groups(options, *, most=4, largest=4, **unique):
    """A list of decisions, each a list of drawn options; one in three has decisions of one size."""
    ragged = st.lists(st.lists(options, min_size=1, max_size=largest, **unique), min_size=1, max_size=most)
    if unique:
        return ragged
    return st.tuples(ragged, st.integers(0, 2)).map(lambda pair: _uniform(pair[0]) if pair[1] == 0 else pair[0])


def _uniform(drawn):
    return [(group * len(drawn[0]))[: len(drawn[0])] for group in drawn]


def spaces():
    """Labelled choice spaces, some of one decision or with decisions of one option."""
    named = st.dictionaries(labels, st.lists(labels, min_size=1, max_size=4, unique=True), min_size=1, max_size=4)
    return named.map(ChoiceSpace)


@st.composite
def tables(draw, numbers=numbers, columns=1):
    """A choice space and `columns` flat arrays of numbers for its options."""
    drawn = draw(groups(st.tuples(*[numbers] * columns)))
    space = ChoiceSpace.from_sizes([len(group) for group in drawn])
    return space, *np.array([option for group in drawn for option in group]).T


@st.composite
def dags(draw, least):
    """An acyclic graph with durations on some nodes and edges, and its places: nodes and edges in a random order.

    It has at least one node for each entry of `least`; some nodes are isolated.
    """
    fixed = [None] * len(least) + draw(st.lists(st.none() | durations, max_size=4))
    number = st.integers(0, len(fixed) - 1)
    rank = draw(st.permutations(range(len(fixed))))
    graph = nx.DiGraph()
    for v, duration in enumerate(fixed):
        graph.add_node(f"v{v}", **({} if duration is None else {"duration": duration}))
    for u, v, duration in draw(st.lists(st.tuples(number, number, st.none() | durations), max_size=12)):
        if u != v:
            first, last = (u, v) if rank[u] < rank[v] else (v, u)
            graph.add_edge(f"v{first}", f"v{last}", **({} if duration is None else {"duration": duration}))
    return graph, draw(st.permutations([*graph.nodes, *graph.edges]))
