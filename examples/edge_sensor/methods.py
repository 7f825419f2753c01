"""How a network is chosen for a budget: by the search, by hand, or at random. All are trained and tested alike."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cggd import Constraint, Function
from cggd_nas import Costs, Supernet, UniformPath, collect, extract, grow, retrain, search
from cggd_nas.candidates import judge, within
from cggd_nas.learners import CLIP
from cggd_nas.measure import BYTES_PER_KB, macs, peak_memory, size_kb
from cggd_nas.spaces import conv1d
from examples.edge_sensor import data
from examples.edge_sensor.deploy import export_int8, file_kb, memory_kb
from examples.edge_sensor.handmade import families

EXAMPLE = torch.zeros(1, 1, data.WINDOW)

# What a file of a network of the space needs beside its weights, in bytes: in all, for each convolution and each of its
# channels, for a maximum that shortens, and for the pooling at the end. Least squares on 24 files, which are off by 16
# bytes at the most; the first number is 30 larger than theirs, so that no file exceeds its budget.
REST, CONVOLUTION, CHANNEL, POOL = 710, 249.4, 5.09, 150.6
POOLING = {"mean": 0, "max": -58, "rms": 12}

# The space: depthwise layers, without which 16 kB hold too little; shortened by 8 first, as 6 kB of memory ask for;
# layers to leave out, as 1000 batches are few for the deepest networks.
LAYERS = 8
FIRST_KERNELS, SEPARABLE_KERNELS = (33, 65), (9, 17, 33, 65, 129)
CHANNELS, STRIDES = (16, 24, 32, 48, 64), (8, 2, 2, 2)

# Bytes of a number that no integer operator computes, and of one that does.
FLOAT_BYTES, INT8_BYTES = 4, 1


@dataclass(frozen=True)
class Budget:
    """Room on the device: kB of the file, and kB of activations."""

    size: float
    memory: float

    def __str__(self) -> str:
        return f"{self.size:g}/{self.memory:g}"


# The first is that of the CONNAS paper (ICLR 2026).
BUDGETS = (Budget(64, 18), Budget(32, 9), Budget(16, 6))


@dataclass(frozen=True)
class Effort:
    """How long everything takes.

    Attributes
    ----------
    warmup, epochs, batches : int
        Batches in which the supernet's weights alone learn; then epochs of the search, and batches of each.
    drawn, judged : int
        Architectures of each depth that shared weights judge after the search, and how many of them are drawn.
    rounds : tuple of (networks, batches)
        How every method that chooses tells networks apart: so many are trained so long, and the best go on.
    full : int
        Batches of the training that is tested.
    val_step, test_step : int
        Samples from one window to the next.
    """

    warmup: int = 5000
    epochs: int = 10
    batches: int = 100
    drawn: int = 40
    judged: int = 100
    rounds: tuple[tuple[int, int], ...] = ((15, 200), (3, 500))
    full: int = 1000
    val_step: int = 128
    test_step: int = 512

    @property
    def candidates(self) -> int:
        """Networks in the first round."""
        return self.rounds[0][0]


QUICK = Effort(
    warmup=4, epochs=3, batches=4, drawn=2, judged=6, rounds=((2, 5),), full=20, val_step=2048, test_step=2048
)

# As in `cggd_nas.search`, but for a higher rate, since there are a few hundred steps only.
ARCHITECTURE_OPTIMIZER = partial(torch.optim.Adam, lr=0.02, betas=(0.5, 0.999))
WEIGHT_OPTIMIZER = partial(torch.optim.SGD, momentum=0.9, weight_decay=5e-4, nesterov=True)
WARMUP_RATE, SEARCH_RATE = 0.05, 0.02

# Architectures are judged by shared weights with batch norms of so many batches, on every third validation window; what
# the rank of their multiply-accumulates counts beside that of their loss: a supernet, too, favours what learns fast.
CALIBRATION_BATCHES, THINNING, CAPACITY = 4, 3, 4.0

# Supernets prefer deep networks, and short trainings shallow ones: shared weights compare those of the same depth only,
# beginning with so many candidates of the search, and with draws: from those alone, steps to neighbours do not leave
# narrow first layers with pooling, which fill the memory. Seven and eight layers are too many for short trainings.
DEPTHS, STARTS = range(LAYERS // 2, LAYERS - 1), 3

# Many paths matter more to a supernet than large batches.
BATCH_SIZE, SUPERNET_BATCH_SIZE = 64, 32


@dataclass(frozen=True, eq=False)
class Chosen:
    """A network and what it is called; where shared weights judged it, their validation loss."""

    name: str
    network: nn.Module
    shared_loss: float = math.nan


# -- the space and its bounds -----------------------------------------------------------------------------------------


def supernet() -> Supernet:
    """Eight layers, of which every second one shortens the signal."""
    return collect(
        conv1d(
            kernels=(),
            first_kernels=FIRST_KERNELS,
            separable_kernels=SEPARABLE_KERNELS,
            channels=CHANNELS,
            strides=STRIDES,
            skips=True,
        )
    )


def channels_of(selection: dict[str, str]) -> list[int]:
    """Of each convolution of a network of the space, in their order."""
    found: list[int] = []
    for layer in range(1, LAYERS + 1):
        kernel = selection[f"layer{layer}.kernel"]
        if kernel.startswith("separable"):
            found += found[-1:]
        if kernel != "skip":
            found.append(int(selection[f"layer{layer - (layer % 2 == 0)}.channels"]))
    return found


def layers_of(selection: dict[str, str]) -> int:
    """The number of layers that are not left out."""
    return sum(selection[f"layer{layer}.kernel"] != "skip" for layer in range(1, LAYERS + 1))


def rest_kb(selection: dict[str, str]) -> float:
    """What the file of a network needs beside its weights."""
    channels, pools = channels_of(selection), list(selection.values()).count("pool")
    each = CONVOLUTION * len(channels) + CHANNEL * sum(channels) + POOL * pools + POOLING[selection["pooling"]]
    return (REST + each) / BYTES_PER_KB


def float_memory(selection: dict[str, str]) -> float:
    """The root mean square has no integer operator: its input is there in int8 and in single precision."""
    elements = channels_of(selection)[-1] * data.WINDOW // math.prod(STRIDES)
    return (selection["pooling"] == "rms") * elements * (FLOAT_BYTES + INT8_BYTES) / BYTES_PER_KB


def bounds(costs: Costs, budget: Budget) -> list[Constraint]:
    """What keeps the int8 file of a network of the space inside a budget."""
    space = costs.supernet.space
    return [
        costs.size_kb(bits=8) + Function(space, rest_kb, name="rest", unit="KiB") <= budget.size,
        costs.peak_memory(bits=8) <= budget.memory,
        Function(space, float_memory, name="float_memory", unit="KiB") <= budget.memory,
    ]


# -- training ---------------------------------------------------------------------------------------------------------


@cache
def signals(part: str) -> Tensor:
    """Recordings of one part, read once."""
    return data.recordings(part)


@cache
def validation(step: int) -> tuple[Tensor, Tensor]:
    """Windows by which choices are made, the same for all."""
    return data.fixed(signals("val"), step=step, snr=None, seed=1)[:2]


def drawn(batches: int, seed: int, *, size: int = BATCH_SIZE) -> data.DrawnWindows:
    """Windows to learn from."""
    return data.DrawnWindows(signals("train"), batches, size, torch.Generator().manual_seed(seed))


def trained(network: nn.Module, batches: int, effort: Effort, seed: int) -> float:
    """Train a network from scratch, in place; its loss on the validation windows."""
    x, y = validation(effort.val_step)
    return retrain(network, drawn(batches, seed), [(x, y)], 1, seed=seed).final.loss


def best_alone(candidates: Sequence[Chosen], effort: Effort, seed: int) -> tuple[str, str]:
    """The candidate of least validation loss after short trainings, each longer than the last and for fewer.

    Returns
    -------
    name : str
    losses : str
        Of each candidate the loss by shared weights, and alone in the last round that it was in.
    """
    pool = list({one.name: one for one in candidates}.values())
    losses: dict[str, float] = {}
    for number, batches in effort.rounds:
        pool = pool[:number]
        losses |= {one.name: trained(one.network, batches, effort, seed) for one in pool}
        pool.sort(key=lambda one: losses[one.name])
    shared = {one.name: one.shared_loss for one in candidates}
    return pool[0].name, ";".join(f"{shared[name]:.3f} {loss:.3f}" for name, loss in losses.items())


# -- methods: from a budget, an effort and a seed to a name ---------------------------------------------------------


def ours(budget: Budget, effort: Effort, seed: int) -> tuple[str, str]:
    """Search with the guide; from what it met to neighbours of every depth; the best told apart by training alone."""
    torch.manual_seed(seed)
    net = supernet()
    net.model.load_state_dict(warmed_up(effort, seed).state)
    costs = Costs(net, EXAMPLE)
    limits = bounds(costs, budget)
    windows = validation(effort.val_step)
    result = search(
        net,
        drawn(effort.batches, seed, size=SUPERNET_BATCH_SIZE),
        windows,
        limits,
        epochs=effort.epochs,
        warmup=0,
        weight_optimizer=partial(WEIGHT_OPTIMIZER, lr=SEARCH_RATE),
        architecture_optimizer=ARCHITECTURE_OPTIMIZER,
        seed=seed,
        progress=False,
    )
    calibration, operations = list(drawn(CALIBRATION_BATCHES, seed)), costs.macs()
    part = [(windows[0][::THINNING], windows[1][::THINNING])]

    @cache  # what one depth has met, the next may meet again
    def shared(selection: tuple[int, ...]) -> float:
        return -judge(net, selection, calibration, part, functional.cross_entropy).loss

    depth = Function(net.space, layers_of, name="layers")
    number, best = math.ceil(effort.candidates / len(DEPTHS)), list[Chosen]()
    for most in DEPTHS:
        starts = [way for one in result.candidates[:STARTS] for way in shortened(net, one.selection, most)]
        starts += itertools.islice(draws(net, limits, most, seed), effort.drawn)
        grown = grow(
            net.space,
            [*limits, depth <= most],
            starts,
            shared,
            effort.judged,
            capacity=lambda selection: float(operations(np.array(selection))),
            weight=CAPACITY,
        )
        best += [_of(net, net.space.labels(np.array(selection)), -minus) for selection, minus in grown[:number]]
    return best_alone(best, effort, seed)


def shortened(net: Supernet, selection: dict, most: int) -> list[NDArray[np.int64]]:
    """A network of the space with layers left out in all ways that leave so many."""
    kernels = [f"layer{layer}.kernel" for layer in range(2, LAYERS + 1, 2)]
    ways = itertools.combinations(kernels, LAYERS - most)
    return [net.space.indices({**selection, **dict.fromkeys(way, "skip")}) for way in ways]


@dataclass(frozen=True, eq=False)
class Warm:
    """A supernet's weights, and the CPU seconds that they took."""

    state: dict[str, Tensor]
    seconds: float


