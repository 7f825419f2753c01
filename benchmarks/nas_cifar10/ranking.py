"""The answer of a search: visited selections are evaluated with shared weights, the best also by training alone."""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks.nas_cifar10.images import Images
from benchmarks.nas_cifar10.recipe import Recipe
from benchmarks.nas_cifar10.settings import Selection, Setting
from benchmarks.nas_cifar10.training import digest, lean
from cggd_nas import Supernet, collect, evaluate, extract, grow, retrain
from cggd_nas.batches import Shuffled
from cggd_nas.candidates import judge
from cggd_nas.neighbours import best_first


@dataclass(frozen=True)
class Answer:
    """The answer of a search.

    Attributes
    ----------
    shared : tuple of int
        The best selection by shared weights.
    alone : tuple of int
        The best selection by training alone.
    judged, trained : int
        Number of networks evaluated with shared weights, and of trainings alone.
    seconds : float
        CPU time of both, also if an earlier run did them.
    """

    shared: Selection
    alone: Selection
    judged: int
    trained: int
    seconds: float


def answer(
    setting: Setting,
    supernet: Supernet,
    starts: Iterable[Selection],
    recipe: Recipe,
    images: Images,
    seed: int,
    cache: Path,
    *,
    neighbours: bool = True,
) -> Answer | None:
    """The best network among selections that satisfy the bounds and their neighbours; None if there is none.

    Parameters
    ----------
    starts : iterable of selection
        At most ``recipe.judged`` of them are evaluated.
    neighbours : bool
        Whether neighbours of the best are also evaluated, up to this number.
    """
    capacity = setting.family.capacity
    generator = torch.Generator().manual_seed(seed)
    calibration = list(islice(Shuffled(images.train, recipe.batch, generator), recipe.calibration))
    part = [(images.val[0][: recipe.ranking_images], images.val[1][: recipe.ranking_images])]
    # Methods whose choices do not affect the weights end with the same weights, and share these results.
    parts = [recipe.calibration, recipe.batch, recipe.ranking_images, seed, *map(_content, supernet.weights())]
    stored = Stored(cache / f"judged_{digest(parts)}.csv")
    spent: list[float] = []

    def accuracy(selection: Selection) -> float:
        with lean():
            result = stored.once(
                selection, lambda: judge(supernet, selection, calibration, part, functional.cross_entropy).accuracy
            )
        spent.append(result.seconds)
        return result.accuracy

    judged = grow(
        setting.table.space,
        setting.table.constraints,
        starts,
        accuracy,
        recipe.judged,
        capacity=capacity,
        weight=recipe.shared_capacity,
        canonical=setting.family.canonical,
        neighbours=neighbours,
        branches=recipe.branches,
    )
    if not judged:
        return None
    order = [selection for selection, _ in judged]
    shared, trainings = order[0], 0
    for networks, epochs in recipe.rounds:
        finalists = order[:networks]
        longer = epochs * networks // len(finalists)  # if there are fewer
        results = {s: alone(s, setting, longer, recipe, images, seed, cache) for s in finalists}
        spent += [result.seconds for result in results.values()]
        trainings += len(results)
        order = best_first({s: r.accuracy for s, r in results.items()}, capacity, recipe.alone_capacity)
    return Answer(shared, order[0], len(judged), trainings, sum(spent))


@dataclass(frozen=True)
class Scored:
    """The accuracy of a network on validation images, and the CPU time of its evaluation."""

    accuracy: float
    seconds: float


class Stored:
    """Scores in a CSV file, to which several processes may add.

    Parameters
    ----------
    path : Path
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.scores: dict[str, Scored] = {}

    def once(self, key: object, score: Callable[[], float]) -> Scored:
        """The score stored for a key; otherwise the result of `score`, which is then stored."""
        name = repr(key)
        if name not in self.scores and self.path.is_file():
            # Another process may have added it.
            with self.path.open(newline="") as lines:
                self.scores = {row[0]: Scored(*map(float, row[1:])) for row in csv.reader(lines)}
        if name not in self.scores:
            began = time.process_time()
            accuracy = score()
            self.scores[name] = found = Scored(accuracy, time.process_time() - began)
            with self.path.open("a", newline="") as lines:
                csv.writer(lines).writerow([name, found.accuracy, found.seconds])
        return self.scores[name]


def _content(weights: torch.Tensor) -> str:
    return hashlib.sha256(weights.detach().contiguous().numpy().tobytes()).hexdigest()


def alone(
    selection: Selection,
    setting: Setting,
    epochs: int,
    recipe: Recipe,
    images: Images,
    seed: int,
    cache: Path,
) -> Scored:
    """Train one network from scratch; scores of earlier searches with this seed are read from `cache`."""
    network = setting.family.canonical(selection)
    parts = [setting.family.name, recipe.alone_images, recipe.val_images, recipe.side]
    parts += [recipe.alone_channels, recipe.alone_cells, recipe.batch, epochs, seed, network]

    def score() -> float:
        with torch.random.fork_rng():
            module = extract(collect(setting.family.build(recipe.alone_channels, recipe.alone_cells)), network)
        module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - missing in its overloads
        x, y = (part[: recipe.alone_images] for part in images.train)
        batches = Shuffled((x, y), recipe.batch, torch.Generator().manual_seed(seed))
        with lean():
            # Scores after each epoch are not needed, so one image is enough.
            retrain(module, batches, [(x[:1], y[:1])], epochs, seed=seed)
            return evaluate(module, zip(images.val[0].split(500), images.val[1].split(500), strict=True)).accuracy

    return Stored(cache / "alone.csv").once(parts, score)
