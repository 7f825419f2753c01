"""What tests of wrong input share: a message says what is wrong, its value, and what would be right."""

import networkx as nx
import numpy as np
import pytest

from cggd import Additive, ChoiceSpace, Descent, Function, LongestPath, Metric, minimize

NAN, INF = float("nan"), float("inf")
SMALL = ChoiceSpace({"stem": ["conv3", "conv5"], "pool": ["max", "avg", "none"]})
OTHER = ChoiceSpace.from_sizes([4, 4, 4])
LAT = Additive(SMALL, [1, 2, 3, 4, 5], name="lat", unit="ms")
FAR = Additive(OTHER, np.arange(12), name="far")
BIG = ChoiceSpace.from_sizes([8] * 1000)
CHAIN = nx.DiGraph([("stem", "pool")])
FRAME = {"decision": ["a", "a", "b"], "option": ["x", "y", "z"], "ms": [1, 2, 3]}
TABLED = ChoiceSpace.from_table(FRAME)
LOGITS = np.zeros(5)


class Own(Metric):
    """A user's metric that answers whatever it is told to."""

    def __init__(self, answer, **attributes):
        self.answer, self.space, self.name, self.unit = answer, SMALL, "own", ""
        vars(self).update(attributes)

    def evaluate(self, selections):
        return self.answer(selections)


def boom(*_):
    raise OSError("device lost")


def function(answer, **options):
    return Function(SMALL, answer, name="power", **options)


def path(graph=CHAIN, values=(1, 2, 3, 4, 5), **options):
    return LongestPath(SMALL, graph, list(values), **options)


def search(**options):
    return minimize(LAT, [LAT <= 7], **{"improvers": [Descent(steps=3, starts=1)]} | options)


def case(name, make, error, *fragments):
    return pytest.param(make, error, fragments, id=name)


def told(make, error, fragments):
    """What is made raises this very error, whose message holds these fragments."""
    with pytest.raises(error) as caught:
        make()
    assert type(caught.value) is error
    missing = [fragment for fragment in fragments if fragment not in str(caught.value)]
    assert not missing, f"not in the message: {missing}\n{caught.value}"
