"""Tables and pictures of the comparison of schedulers.

``python -m benchmarks.scheduling.report out/scheduling/scheduling.csv --out docs`` writes the rows and a picture into
the folder and the tables into its ``scheduling_benchmarks.md``, between two marks.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from benchmarks.pages import insert

if TYPE_CHECKING:
    from benchmarks.scheduling.compare import Row

MARK = "scheduling"
OURS = "cggd"

# Gaps below this are rounding, such as that of a reference that is given to three decimals.
EQUAL = 2e-5


def references(rows: Iterable[Row]) -> dict[tuple[str, str], float]:
    """The best value known of each instance: that of the literature, or of any method here if it is better."""
    best: dict[tuple[str, str], float] = {}
    for row in rows:
        for value in (row.value, row.reference):
            if value is not None:
                key = (row.family, row.instance)
                best[key] = min(best.get(key, value), value)
    # A reference below what was proved here is a misprint, and the proved value counts.
    for row in rows:
        if row.proved and row.value is not None:
            best[row.family, row.instance] = max(best[row.family, row.instance], row.value)
    return best


def gap(row: Row, best: dict[tuple[str, str], float]) -> float | None:
    """Share by which a value is above the best known."""
    if row.value is None:
        return None
    reference = best[row.family, row.instance]
    share = (row.value - reference) / max(abs(reference), 1e-12)
    return 0.0 if share < EQUAL else share


def text(rows: Sequence[Row]) -> str:
    """A table for each family and limit: what each method reached."""
    parts, best = [], references(rows)
    for family, limit in dict.fromkeys((row.family, row.limit) for row in rows):
        here = [row for row in rows if (row.family, row.limit) == (family, limit)]
        instances = len({row.instance for row in here})
        lines = [
            f"**{family}**: {instances} instance{'s' if instances > 1 else ''}, {limit:g} s each",
            "",
            "| method | schedules found | best known reached | mean gap | largest gap | proved | median seconds |",
            "|---|---|---|---|---|---|---|",
        ]
        for method in sorted(dict.fromkeys(row.method for row in here), key=lambda name: name != OURS):
            runs = [row for row in here if row.method == method]
            gaps = [g for row in runs if (g := gap(row, best)) is not None]
            shown = f"{mean(gaps):.2%} | {max(gaps):.1%}" if gaps else "- | -"
            reached, proved = sum(g == 0 for g in gaps), sum(row.proved for row in runs)
            seconds = f"{median(row.seconds for row in runs):.2f}"
            lines.append(f"| {method} | {len(gaps)} of {len(runs)} | {reached} | {shown} | {proved} | {seconds} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def losses(rows: Sequence[Row]) -> str:
    """Instances on which another method's value is better than ours, one per line."""
    ours = {(r.family, r.instance, r.seed, r.limit): r.value for r in rows if r.method == OURS}
    worse: dict[tuple[str, str, float], list[str]] = {}
    for row in rows:
        mine = ours.get((row.family, row.instance, row.seed, row.limit))
        if row.method != OURS and row.value is not None and (mine is None or row.value < mine * (1 - EQUAL)):
            values = worse.setdefault((row.family, row.instance, row.limit), [f"{OURS} {_shown(mine)}"])
            values.append(f"{row.method} {_shown(row.value)}")
    lines = [f"- {family}, {name}, {limit:g} s: {', '.join(v)}" for (family, name, limit), v in worse.items()]
    return "\n".join(lines) or "None."


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.6g}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Mean gap of each method in each family, a point each."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    best = references(rows)
    families = list(dict.fromkeys(row.family for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    figure, ax = plt.subplots(figsize=(8, 4.2), layout="constrained")
    for number, method in enumerate(methods):
        points = []
        for at, family in enumerate(families):
            runs = [row for row in rows if (row.family, row.method) == (family, method)]
            gaps = [g for row in runs if (g := gap(row, best)) is not None]
            if gaps:
                points.append((at + 0.1 * (number - len(methods) / 2), 100 * mean(gaps)))
        style: dict[str, Any] = {"color": "black", "ms": 9, "zorder": 5} if method == OURS else {"ms": 6}
        if points:
            ax.plot([x for x, _ in points], [y for _, y in points], "o", label=method, **style)
    ax.set_xticks(range(len(families)), families)
    ax.set_yscale("symlog", linthresh=0.1)
    ax.set_ylim(bottom=-0.01)
    ax.set_ylabel("mean gap to the best known [%]")
    ax.grid(axis="y", color="#EEEEEE")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(ncols=3, fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    from benchmarks.scheduling.compare import read

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    options = parser.parse_args(arguments)
    rows = read(options.csv)
    page = options.out / "scheduling_benchmarks.md"
    insert(f"{text(rows)}\n\n![mean gaps](scheduling_gaps.png)", page, MARK)
    insert(losses(rows), page, f"{MARK}-losses")
    if options.csv.resolve() != (options.out / "scheduling_benchmarks.csv").resolve():
        shutil.copyfile(options.csv, options.out / "scheduling_benchmarks.csv")
    draw(rows, options.out / "scheduling_gaps.png")


if __name__ == "__main__":
    main()
