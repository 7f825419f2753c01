"""Tables and plots of what the suite measured: ``python -m benchmarks.report benchmarks/results/suite.csv --out docs``.

Writes pictures into the folder and the tables into its ``benchmarks.md``, between two marks; what else stands in that
file is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.markdown import insert
from benchmarks.runner import OPPONENTS
from benchmarks.suite import read

MARK = "suite"
OURS = "cggd"
UNABLE = "needs structure"

# Differences of gaps below this, in percent, are rounding.
EQUAL = 1e-6

# Why an opponent wins, by family.
REASONS: dict[str, str] = {
    "MMKP": "many constraints bind, and which order of a branch-and-bound meets a good selection early is luck",
    "GAP": "the gap holds too many options for a proof, and which core has the best ones is luck",
    "black box": "a replacement table costs one call per option, so few steps fit into the time",
    "random": "both lie within 0.01 % of the linear bound; which has the last few units is luck",
}


@dataclass(frozen=True)
class Run:
    """What the report reads of a row; numbers that a run did not reach are infinite."""

    family: str
    instance: str
    opponent: str
    limit: float
    gap: float
    first: float
    within_1: float
    within_01: float
    proved: bool
    unable: bool

    @property
    def feasible(self) -> bool:
        return np.isfinite(self.gap)


def runs_of(rows: Iterable[dict[str, str]]) -> list[Run]:
    def number(text: str) -> float:
        return float(text) if text else np.inf

    return [
        Run(
            row["family"],
            row["instance"],
            row["opponent"],
            float(row["limit_s"]),
            number(row["gap"]),
            number(row["first_s"]),
            number(row["within_1_s"]),
            number(row["within_01_s"]),
            row["proved"] == "True",
            row["note"] == UNABLE,
        )
        for row in rows
    ]


def markdown(runs: Sequence[Run]) -> str:
    """All tables."""
    parts = [
        "Gaps are percent of the best known value (of the linear bound on random spaces), positive where worse; a run "
        "without a feasible selection counts as infinitely bad, and so does one that never came within 1 % or 0.1 % "
        "in a median of seconds. Medians over all instances and seeds of a family."
    ]
    for family in unique(run.family for run in runs):
        parts += [f"### {family}", family_table([run for run in runs if run.family == family])]
    parts += ["### Where another one wins", wins_table(runs)]
    parts += ["### Every instance", *(instance_table(runs, limit) for limit in sorted({run.limit for run in runs}))]
    return "\n\n".join(parts) + "\n"


def family_table(runs: Sequence[Run]) -> str:
    header = ["limit", "opponent", "satisfied", "gap median", "gap quartiles", "first", "to 1 %", "to 0.1 %", "proved"]
    rows = []
    for limit, opponent, group in grouped(runs):
        if all(run.unable for run in group):
            rows.append([f"{limit:g} s", opponent, UNABLE, *[""] * 6])
            continue
        gaps = sorted(run.gap for run in group)
        # Halves without the middle one, so that infinite gaps need no arithmetic.
        low, high = median(gaps[: (len(gaps) + 1) // 2]), median(gaps[len(gaps) // 2 :])
        rows.append(
            [
                f"{limit:g} s",
                opponent,
                f"{sum(run.feasible for run in group)} of {len(group)}",
                percent(median(gaps)),
                f"{percent(low)} to {percent(high)}",
                seconds(median(run.first for run in group)),
                reached([run.within_1 for run in group]),
                reached([run.within_01 for run in group]),
                f"{sum(run.proved for run in group)}",
            ]
        )
    return table(header, rows)


def wins_table(runs: Sequence[Run]) -> str:
    """Every instance and limit where an opponent's median is better than cggd's."""
    rows = []
    for family, instance, limit in unique((run.family, run.instance, run.limit) for run in runs):
        here = [run for run in runs if (run.instance, run.limit) == (instance, limit)]
        gaps = {o: median(r.gap for r in here if r.opponent == o) for o in unique(run.opponent for run in here)}
        ours = gaps.pop(OURS, None)
        if ours is None:
            continue
        for opponent, gap in sorted(gaps.items(), key=lambda pair: pair[1]):
            if gap < ours - EQUAL:
                amount = "cggd has nothing feasible" if np.isinf(ours) else f"{ours - gap:.3f} points"
                row = [f"{limit:g} s", family, instance, opponent, percent(gap), percent(ours), amount]
                rows.append([*row, REASONS.get(family, "")])
    if not rows:
        return "None."
    return table(["limit", "family", "instance", "opponent", "its gap", "cggd's gap", "better by", "reason"], rows)


def instance_table(runs: Sequence[Run], limit: float) -> str:
    """Median gap of each opponent on each instance."""
    here = [run for run in runs if run.limit == limit]
    opponents = ordered(here)
    rows = []
    for instance in unique(run.instance for run in here):
        row = [instance]
        for opponent in opponents:
            group = [run for run in here if (run.instance, run.opponent) == (instance, opponent)]
            row.append("" if not group or group[0].unable else percent(median(run.gap for run in group)))
        rows.append(row)
    return f"Median gap after {limit:g} s:\n\n" + table(["instance", *opponents], rows)


def grouped(runs: Sequence[Run]) -> Iterator[tuple[float, str, list[Run]]]:
    """The runs by limit and opponent."""
    for limit in sorted({run.limit for run in runs}):
        for opponent in ordered(runs):
            if group := [run for run in runs if (run.limit, run.opponent) == (limit, opponent)]:
                yield limit, opponent, group


def ordered(runs: Sequence[Run]) -> list[str]:
    """Opponents in the order in which the suite lists them."""
    met = unique(run.opponent for run in runs)
    return sorted(met, key=lambda o: list(OPPONENTS).index(o) if o in OPPONENTS else len(OPPONENTS))


def unique(items: Iterable) -> list:
    return list(dict.fromkeys(items))


def percent(gap: float) -> str:
    return "none" if np.isinf(gap) else f"{gap + 0.0:.3f} %"


def seconds(number: float) -> str:
    return "never" if np.isinf(number) else f"{number:.2f} s"


def reached(numbers: Sequence[float]) -> str:
    """Median seconds, and how many runs came there at all."""
    return f"{seconds(median(numbers))} ({sum(np.isfinite(n) for n in numbers)} of {len(numbers)})"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def pictures(runs: Sequence[Run], folder: Path) -> list[Path]:
    """Gap profile and time to target, one panel per limit; opponents that cannot run an instance miss there."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    limits = sorted({run.limit for run in runs})
    paths = []
    for name, title, label in (
        ("suite_gap.png", "share of runs within a gap", "gap [%]"),
        ("suite_time.png", "share of runs within 1 % after", "seconds"),
    ):
        figure, axes = plt.subplots(1, len(limits), figsize=(5 * len(limits), 4), layout="constrained", squeeze=False)
        for ax, limit in zip(axes[0], limits, strict=True):
            here = [run for run in runs if run.limit == limit]
            for opponent in ordered(here):
                group = [run for run in here if run.opponent == opponent]
                # Gaps of 0 need a place on a logarithmic axis.
                values = [max(run.gap, 1e-3) if "gap" in name else max(run.within_1, 1e-3) for run in group]
                reached_by = np.sort([value for value in values if np.isfinite(value)])
                share = np.arange(1, len(reached_by) + 1) / len(group)
                style = {"linewidth": 2.5, "color": "black"} if opponent == OURS else {"linewidth": 1.2}
                last = 100.0 if "gap" in name else limit
                ends = np.append(reached_by, last), np.append(share, share[-1] if len(share) else 0.0)
                ax.step(*ends, where="post", label=opponent, **style)
            ax.set(xscale="log", xlabel=label, ylim=(0, 1.02), title=f"{title}, limit {limit:g} s")
        axes[0][0].legend(fontsize="small")
        paths.append(folder / name)
        figure.savefig(paths[-1], dpi=110)
        plt.close(figure)
    return paths


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    asked = parser.parse_args(arguments)
    runs = runs_of(row for path in asked.csv for row in read(path))
    if not runs:
        parser.error(f"no results in {', '.join(map(str, asked.csv))}")
    asked.out.mkdir(parents=True, exist_ok=True)
    images = "\n".join(f"![{path.stem}]({path.name})" for path in pictures(runs, asked.out))
    page = asked.out / "benchmarks.md"
    insert(f"{markdown(runs)}\n{images}", page, MARK)
    print(f"wrote {page}")


if __name__ == "__main__":
    main()