@cache
def warmed_up(effort: Effort, seed: int) -> Warm:
    """A supernet whose weights learnt on paths drawn evenly; no bound matters to it, so that one serves all budgets."""
    began = time.process_time()
    torch.manual_seed(seed)
    net = supernet()
    net.relax(UniformPath())
    net.model.train()
    optimizer = WEIGHT_OPTIMIZER(net.weights(), lr=WARMUP_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, WARMUP_RATE, effort.warmup, pct_start=0.1)
    for x, y in drawn(effort.warmup, seed, size=SUPERNET_BATCH_SIZE):
        optimizer.zero_grad()
        functional.cross_entropy(net.model(x), y).backward()
        nn.utils.clip_grad_norm_(net.weights(), CLIP)
        optimizer.step()
        schedule.step()
    return Warm(net.model.state_dict(), time.process_time() - began)


def random(budget: Budget, effort: Effort, seed: int) -> tuple[str, str]:
    """The first feasible architecture that is drawn."""
    return random_candidates(budget, 1, seed)[0].name, ""


def random_best(budget: Budget, effort: Effort, seed: int) -> tuple[str, str]:
    """The best of several feasible architectures drawn, told apart by the same short training."""
    return best_alone(random_candidates(budget, effort.candidates, seed), effort, seed)


