"""The demonstration: the paper's method on the paper's search space, from data that ships with the package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cggd.constraints import Constraint
from cggd.datasets import NatsTopology, nats_topology
from cggd.improve.descent import Descent
from cggd.plotting import plot_choices, plot_search, plot_tradeoff
from cggd.plotting.pictures import load_plain_pyplot, save_picture
from cggd.printable import in_columns
from cggd.result import Result
from cggd.solve import maximize

# Mean relative loss of CONNAS against the best feasible architecture on CIFAR-10, as its paper reports it.
PAPER_LOSS = 1.08

# Points between axes and title, for legends.
TITLE_PAD = 40.0


INTRODUCTION = """\
Neural architecture search on NATS-Bench (15,625 cells, CIFAR-10) under latency and energy bounds of an edge
GPU. The search sees validation accuracy after 12 epochs; test accuracy after 200 epochs judges the result."""

LEGEND = f"""
feasible: number of cells within the bounds; satisfied: runs whose cell is within them; accuracy: mean test
accuracy of the runs; best: the best test accuracy within the bounds; loss: relative distance of accuracy
to best (in the paper {PAPER_LOSS} %); seconds: median time of a run.
"""


@dataclass(frozen=True, eq=False)
class Setting:
    """A set of bounds, the number of feasible cells, the best test accuracy among them, and the runs of the search."""

    name: str
    constraints: list[Constraint]
    feasible: int
    best: float
    accuracies: list[float]
    runs: list[Result]

    @property
    def satisfied(self) -> int:
        """Runs whose selection satisfies every constraint."""
        return sum(run.feasible for run in self.runs)

    @property
    def loss(self) -> float:
        """Mean relative loss of test accuracy against the best feasible architecture, in %."""
        return 100.0 * (1.0 - float(np.mean(self.accuracies)) / self.best)

    @property
    def seconds(self) -> float:
        """Median seconds of a run."""
        return float(np.median([run.seconds for run in self.runs]))


def settings(nats: NatsTopology) -> list[tuple[str, list[Constraint]]]:
    """The paper's three settings on CIFAR-10, and a tight one: the fastest tenth of all architectures."""
    fast, frugal = nats.latency <= 5.31, nats.energy <= 23.95
    tenth = nats.latency.quantile(0.1)
    return [
        ("latency <= 5.31 ms", [fast]),
        ("energy <= 23.95 mJ", [frugal]),
        ("latency and energy", [fast, frugal]),
        (f"latency <= {tenth:.2f} ms", [nats.latency <= tenth]),
    ]


def run(seeds: int = 10) -> list[Setting]:
    """Search every setting with a single start of the paper's rule per seed, by 12-epoch validation accuracy alone.

    As in a supernet search, there is no polish. The search does not use test accuracy, which judges its result.
    """
    nats = nats_topology()
    everything = nats.space.enumerate()
    accuracy = nats.test200.evaluate(everything)
    done = []
    for name, constraints in settings(nats):
        feasible = np.all([c.holds(everything) for c in constraints], axis=0)
        runs = [maximize(nats.val12, constraints, seed=i, improvers=[Descent(starts=1)]) for i in range(seeds)]
        found = [nats.test200(run.indices) for run in runs if run.indices is not None]
        done.append(Setting(name, constraints, int(feasible.sum()), float(accuracy[feasible].max()), found, runs))
    return done


def report(done: list[Setting]) -> str:
    """A table of the settings, and the best run of the first one."""
    rows = [["bound", "feasible", "satisfied", "accuracy", "best", "loss", "seconds"]]
    for s in done:
        accuracy, loss = (f"{np.mean(s.accuracies):.2f} %", f"{s.loss:.2f} %") if s.accuracies else ("-", "-")
        held = f"{s.satisfied} of {len(s.runs)}"
        rows.append([s.name, str(s.feasible), held, accuracy, f"{s.best:.2f} %", loss, f"{s.seconds:.2f}"])
    best = max(done[0].runs, key=lambda run: -np.inf if run.value is None else run.value)
    return "\n".join(["", *in_columns(rows), LEGEND, f"The best run under {done[0].name}:", best.summary()])


def picture(done: list[Setting], path: Path) -> None:
    """Draw what the first setting's runs found among all architectures, and how the first run went."""
    nats, first = nats_topology(), done[0]
    figure, (left, middle, right) = load_plain_pyplot().subplots(1, 3, figsize=(18, 5.5), layout="constrained")
    plot_tradeoff(nats.test200, nats.latency, ax=left, constraints=first.constraints, results=first.runs)
    left.set_ylim(80, 95)
    left.set_title(f"{len(first.runs)} runs under {first.name}", pad=TITLE_PAD)
    plot_search(first.runs[0], ax=middle)
    middle.set_title("the first run", pad=TITLE_PAD)
    plot_choices(nats.space, first.runs[0], ax=right)
    right.set_title("the cell it chose", pad=TITLE_PAD)
    save_picture(figure, path)
