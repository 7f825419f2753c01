"""The methods: cggd and its variations, penalties of the literature, a search without bounds, random networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any

from torch import nn

from cggd.constraints import Constraint
from cggd.guide.directions import Weights
from cggd_nas import Darts, GumbelSoftmax, ProxylessTwoPath, penalties
from cggd_nas.frank_wolfe import FrankWolfe
from cggd_nas.hdx import hdx
from cggd_nas.relaxations import Relaxation
from cggd_nas.training import Objective


@dataclass(frozen=True, kw_only=True)
class Guided:
    """How cggd guides the choices.

    Attributes
    ----------
    rescale, weights : see `cggd_nas.TorchGuide`
    safeguard : bool
        Whether the safeguard leads to a witness if the direction alone is not enough.
    decoupled : bool
        Whether the guide changes the optimizer's step (`TorchGuide.update`), or the gradient before it.
    """

    rescale: float = 1.2
    weights: Weights = "unit"
    safeguard: bool = True
    decoupled: bool = True


@dataclass(frozen=True, kw_only=True)
class Method:
    """A search.

    Attributes
    ----------
    guided : Guided, optional
    penalty : callable, optional
        From constraints and a weight to an objective that replaces the task loss.
    weight : float, optional
        The published weight of the penalty.
    scan : tuple of float
        Further weights.
    relaxation : callable
        From ``temperature=`` to how options mix in steps of the choices.
    mixed : bool
        Whether weights are also trained on that mixture, instead of on even paths.
    filtered : bool
        Whether the likeliest selections within the bounds are evaluated, instead of visited selections.
    random : bool
        Whether no choice is trained and the networks evaluated are random ones within the bounds.
    tabulated : bool
        Whether choices are trained by the replacement table of the loss at a random selection, as in `cggd.Descent`,
        instead of a gradient through the network.
    chooser : callable, optional
        From logits, constraints and the weight to the optimizer of the choices, instead of Adam.
    """

    guided: Guided | None = None
    penalty: Callable[[Sequence[Constraint], float], Objective] | None = None
    weight: float | None = None
    scan: tuple[float, ...] = ()
    relaxation: Callable[..., Relaxation] = ProxylessTwoPath
    mixed: bool = False
    filtered: bool = False
    random: bool = False
    tabulated: bool = False
    chooser: Callable[[Sequence[nn.Parameter], Sequence[Constraint], float], FrankWolfe] | None = None


def penalised(penalty: Callable[..., Any], name: str) -> Callable[[Sequence[Constraint], float], Objective]:
    """A penalty of `cggd_nas.penalties` whose weight is called `name`."""
    return lambda constraints, weight: penalties.penalized(constraints, partial(penalty, **{name: weight}))


def multipliers(constraints: Sequence[Constraint], weight: float) -> Objective:
    """Cooper's Lagrangian; its weight is the step of the multipliers."""
    return penalties.lagrangian(constraints, dual_rate=weight)


OURS = Method(guided=Guided())

BASELINES = {
    "darts": Method(relaxation=Darts, mixed=True, filtered=True),
    "proxyless": Method(
        penalty=penalised(penalties.proxyless_linear, "weight"),
        weight=penalties.PROXYLESS_WEIGHT,
        scan=(0.02, 2.0, 20.0),
    ),
    "proxyless_log": Method(
        penalty=penalised(penalties.proxyless_log, "beta"), weight=penalties.PROXYLESS_BETA, scan=(0.06, 6.0, 60.0)
    ),
    "fbnet": Method(penalty=penalised(penalties.fbnet, "beta"), weight=penalties.FBNET_BETA, scan=(0.06, 6.0, 20.0)),
    "tf_nas": Method(penalty=penalised(penalties.tf_nas, "weight"), weight=penalties.TF_NAS_WEIGHT, scan=(1.0, 10.0)),
    "tas": Method(penalty=penalised(penalties.tas, "weight"), weight=penalties.TAS_WEIGHT, scan=(0.2, 20.0)),
    "random": Method(random=True),
}
if find_spec("cooper") is not None:
    BASELINES["cooper"] = Method(penalty=multipliers, weight=penalties.DUAL_RATE, scan=(0.1, 1.0))

RESCALES = (1.01, 1.05, 1.5, 2.0, 5.0, 10.0)

ABLATIONS = {
    **{f"cggd R={r:g}": replace(OURS, guided=Guided(rescale=r)) for r in RESCALES},
    "cggd difference": replace(OURS, guided=Guided(weights="difference")),
    "cggd no safeguard": replace(OURS, guided=Guided(safeguard=False)),
    "cggd plain Adam": replace(OURS, guided=Guided(decoupled=False)),
    "cggd Darts": replace(OURS, relaxation=Darts, mixed=True),
    "cggd Gumbel": replace(OURS, relaxation=GumbelSoftmax),
    "cggd soft Gumbel": replace(OURS, relaxation=partial(GumbelSoftmax, hard=False)),
    "cggd own paths": replace(OURS, relaxation=GumbelSoftmax, mixed=True),
}

# Methods that are compared only by their ends, with some of the others. Their weights were the best ones under latency
# on the tables (benchmarks/penalties).
TABULATED = "cggd tables"
RIVALS = {
    "hdx": Method(penalty=lambda constraints, weight: hdx(constraints, growth=weight), weight=1.0),
    "hardcore": Method(
        chooser=lambda logits, constraints, weight: FrankWolfe(logits, constraints=constraints, largest=weight),
        weight=0.24,
        relaxation=lambda temperature: ProxylessTwoPath(),  # the logits are those of the probabilities themselves
    ),
}
ENDS = ("cggd", TABULATED, *RIVALS, "tas", "cooper")

METHODS = {"cggd": OURS, **BASELINES, **ABLATIONS, TABULATED: replace(OURS, tabulated=True), **RIVALS}
