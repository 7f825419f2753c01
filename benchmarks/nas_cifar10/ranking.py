"""From the selections that a search met to its answer: judged by shared weights first, then by training alone."""

from __future__ import annotations

import csv
import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache as remembered
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from torch.nn import functional

from benchmarks.nas_cifar10.images import Images
from benchmarks.nas_cifar10.recipe import Recipe
from benchmarks.nas_cifar10.settings import Selection, Setting
from benchmarks.nas_cifar10.training import lean
from cggd_nas import Costs, Supernet, collect, evaluate, extract, retrain
from cggd_nas.batches import Shuffled
from cggd_nas.candidates import judge


@dataclass(frozen=True)
class Answer:
    """What is left of a search's selections.

    Attributes
    ----------
    shared : tuple of int
        The best by shared weights.
    alone : tuple of int
        The best once the best were trained alone.
    judged, trained : int
        Networks judged by shared weights, and trainings alone.
    seconds : float
        CPU time, with that of trainings that another run had done before.
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
    grow: bool = True,
) -> Answer | None:
    """The best network among selections that satisfy the bounds, and their neighbours; None where there is none.

    Parameters
    ----------
    starts : iterable of selection
        At most ``recipe.judged`` of them are judged.
    grow : bool
        Whether neighbours of the best are judged too while less were judged.
    """
    began = time.process_time()
    capacity = _capacity(setting, supernet, images)
    generator = torch.Generator().manual_seed(seed)
    calibration = list(islice(Shuffled(*images.train, recipe.batch, generator), recipe.calibration))
    part = [(images.val[0][: recipe.ranking_images], images.val[1][: recipe.ranking_images])]

    def accuracy(selection: Selection) -> float:
        with lean():
            return judge(supernet, selection, calibration, part, functional.cross_entropy).accuracy

    def best_first(accuracies: dict[Selection, float]) -> list[Selection]:
        return ranked(accuracies, capacity, recipe.shared_capacity)

    judged = judged_by(setting, accuracy, best_first, starts, recipe.judged, grow=grow)
    if not judged:
        return None
    order = best_first(judged)
    shared, seconds, trainings = order[0], time.process_time() - began, 0
    for networks, epochs in recipe.rounds:
        results = {s: alone(s, setting, epochs, recipe, images, seed, cache) for s in order[:networks]}
        seconds += sum(result.seconds for result in results.values())
        trainings += len(results)
        order = ranked({s: r.accuracy for s, r in results.items()}, capacity, recipe.alone_capacity)
    return Answer(shared, order[0], len(judged), trainings, seconds)


def ranked(
    accuracies: dict[Selection, float], capacity: Callable[[Selection], float], weight: float
) -> list[Selection]:
    """Selections, the best first: by their rank of accuracy, and with a weight by that of capacity."""
    selections = list(accuracies)
    ranks = rankdata(list(accuracies.values())) + weight * rankdata([capacity(s) for s in selections])
    return [selections[place] for place in np.argsort(-ranks, kind="stable")]


def judged_by(
    setting: Setting,
    accuracy: Callable[[Selection], float],
    best_first: Callable[[dict[Selection, float]], list[Selection]],
    starts: Iterable[Selection],
    number: int,
    *,
    grow: bool,
) -> dict[Selection, float]:
    """Accuracies of up to `number` different networks: starts, then neighbours of the best that satisfy the bounds.

    Of selections that compute the same one is judged, but neighbours of all are looked at: an edge that carries nothing
    has to be set before another makes it carry something.
    """
    canonical = setting.family.canonical
    judged: dict[Selection, float] = {}
    same: dict[Selection, list[Selection]] = {}  # of each network the selections met, the one that was judged first
    met: set[Selection] = set()
    expanded: set[Selection] = set()
    waiting = list(starts)
    while len(judged) < number:
        for selection in waiting:
            network = canonical(selection)
            if selection in met or (network not in same and len(judged) == number):
                continue
            met.add(selection)
            same.setdefault(network, []).append(selection)
            if len(same[network]) == 1:
                judged[selection] = accuracy(selection)
        if not grow or not judged:
            break
        places = (selection for first in best_first(judged) for selection in same[canonical(first)])
        place = next((selection for selection in places if selection not in expanded), None)
        if place is None:
            break
        expanded.add(place)
        switches = setting.table.space.switches(np.array(place))
        waiting = [tuple(row) for row in switches.tolist() if setting.satisfied(row)]
    return judged


@dataclass(frozen=True)
class Alone:
    """A network trained alone: its accuracy on validation images, and the CPU time."""

    accuracy: float
    seconds: float


def alone(
    selection: Selection,
    setting: Setting,
    epochs: int,
    recipe: Recipe,
    images: Images,
    seed: int,
    cache: Path,
) -> Alone:
    """Train one network from scratch; what was trained before, for any search with this seed, is read from `cache`."""
    network = setting.family.canonical(selection)
    parts = [setting.family.name, recipe.alone_images, recipe.val_images, recipe.side]
    parts += [recipe.alone_channels, recipe.alone_cells]
    key = hashlib.sha256(repr([*parts, recipe.batch, epochs, seed, network]).encode()).hexdigest()[:16]
    path = cache / "alone.csv"
    if path.is_file():
        with path.open(newline="") as stored:
            for row in csv.reader(stored):
                if row[0] == key:
                    return Alone(float(row[1]), float(row[2]))
    began = time.process_time()
    with torch.random.fork_rng():
        module = extract(collect(setting.family.build(recipe.alone_channels, recipe.alone_cells)), network)
    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - missing in its overloads
    x, y = (part[: recipe.alone_images] for part in images.train)
    batches = Shuffled(x, y, recipe.batch, torch.Generator().manual_seed(seed))
    with lean():
        # Scores after each epoch are not needed, so that one image does.
        retrain(module, batches, [(x[:1], y[:1])], epochs, seed=seed)
        accuracy = evaluate(module, zip(images.val[0].split(500), images.val[1].split(500), strict=True)).accuracy
    result = Alone(accuracy, time.process_time() - began)
    with path.open("a", newline="") as stored:
        csv.writer(stored).writerow([key, result.accuracy, result.seconds])
    return result


def _capacity(setting: Setting, supernet: Supernet, images: Images) -> Callable[[Selection], float]:
    """The parameters in use of a selection; ranks are the same with other channels and cells."""
    parameters = Costs(supernet, torch.zeros(1, 3, images.side, images.side)).parameters()
    return remembered(lambda selection: parameters(np.array(setting.family.canonical(selection))))
