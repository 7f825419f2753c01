"""What the engine is worth, beside its opponents: ``python -m benchmarks engine [PART ...] [--quick]``.

Writes one row per run to a CSV file and tables to a Markdown file beside it. Rows of parts that are not asked for are
kept. Opponents take turns with cggd. Processes of `gap` and `blackbox` have two threads or workers, all others one.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

from benchmarks.engine import report
from benchmarks.engine.against import blackbox, gap
from benchmarks.engine.linear import KINDS, side_by_side
from benchmarks.engine.own import bert, own
from benchmarks.engine.paper import descent
from benchmarks.engine.rows import Row, Size, read, write
from benchmarks.engine.startup import startup
from benchmarks.engine.sums import feasible, million
from benchmarks.engine.supernet import supernet

RESULTS = Path(__file__).parents[1] / "results"
BEFORE, PAPER = RESULTS / "engine_before.csv", RESULTS / "descent_0.1.csv"

PARTS: dict[str, Callable[[Size], Iterator[Row]]] = {
    "own": own,
    "bert": bert,
    **{kind: partial(side_by_side, kind) for kind in KINDS},
    "feasible": feasible,
    "million": million,
    "gap": gap,
    "blackbox": blackbox,
    "supernet": supernet,
    "descent": descent,
    "import": startup,
}

TITLES = {
    "own": "The same multiple-choice knapsack by built-in sums and by metrics of a user. Gaps are to the linear bound.",
    "bert": "Largest load of BERT-3 by `minimize` with default arguments, beside HiGHS on the same linear program.",
    "squad": "15 players by position and club within a price.",
    "lineup": "Ten slots, nobody twice, within a salary.",
    "dinners": "A dish for each day between bounds on what is in it.",
    "timetable": "A section of each course, never two at once: one `Peak`.",
    "feasible": "Questions about the same sums of 8 options per decision; the seconds of `maximize` are the reference.",
    "million": "A knapsack solved to a gap of 1e-4, each in a process of its own.",
    "gap": "Generalised assignment; 2 threads or workers each; `bound off` is the distance of the claimed bound.",
    "blackbox": "Knapsacks of which only values are known; 2 threads each.",
    "supernet": "Two bounds that a third of all selections of a MobileNet-like space meet, on metrics without a form.",
    "descent": "The paper's rule alone, one start, no polishing: regret (`gap`), and trajectories beside version 0.1.",
    "import": "Seconds of a whole process.",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks engine", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; by default all")
    parser.add_argument("--tables", action="store_true", help="run nothing, write the tables of the CSV file again")
    parser.add_argument("--quick", action="store_true", help="small instances, one seed, one run; results in out/")
    parser.add_argument("--runs", type=int, default=3, help="repeats of deterministic methods; default %(default)s")
    parser.add_argument("--seeds", type=int, help="seeds of methods that use chance; by default what each part asks")
    parser.add_argument("--out", type=Path, help="CSV file; the tables go beside it. Default benchmarks/results")
    parser.add_argument("--before", type=Path, default=BEFORE, help="CSV file of an earlier run to compare with")
    asked = parser.parse_args(arguments)
    if unknown := [name for name in asked.parts if name not in PARTS]:
        parser.error(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if asked.runs < 1 or (asked.seeds is not None and asked.seeds < 1):
        parser.error("runs and seeds must be at least 1")
    out = asked.out or (Path("out/engine_quick/engine.csv") if asked.quick else RESULTS / "engine.csv")
    size = Size(asked.quick, 1 if asked.quick else asked.runs, asked.seeds)
    # A quick run has other instances, and must not be compared with a full one.
    before, paper = [] if asked.quick else read(asked.before), read(PAPER)
    for part in [name for name in PARTS if not asked.tables and (not asked.parts or name in asked.parts)]:
        found = list(PARTS[part](size))
        kept = sorted(
            [*found, *(row for row in read(out) if row.part != part)], key=lambda row: list(PARTS).index(row.part)
        )
        write(out, kept)
        print(report.section(part, kept, before, paper, TITLES[part]), end="\n\n", flush=True)
    text = f"{_head()}\n\n{report.markdown(read(out), before, paper, TITLES)}\n"
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(f"wrote {out} and {out.with_suffix('.md')}")


def _head() -> str:
    packages = ("cggd", "numpy", "scipy", "highspy", "ortools", "pymoo")
    have = ", ".join(f"{name} {found}" for name in packages if (found := _version(name)))
    return (
        "# Measures of the engine\n\n"
        "Made by `python -m benchmarks engine`. Medians, with the least and the most in brackets. Gaps are percent of "
        "the best value known, or else of the best one seen; `ratio` is to the seconds of the method that is named in "
        f"the text.\n\nPython {platform.python_version()}, {have}, {os.cpu_count()} cores."
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except ModuleNotFoundError:
        return ""
