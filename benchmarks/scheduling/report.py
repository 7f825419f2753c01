"""Tables and pictures of the comparison of schedulers.

``python -m benchmarks.scheduling.report benchmarks/results/scheduling.csv`` writes tables into
``docs/scheduling_benchmarks.md``, between marks; with ``--mark scheduling-older`` into another place there.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Any

from benchmarks.markdown import insert

if TYPE_CHECKING:
    from benchmarks.scheduling.compare import Row

MARK = "scheduling"
OURS = "cggd"

# Gaps below this count as rounding, for example of a reference that is given to three decimals.
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
    """Relative gap of a value to the best known."""
    return None if row.value is None else _share(row.value, best[row.family, row.instance])


def _share(value: float, reference: float) -> float:
    share = (value - reference) / max(abs(reference), 1e-12)
    return 0.0 if share < EQUAL else share


@dataclass(frozen=True)
class Runs:
    """The runs of one method on one instance, one for each seed."""

    rows: tuple[Row, ...]

    @property
    def value(self) -> float:
        """The median; infinite if most runs found nothing."""
        return median(inf if row.value is None else row.value for row in self.rows)

    @property
    def proved(self) -> bool:
        """Whether every run proved its value."""
        return all(row.proved for row in self.rows)

    @property
    def shown(self) -> str:
        """The median, and the least and largest value if they differ."""
        values = sorted(inf if row.value is None else row.value for row in self.rows)
        spread = f" ({_shown(values[0])} to {_shown(values[-1])})" if values[-1] > values[0] else ""
        return f"{_shown(self.value)}{spread}"


Instance = tuple[str, float, str]


def by_instance(rows: Iterable[Row]) -> dict[Instance, dict[str, Runs]]:
    """The runs of each method, by family, limit and instance."""
    found: dict[Instance, dict[str, list[Row]]] = {}
    for row in rows:
        found.setdefault((row.family, row.limit, row.instance), {}).setdefault(row.method, []).append(row)
    return {key: {name: Runs(tuple(runs)) for name, runs in methods.items()} for key, methods in found.items()}


def text(rows: Sequence[Row]) -> str:
    """A table for each family and limit: what each method reached."""
    parts, best, instances = [], references(rows), by_instance(rows)
    for family, limit in dict.fromkeys((row.family, row.limit) for row in rows):
        here = [row for row in rows if (row.family, row.limit) == (family, limit)]
        number = len({row.instance for row in here})
        lines = [
            f"**{family}**: {number} instance{'s' if number > 1 else ''}, {limit:g} s each",
            "",
            "| method | seeds | schedules found | best known reached | mean gap (seeds) | largest gap | proved "
            "| processor seconds |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for method in sorted(dict.fromkeys(row.method for row in here), key=lambda name: name != OURS):
            runs = [row for row in here if row.method == method]
            seeds = sorted({row.seed for row in runs})
            groups = [g[method] for key, g in instances.items() if key[:2] == (family, limit) and method in g]
            gaps = [_share(g.value, best[family, g.rows[0].instance]) for g in groups if g.value < inf]
            by_seed = [
                mean(of_seed)
                for seed in seeds
                if (of_seed := [g for row in runs if row.seed == seed and (g := gap(row, best)) is not None])
            ]
            spread = f" ({100 * min(by_seed):.2f} to {max(by_seed):.2%})" if len(by_seed) > 1 else ""
            shown = f"{mean(gaps):.2%}{spread} | {max(gaps):.1%}" if gaps else "- | -"
            found, reached = sum(row.value is not None for row in runs), sum(g == 0 for g in gaps)
            proved, spent = sum(g.proved for g in groups), [r.processor for r in runs if r.processor is not None]
            seconds = f"{median(spent):.2f}" if spent else "-"
            lines.append(
                f"| {method} | {len(seeds)} | {found} of {len(runs)} | {reached} | {shown} | {proved} | {seconds} |"
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def versus(rows: Sequence[Row]) -> str:
    """A table that counts, for each family and other method, the instances on which each is better or alone proves."""
    counts: dict[tuple[str, float, str], Counter[str]] = {}
    for (family, limit, _), methods in by_instance(rows).items():
        for name in methods.keys() - {OURS} if OURS in methods else ():
            mine, other = methods[OURS], methods[name]
            count = counts.setdefault((family, limit, name), Counter())
            count["won" if _better(mine, other) else "lost" if _better(other, mine) else "equal"] += 1
            count["proved"] += mine.proved and not other.proved
            count["unproved"] += other.proved and not mine.proved
    order = {name: at for at, name in enumerate(dict.fromkeys(row.method for row in rows))}
    families = {family: at for at, family in enumerate(dict.fromkeys(row.family for row in rows))}
    lines = [
        f"| family | other method | {OURS} better | equal | other better | proved by {OURS} alone | by other alone |",
        "|---|---|---|---|---|---|---|",
    ]
    for family, limit, name in sorted(counts, key=lambda key: (families[key[0]], key[1], order[key[2]])):
        shown = " | ".join(
            str(counts[family, limit, name][what]) for what in ("won", "equal", "lost", "proved", "unproved")
        )
        lines.append(f"| {family}, {limit:g} s | {name} | {shown} |")
    return "\n".join(lines)


def details(rows: Sequence[Row]) -> str:
    """A table for each family and limit: value, bound and processor seconds of each method on each instance."""
    parts, best, instances = [], references(rows), by_instance(rows)
    for family, limit in dict.fromkeys((row.family, row.limit) for row in rows):
        here = {key[2]: of for key, of in instances.items() if key[:2] == (family, limit)}
        methods = sorted(dict.fromkeys(name for of in here.values() for name in of), key=lambda name: name != OURS)
        head = ["instance", "best known", *(word for name in methods for word in (name, "bound", "s"))]
        lines = [f"**{family}**, {limit:g} s", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for instance, of in here.items():
            cells = [instance, _shown(best.get((family, instance), inf))]
            for name in methods:
                runs = of[name].rows if name in of else ()
                cells += [of[name].shown if runs else "-"]
                for key, digits in (("bound", 6), ("processor", 2)):
                    known = [number for row in runs if (number := getattr(row, key)) is not None]
                    cells.append(f"{median(known):.{digits}g}" if known else "-")
            lines.append(f"| {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def losses(rows: Sequence[Row]) -> str:
    """A table of the instances on which the median of another method is better than ours."""
    best, lines = references(rows), []
    for (family, limit, instance), methods in by_instance(rows).items():
        mine = methods.get(OURS)
        better = {name: runs for name, runs in methods.items() if mine is not None and _better(runs, mine)}
        if mine is not None and better:
            others = ", ".join(f"{name} {runs.shown}" for name, runs in better.items())
            known = _shown(best[family, instance])
            lines.append(f"| {family}, {limit:g} s | {instance} | {known} | {mine.shown} | {others} |")
    head = [f"| family | instance | best known | {OURS} | better |", "|---|---|---|---|---|"]
    return "\n".join([*head, *lines]) if lines else "None."


def unproved(rows: Sequence[Row]) -> str:
    """By family, the instances that other methods prove with every seed and cggd does not, with these methods."""
    found: dict[tuple[str, float, str], list[str]] = {}
    for (family, limit, instance), methods in by_instance(rows).items():
        if OURS in methods and not methods[OURS].proved:
            others = ", ".join(name for name, runs in methods.items() if runs.proved)
            if others:
                found.setdefault((family, limit, others), []).append(instance)
    lines = [f"- {f}, {limit:g} s, {others}: {'; '.join(which)}" for (f, limit, others), which in found.items()]
    return "\n".join(lines) or "None."


def _better(a: Runs, b: Runs) -> bool:
    """Whether the median of a is less than that of b, by more than rounding."""
    return a.value < b.value and not (b.value < inf and _share(b.value, a.value) == 0)


def _shown(value: float) -> str:
    return "nothing" if value == inf else f"{value:.6g}"


def draw(rows: Sequence[Row], path: Path) -> None:
    """Plot the mean gap of each method in each family, by the medians over the seeds."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    best, instances = references(rows), by_instance(rows)
    families = list(dict.fromkeys(row.family for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    figure, ax = plt.subplots(figsize=(11, 4.6), layout="constrained")
    for number, method in enumerate(methods):
        points = []
        for at, family in enumerate(families):
            medians = {
                key: runs[method].value for key, runs in instances.items() if key[0] == family and method in runs
            }
            gaps = [_share(value, best[family, key[2]]) for key, value in medians.items() if value < inf]
            if gaps:
                points.append((at + 0.1 * (number - len(methods) / 2), 100 * mean(gaps)))
        style: dict[str, Any] = {"color": "black", "ms": 9, "zorder": 5} if method == OURS else {"ms": 6}
        if points:
            ax.plot([x for x, _ in points], [y for _, y in points], "o", label=method, **style)
    ax.set_xticks(range(len(families)), [family.replace(" ", "\n") for family in families])
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
    parser.add_argument("--page", type=Path, default=Path("docs/scheduling_benchmarks.md"))
    parser.add_argument("--mark", default=MARK)
    options = parser.parse_args(arguments)
    rows, picture = read(options.csv), f"{options.mark.replace('-', '_')}_gaps.png"
    insert(f"{text(rows)}\n\n![mean gaps]({picture})", options.page, options.mark)
    for name, table in (("details", details), ("versus", versus), ("losses", losses), ("unproved", unproved)):
        insert(table(rows), options.page, f"{options.mark}-{name}")
    draw(rows, options.page.parent / picture)


if __name__ == "__main__":
    main()
