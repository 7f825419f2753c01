"""The comparison as one command: ``python -m benchmarks.penalties [--quick] [--out DIR] [--docs FILE]``."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.markdown import insert
from benchmarks.penalties.compare import (
    ANSWERS,
    DEFAULTS,
    HARDCORE,
    HDX,
    ONE_START,
    OPPONENTS,
    OWN,
    PENALISED,
    RESCALES,
    TUNED,
    UNTUNED,
    Answer,
    Run,
    Score,
    guided,
    has_cooper,
    opponents,
    scores,
    tuned,
)
from benchmarks.penalties.losses import PENALTIES
from benchmarks.penalties.settings import SIZE_FILE, Setting, every, sizes, topology

MARK = "penalties"

# What the comparison is to show: a mean regret of at most this share of the strongest opponent's.
TARGET = 0.5

# Mean regrets that print alike are alike.
SAME = 5e-3

MEANINGS = {
    "end": "Opponents answer with the arg max at the end of the run, as their papers do",
    "late third": "Opponents answer with the best feasible arg max of the last third of the run",
    "whole run": "Opponents answer with the best feasible arg max of the whole run, as cggd does",
}

REASONS = (
    "One start is one untuned run, set against the best of many tunings of an opponent, chosen in hindsight. An answer "
    "from the whole run lets an opponent keep what it met while the temperature was high. No method sees the judged "
    "accuracy: 12 epochs rank the best selections otherwise than 200, so that less regret of the one need not be less "
    "of the other."
)


@dataclass(frozen=True)
class Results:
    """All runs of every method on every setting."""

    settings: list[Setting]
    runs: list[Run]

    def of(self, setting: str, method: str) -> list[Run]:
        """The runs of one method on one setting."""
        return [run for run in self.runs if run.setting == setting and run.method == method]

    def best(self, setting: str, method: str, answer: str) -> Score | None:
        """The best tuning of a method, or None where it was not run."""
        runs = self.of(setting, method)
        return tuned(runs, answer) if runs else None

    def rescales(self) -> dict[str, list[Score]]:
        """The scan of R with one start of the paper's rule: scores of some settings by increasing R."""
        names = [setting.name for setting in self.settings[::2][:3]]
        runs = {name: [run for run in self.of(name, TUNED) if run.tuning.kind == UNTUNED.kind] for name in names}
        return {name: scores(of, "end") for name, of in runs.items()}


def compare(*, quick: bool = False) -> Results:
    """Run everything; `quick` takes every fourth setting, three seeds, every second weight and every second R."""
    settings = topology() + (sizes() or [])
    seeds, weights, rescales = range(10), slice(None), RESCALES
    if quick:
        settings, seeds, weights, rescales = settings[::4], range(3), slice(None, None, 2), RESCALES[1::2]
    runs: list[Run] = []
    for setting in settings:
        print(f"penalties: {setting.name}", file=sys.stderr)
        runs += opponents(setting, seeds, weights)
        runs += guided(setting, seeds, rescales)
    return Results(settings, runs)


# -- tables -----------------------------------------------------------------------------------------------------------


def tables(results: Results) -> str:
    """The comparison in Markdown."""
    parts = _words(results)
    for answer, meaning in MEANINGS.items():
        parts += [f"**{meaning}**", _by_method(results, answer)]
    parts += ["**Against the best tuned penalty of each setting**", _target(results)]
    parts += ["**Where an opponent is ahead**", REASONS, _losses(results)]
    parts += ["**One start with other values of R**", _rescales(results)]
    parts += ["**The losses**", _formulas()]
    return "\n\n".join(parts)