def random_candidates(budget: Budget, number: int, seed: int) -> list[Chosen]:
    """Architectures drawn uniformly among the feasible ones."""
    torch.manual_seed(seed)
    net = supernet()
    feasible = draws(net, bounds(Costs(net, EXAMPLE), budget), LAYERS, seed)
    return [_of(net, net.space.labels(row)) for row in itertools.islice(feasible, number)]


def draws(net: Supernet, limits: Sequence[Constraint], most: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Architectures that satisfy the bounds, drawn uniformly and then cut to so many layers, without end."""
    rng = np.random.default_rng(seed)
    while True:
        ways = shortened(net, net.space.labels(net.space.sample(1, rng)[0]), most)
        row = ways[rng.integers(len(ways))]
        yield from within(limits, row[None])


def by_hand(family: str, budget: Budget, effort: Effort) -> tuple[str, str]:
    """The best variant of a family, told apart by short training: among those that fit, the most multiply-accumulates.

    It depends on no seed, as an engineer would tune once.
    """
    variants = families()[family]
    made = {name: make() for name, make in variants.items()}
    near = {n: m for n, m in made.items() if size_kb(m) <= budget.size and peak_memory(m, EXAMPLE) <= budget.memory}
    largest = sorted(near, key=lambda name: -macs(near[name], EXAMPLE))
    fitting = itertools.islice((name for name in largest if _fits(near[name], budget)), effort.candidates)
    return best_alone([Chosen(name, near[name]) for name in fitting], effort, seed=0)


def as_trained(network: nn.Module) -> nn.Module:
    """The network with batch norms as training leaves them, in place: biases of 0 would take no room in a file."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.normal_(module.bias)
    return network


def _fits(network: nn.Module, budget: Budget) -> bool:
    """Whether the file of a network fits once it is trained."""
    with TemporaryDirectory() as folder:
        path = export_int8(as_trained(network), torch.randn(2, *EXAMPLE.shape[1:]), Path(folder, "network.onnx"))
        return file_kb(path) <= budget.size and memory_kb(path) <= budget.memory


def _of(net: Supernet, selection: dict, shared_loss: float = math.nan) -> Chosen:
    return Chosen(json.dumps(selection), extract(net, selection), shared_loss)


SEARCHES: dict[str, Callable[[Budget, Effort, int], tuple[str, str]]] = {
    "ours": ours,
    "random": random,
    "random, best of several": random_best,
}


def rebuilt(method: str, name: str) -> nn.Module:
    """The network of a name, with new weights."""
    if method in SEARCHES:
        return extract(supernet(), json.loads(name))
    return families()[method][name]()


def methods() -> Sequence[str]:
    """All methods, in the order in which they run."""
    return ["ours", *families(), "random", "random, best of several"]
