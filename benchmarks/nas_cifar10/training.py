"""The training of weights and choices, in one loop for all methods."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.nas_cifar10.images import Images
from benchmarks.nas_cifar10.methods import Method
from benchmarks.nas_cifar10.recipe import Recipe
from benchmarks.nas_cifar10.settings import Selection, Setting
from cggd import ChoiceSpace, find_feasible
from cggd.guide.relaxation import annealed, softmax
from cggd_nas import Supernet, TorchGuide, collect
from cggd_nas.batches import Shuffled, repeated
from cggd_nas.frank_wolfe import FrankWolfe
from cggd_nas.history import skips
from cggd_nas.learners import CLIP
from cggd_nas.relaxations import Mixing
from cggd_nas.training import LATE

# Violated steps after which the safeguard leads to the witness, as in `cggd_nas.search`.
PATIENCE, NEVER = 10, 10**9


@contextlib.contextmanager
def lean() -> Iterator[None]:
    """Run convolutions in a ``with`` block in bfloat16, on processors that support it.

    Other processors emulate it, which takes twice as long as single precision. Weights change inside the block, so
    their casts must not be cached.
    """
    native = torch.cpu.get_capabilities().get("avx512_bf16", False)
    with torch.autocast("cpu", torch.bfloat16, enabled=native, cache_enabled=False):
        yield


def digest(parts: object) -> str:
    """A short name of a cache file for everything that it depends on."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


@dataclass
class EvenPaths:
    """Single paths on which every option of a decision is trained once before any is trained again.

    References
    ----------
    Chu, Zhang, Xu, "FairNAS", ICCV 2021 (whose steps also join the gradients of all options).
    """

    decks: dict[int, list[int]] = field(default_factory=dict)

    def draw(self, logits: Tensor, generator: torch.Generator | None) -> Mixing:
        deck = self.decks.setdefault(id(logits), [])
        if not deck:
            deck += torch.randperm(len(logits), generator=generator).tolist()
        return Mixing((deck.pop(),))


@dataclass(frozen=True, eq=False)
class Trained:
    """A supernet after its search.

    Attributes
    ----------
    met : dict of selection to None
        Selections of the largest logits that satisfied the bounds, in the last third of the choices' training.
    epochs : list of dict
        The trajectory.
    seconds : float
        CPU time.
    direction : float
        The guide's share of the time of the choices' training.
    """

    supernet: Supernet
    met: dict[Selection, None]
    epochs: list[dict[str, Any]]
    seconds: float
    direction: float