def _words(results: Results) -> list[str]:
    seeds = len({run.seed for run in results.runs})
    tunings = {
        method: len({run.tuning for run in results.runs if run.method == method}) for method in (PENALISED[0], TUNED)
    }
    words = [
        f"Cells: share of the {seeds} seeds that satisfy the bounds; mean regret of the searched accuracy, in points "
        "below the best feasible selection; in brackets that of the accuracy that judges. The topology space is "
        "searched by 12-epoch validation accuracy and judged by 200-epoch test accuracy; the size space has 90-epoch "
        "test accuracy alone, which is searched and judges. Means are over the runs that satisfy the bounds.",
        "One loop for all: 600 steps with the task gradient, temperatures, step sizes and random numbers of a start of "
        "`cggd.minimize`. An opponent sees the replacement tables of every cost at every step, cggd those of violated "
        "bounds alone. Expected costs are exact for sums; for other tables they, and their gradients, come from the "
        "replacement tables at the sampled selection.",
        f"For each setting an opponent has the best of its tunings ({tunings[PENALISED[0]]} for a penalty), chosen in "
        "hindsight on the same seeds: weights over four decades (dual rates for Cooper), gradients as cggd takes them "
        "or through the softmax, and for penalties gradients cut to a root mean square of 2.2 or not.",
        "HDX changes the task gradient by the least that lets the exceeded expected costs, as shares of their bounds, "
        "fall by its pull; p is scanned. The HardCoRe-NAS-like method moves the probabilities, drawn at a temperature "
        "of 1, toward vertices of the polytope of expected costs, and answers with its own discretisation, made before "
        "every fourth step; its largest step is scanned, with the last gradient and with a mean. Neither is one of the "
        "penalties below.",
        f"`{ONE_START}` is one untuned run without polish, and `{TUNED}` the best of {tunings[TUNED]} tunings of it "
        f"(R, and the two kinds of starts), chosen likewise. `{DEFAULTS}` is `cggd.maximize` as it comes: more "
        "look-ups than one run of an opponent, fewer than its scan.",
    ]
    if flat := [s.name for s in results.settings if np.ptp(every(s.objective)[s.feasible]) == 0]:
        words.append(
            f"Under {', '.join(flat)} every feasible selection has the same accuracy (no path of the cell carries "
            "anything), so that only satisfaction counts there."
        )
    if not has_cooper():
        words.append("Cooper is missing: torch or cooper-optim is not installed.")
    if sizes() is None:
        words.append(f"The size space is missing: no {SIZE_FILE} in the folder that CGGD_DATA names.")
    return words


def _by_method(results: Results, answer: str) -> str:
    rows = []
    for setting in results.settings:
        found = [results.best(setting.name, method, answer) for method in (*OPPONENTS, *OWN)]
        rows.append((setting.name, *("not run" if score is None else str(score) for score in found)))
    return _markdown(("setting", *OPPONENTS, *OWN), rows)


def _target(results: Results) -> str:
    """Whether cggd satisfies every seed with at most half the regret, for each kind of answer."""
    rows = []
    for setting in results.settings:
        strongest: dict[str, tuple[str, Score]] = {}
        for answer in ANSWERS:
            found = {name: tuned(results.of(setting.name, name), answer) for name in PENALISED}
            strongest[answer] = min(found.items(), key=lambda item: item[1].rank)
        row = [
            setting.name,
            f"{setting.feasible.mean():.0%}",
            *(f"{name} {score}" for name, score in strongest.values()),
        ]
        for own in OWN:
            mine = tuned(results.of(setting.name, own), "end")
            met = [a for a, (_, s) in strongest.items() if mine.satisfied == 1 and mine.regret <= TARGET * s.regret]
            row.append(f"{mine}; half of: {', '.join(met) or 'none'}")
        rows.append(row)
    return _markdown(("setting", "feasible", *(f"best, {answer}" for answer in ANSWERS), *OWN), rows)


def _losses(results: Results) -> str:
    """Every case in which an opponent satisfies more seeds, or as many with less regret of either accuracy."""
    rows = []
    for setting, own, answer in product(results.settings, OWN, ANSWERS):
        mine = tuned(results.of(setting.name, own), "end")
        found = {name: score for name in OPPONENTS if (score := results.best(setting.name, name, answer))}
        for which in ("searched", "judged") if setting.judge is not setting.objective else ("searched",):
            ahead = [f"{name} {theirs}" for name, theirs in found.items() if _ahead(theirs, mine, which)]
            if ahead:
                rows.append((setting.name, f"{own} {mine}", answer, which, "; ".join(ahead)))
    return _markdown(("setting", "cggd", "answer", "accuracy", "opponents ahead"), rows) if rows else "None."


def _ahead(theirs: Score, mine: Score, which: str) -> bool:
    regret, own = (s.regret if which == "searched" else s.test_regret for s in (theirs, mine))
    return theirs.satisfied > mine.satisfied or (theirs.satisfied == mine.satisfied and regret < own - SAME)


def _rescales(results: Results) -> str:
    found = results.rescales()
    rows = [(f"{row[0].tuning.weight:g}", *(str(score) for score in row)) for row in zip(*found.values(), strict=True)]
    return _markdown(("R", *found), rows)


def _formulas() -> str:
    rows = [(p.name, f"`{p.formula}`", p.source) for p in PENALTIES]
    rows += [
        (
            HDX,
            "`g + m`, the least m with `(g + m) . grad (E / T) >= pull` where E > T; the pull grows by 1 + p a step",
            "Hong et al., arXiv 2301.09312; we could read its abstract, and have the rule from a description of it",
        ),
        (
            HARDCORE,
            "steps `2 w / (k + 2)` of the way to the vertex of least `g . x` with E(x) <= T",
            "Nayman et al., ICML 2021; from its program, block_frank_wolfe.py; costs that are no sums are linearised",
        ),
    ]
    heads = ("method", "loss: L task, E expected cost, F cost of the arg max, T bound, w weight", "source")
    return _markdown(heads, rows)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# -- files ------------------------------------------------------------------------------------------------------------


