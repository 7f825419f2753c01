"""Update rules against their formulas, and their guided forms."""

import numpy as np
import pytest

from cggd import Additive, ChoiceSpace, Guide, Safeguard
from cggd.guide.optimizers import SGD, Adam, Guided, Momentum

GRADIENTS = [np.array([1.0, -2.0]), np.array([0.5, 0.5]), np.array([-3.0, 1.0])]


def displacements(rule):
    state, out = rule.begin(2), []
    for gradient in GRADIENTS:
        displacement, state = rule.displace(gradient, state)
        out.append(displacement)
    return np.array(out)


def test_plain_descent():
    assert displacements(SGD(0.5)) == pytest.approx(-0.5 * np.array(GRADIENTS))


def test_momentum():
    g = np.array(GRADIENTS)
    velocity = [g[0], 0.9 * g[0] + g[1], 0.81 * g[0] + 0.9 * g[1] + g[2]]
    assert displacements(Momentum(0.1)) == pytest.approx(-0.1 * np.array(velocity))


def test_adam_as_its_paper_defines_it():
    m = v = np.zeros(2)
    expected = []
    for t, g in enumerate(GRADIENTS, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        expected.append(-0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8))
    assert displacements(Adam(0.1)) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("rule", [SGD(0.1), Momentum(0.1), Adam(0.1)], ids=["SGD", "momentum", "Adam"])
def test_guidance_is_added_to_the_displacement(rule):
    space = ChoiceSpace.from_sizes([2])
    cost = Additive(space, [0.0, 1.0])
    guided = Guided(Safeguard(Guide([cost <= 0.0], rescale=2.0)), rule)
    logits, gradient = np.array([0.0, 1.0]), np.array([0.3, -0.4])
    step, _ = guided.step(logits, gradient, guided.begin())
    plain, _ = rule.displace(gradient, rule.begin(2))
    direction = np.array([1.0, -1.0]) / np.sqrt(2)
    assert step.logits == pytest.approx(logits + plain + 2.0 * np.linalg.norm(plain) * direction)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(0), "learning_rate must be greater than 0, got 0"),
        (lambda: Momentum(0.1, 1.0), "momentum must be at least 0 and less than 1"),
        (lambda: Adam(0.1, epsilon=0), "epsilon must be greater than 0"),
    ],
)
def test_wrong_rules(make, message):
    with pytest.raises(ValueError, match=message):
        make()