def trained(
    setting: Setting, method: Method, weight: float | None, recipe: Recipe, images: Images, seed: int, cache: Path
) -> Trained:
    """Run one search; its warm-up, which all methods share, is stored in `cache`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        supernet = collect(setting.family.build(recipe.channels, recipe.cells))
        return _Search(setting, method, weight, recipe, images, seed, supernet).run(cache)


class _Search:
    def __init__(
        self,
        setting: Setting,
        method: Method,
        weight: float | None,
        recipe: Recipe,
        images: Images,
        seed: int,
        supernet: Supernet,
    ) -> None:
        self.setting, self.method, self.recipe, self.seed, self.supernet = setting, method, recipe, seed, supernet
        self.model, self.constraints = supernet.model, setting.constraints(supernet.space)
        self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - missing in its overloads
        self.weights = list(supernet.weights())
        # Separate generators for choices and weights, so that the training of weights does not depend on the choices.
        self.paths, self.mixtures, order, other = (torch.Generator().manual_seed(seed) for _ in range(4))
        x, y = (part[: recipe.images] for part in images.train)
        self.train, self.val = Shuffled((x, y), recipe.batch, order), Shuffled(images.val, recipe.batch, other)
        self.optimizer = torch.optim.SGD(
            self.weights, lr=recipe.shared_rate, momentum=0.9, weight_decay=5e-4, nesterov=True
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, recipe.epochs * len(self.train))
        self.every = recipe.every * (recipe.tabulated if method.tabulated else 1)
        rate = recipe.choice_rate * (recipe.tabulated if method.tabulated else 1)
        self.chooser: torch.optim.Optimizer = torch.optim.Adam(supernet.parameters, lr=rate, betas=(0.5, 0.999))
        if method.chooser is not None:
            assert weight is not None
            self.chooser = method.chooser(supernet.parameters, self.constraints, weight)
        self.even = EvenPaths()
        self.objective = None
        if method.penalty is not None:
            assert weight is not None
            self.objective = method.penalty(self.constraints, weight)
        guided = method.guided
        safe = guided is not None and guided.safeguard
        self.guide = TorchGuide(
            supernet,
            self.constraints,
            rescale=1.2 if guided is None else guided.rescale,
            weights="unit" if guided is None else guided.weights,
            patience=PATIENCE if safe else NEVER,
            witness=find_feasible(self.constraints, seed=seed).indices if safe else None,
            broadcast=False,
        )
        self.met: dict[Selection, None] = {}
        self.guiding, self.stepping = [0.0], [0.0]
        self.chooser.step = _timed(self.chooser.step, self.stepping)

    def run(self, cache: Path) -> Trained:
        began = time.process_time() - self._warm_up(cache)
        epochs, choosing = [], time.perf_counter()
        for epoch in range(self.recipe.warmup, self.recipe.epochs):
            epochs.append(self._epoch(epoch - self.recipe.warmup))
        share = self.guiding[0] / (time.perf_counter() - choosing)
        if self.method.guided is not None and self.method.guided.safeguard:
            self.guide.settle()
        if isinstance(self.chooser, FrankWolfe):  # it makes its probabilities discrete by a linear program
            self.supernet.set_logits(one_hot(self.chooser.selection(), self.supernet.space))
        direction = share if self.method.guided else math.nan
        return Trained(self.supernet, self.met, epochs, time.process_time() - began, direction)

    def _warm_up(self, cache: Path) -> float:
        """Train weights alone on even paths; returns the CPU time, also if the result is read from the cache."""
        recipe = self.recipe
        parts = [recipe.images, recipe.val_images, recipe.side, recipe.channels, recipe.cells, recipe.warmup]
        parts += [recipe.epochs, recipe.batch, recipe.shared_rate, self.setting.family.name, self.seed]
        path = cache / f"warm_{digest(parts)}.pt"
        states = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        if not path.is_file():
            began = time.process_time()
            for _ in range(recipe.warmup):
                self._even()
                for batch in self.train:
                    self._learn(batch)
            seconds = time.process_time() - began
            kept = {name: part.state_dict() for name, part in states.items()} | {"seconds": seconds}
            partial = path.with_suffix(f".{os.getpid()}.partial")  # other processes may do the same
            torch.save(kept, partial)
            partial.replace(path)
        kept = torch.load(path, weights_only=True)
        for name, part in states.items():
            part.load_state_dict(kept[name])
        # Later draws are the same whether the warm-up was read or run.
        self.paths.manual_seed(self.seed + 1)
        self.train.generator.manual_seed(self.seed + 1)
        self.even.decks.clear()
        return kept["seconds"]

    def _even(self) -> None:
        self.supernet.relax(self.even, generator=self.paths)

    def _epoch(self, number: int) -> dict[str, Any]:
        recipe, method = self.recipe, self.method
        total = (recipe.epochs - recipe.warmup) * len(self.train)
        losses: dict[str, list[float]] = {"train": [], "val": []}
        feasible: list[bool] = []
        validation, temperature = repeated(self.val), math.nan
        for place, batch in enumerate(self.train):
            step = number * len(self.train) + place
            temperature = annealed(step, total, share=LATE)
            relaxation = method.relaxation(temperature=temperature)
            if method.mixed:
                self.supernet.relax(relaxation, generator=self.paths)
            else:
                self._even()
            losses["train"].append(self._learn(batch))
            if not method.random and place % self.every == 0:
                self.supernet.relax(relaxation, generator=self.mixtures)
                batch = next(validation)
                losses["val"].append(self._tabulate(batch, temperature) if method.tabulated else self._choose(batch))
                selection = tuple(self.supernet.indices().tolist())
                feasible.append(self.setting.satisfied(selection))
                if feasible[-1] and step >= LATE * total:
                    self.met[selection] = None
        return self._record(number, temperature, losses, feasible)

    def _record(
        self, number: int, temperature: float, losses: dict[str, list[float]], feasible: list[bool]
    ) -> dict[str, Any]:
        selection = tuple(self.supernet.indices().tolist())
        values = {c.metric.name: c.metric(np.array(selection)) for c in self.constraints}
        bounds = {f"{c.metric.name}_bound": c.bound for c in self.constraints}
        return {
            "epoch": number,
            "temperature": temperature,
            **{f"{name}_loss": float(np.mean(found)) if found else math.nan for name, found in losses.items()},
            "feasible": float(np.mean(feasible)) if feasible else math.nan,
            "satisfied": self.setting.satisfied(selection),
            "skips": skips(self.supernet),
            "architecture": "-".join(map(str, selection)),
            "accuracy": self.setting.accuracy(selection),
            "values": ";".join(f"{name}={value:g}" for name, value in (values | bounds).items()),
        }

    def _loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        with lean():
            return functional.cross_entropy(self.model(batch[0]), batch[1])

    def _learn(self, batch: tuple[Tensor, Tensor]) -> float:
        """One step of the weights."""
        _require(self.supernet.parameters, False)
        _require(self.weights, True)
        self.model.train()
        self.optimizer.zero_grad()
        loss = self._loss(batch)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, CLIP)
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def _choose(self, batch: tuple[Tensor, Tensor]) -> float:
        """One step of the choices."""
        _require(self.weights, False)
        _require(self.supernet.parameters, True)
        self.chooser.zero_grad()
        loss = self._loss(batch)
        (loss if self.objective is None else self.objective(loss, self.supernet)).backward()
        self._step()
        return loss.item()

    def _tabulate(self, batch: tuple[Tensor, Tensor], temperature: float) -> float:
        """One step of the choices by the losses of all switches of a random selection, with fixed weights."""
        space, logits = self.supernet.space, self.supernet.logits()
        probabilities = softmax(logits / temperature, space.layout)
        noise = -torch.empty(len(logits)).exponential_(generator=self.mixtures).log().double().numpy()
        drawn = space.layout.argmax(logits / temperature + noise)
        with torch.no_grad(), self.supernet.kept():
            losses = np.array([self._of(selection, batch) for selection in space.switches(drawn)])
        means = space.layout.reduce(np.add, probabilities * losses)
        advantages = losses - space.layout.spread(means)
        for parameter, part in zip(self.supernet.parameters, self.supernet.cut(advantages), strict=True):
            parameter.grad = torch.as_tensor(part).to(parameter)
        self._step()
        return float(losses[space.layout.flat(drawn)[0]])

    def _of(self, selection: NDArray[np.int64], batch: tuple[Tensor, Tensor]) -> float:
        self.supernet.select(selection)
        return self._loss(batch).item()

    def _step(self) -> None:
        """The step of the choices, guided or not."""
        guided = self.method.guided
        if guided is None:
            self.chooser.step()
        elif guided.decoupled:
            stepping = self.stepping[0]
            _timed(self.guide.update, self.guiding)(self.chooser)
            self.guiding[0] -= self.stepping[0] - stepping  # the optimizer's own step
        else:
            _timed(self.guide.modify_gradients, self.guiding)()
            self.chooser.step()


def one_hot(selection: NDArray[np.int64], space: ChoiceSpace) -> NDArray[np.float64]:
    """Logits whose largest entries are those of a selection."""
    logits = np.zeros(space.n_options)
    logits[space.layout.flat(selection)] = 1.0
    return logits


def _timed(function: Callable[..., Any], clock: list[float]) -> Callable[..., Any]:
    """The function, with its time added to a clock."""

    def run(*args: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args)
        finally:
            clock[0] += time.perf_counter() - began

    return run


def _require(parameters: list[nn.Parameter], wanted: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(wanted)