def write_csv(results: Results, folder: Path) -> None:
    """Write ``penalties_runs.csv``, a line for each run, and ``penalties_summary.csv``, one for each best tuning."""
    keys = ("satisfied", "regret", "test_regret")
    with open(folder / "penalties_runs.csv", "w", newline="", encoding="utf-8") as file:
        heads = [f"{answer} {key}" for answer in ANSWERS for key in keys]
        writer = csv.writer(file)
        writer.writerow(["setting", "method", "weight", "kind", "cut", "seed", *heads])
        for run in results.runs:
            values = [_plain(run.answers[answer]) for answer in ANSWERS]
            tuning = [f"{run.tuning.weight:g}", run.tuning.kind, int(run.tuning.cut)]
            writer.writerow([run.setting, run.method, *tuning, run.seed, *(v for three in values for v in three)])
    with open(folder / "penalties_summary.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["setting", "method", "answer", "weight", "kind", "cut", *keys])
        for setting in results.settings:
            for method in (*OPPONENTS, *OWN):
                for answer in ANSWERS:
                    if (best := results.best(setting.name, method, answer)) is not None:
                        tuning = [f"{best.tuning.weight:g}", best.tuning.kind, int(best.tuning.cut)]
                        values = [f"{x:g}" for x in (best.satisfied, best.regret, best.test_regret)]
                        writer.writerow([setting.name, method, answer, *tuning, *values])


def _plain(answer: Answer) -> tuple[int, str, str]:
    return int(answer.satisfied), f"{answer.regret:g}", f"{answer.test_regret:g}"


def draw(results: Results, folder: Path) -> None:
    """Draw ``penalties_weights.png``, the scan of each method's weight, and ``penalties_rescale.png``, that of R."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    scan = results.rescales()
    figure, axes = plt.subplots(2, len(scan), figsize=(6 * len(scan), 8), layout="constrained", squeeze=False)
    for column, name in zip(axes.T, scan, strict=True):
        for method in OPPONENTS:
            # Gradients as cggd takes them, uncut: the scan of the weight alone.
            runs = [r for r in results.of(name, method) if r.tuning.kind == "advantage" and not r.tuning.cut]
            _curve(column, scores(runs, "end"), method)
        _level(column, tuned(results.of(name, ONE_START), "end"), ONE_START)
        _label(column, name, "weight, exponent or dual rate")
    figure.savefig(folder / "penalties_weights.png", dpi=110)
    plt.close(figure)
    figure, axes = plt.subplots(2, 1, figsize=(7, 8), layout="constrained")
    for name, found in scan.items():
        _curve(axes, found, name)
    _label(axes, "cggd, one start", "R")
    axes[1].set_ylim(bottom=0)
    figure.savefig(folder / "penalties_rescale.png", dpi=110)
    plt.close(figure)


def _curve(axes: Sequence, found: list[Score], label: str) -> None:
    weights = [score.tuning.weight for score in found]
    axes[0].plot(weights, [100 * score.satisfied for score in found], "o-", label=label)
    # Where no run satisfies the bounds there is no regret to draw.
    axes[1].plot(weights, [score.regret if score.satisfied else np.nan for score in found], "o-", label=label)


def _level(axes: Sequence, score: Score, label: str) -> None:
    for ax, value in zip(axes, (100 * score.satisfied, score.regret), strict=True):
        ax.axhline(value, color="black", linewidth=2, label=label)


def _label(axes: Sequence, title: str, weight: str) -> None:
    for ax, what in zip(axes, ("runs that satisfy the bounds, %", "mean regret of those, points"), strict=True):
        ax.set_xscale("log")
        ax.set(xlabel=weight, ylabel=what)
    axes[0].set(title=title, ylim=(-3, 103))
    axes[1].legend(fontsize="small")


def main(arguments: Sequence[str] = ()) -> None:
    """Run the comparison, and write its tables, CSV files and plots."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.penalties", description="cggd against penalty losses on the NATS tables"
    )
    parser.add_argument("--quick", action="store_true", help="three settings, three seeds, every second weight")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of CSV files (default: out)")
    parser.add_argument(
        "--docs", type=Path, help="Markdown file whose marked part takes the tables; plots go beside it"
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    results = compare(quick=options.quick)
    write_csv(results, options.out)
    draw(results, options.docs.parent if options.docs else options.out)
    text = tables(results)
    insert(text, options.docs or options.out / "penalties.md", MARK)
    print(text)
