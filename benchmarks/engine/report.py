"""Runs side by side: medians, spreads, ratios, what is wanted, and what was measured before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.engine import linear
from benchmarks.engine.paper import compared
from benchmarks.engine.rows import MAXIMISED, SKIPPED, Row
from benchmarks.report import table

# The method whose seconds the others are divided by.
BESIDE = dict.fromkeys(linear.KINDS, "milp") | {
    "own": "Additive",
    "bert": "HiGHS",
    "feasible": "maximize",
    "import": "numpy, scipy.optimize, networkx",
}

Key = tuple[str, str, str, float | None]


@dataclass(frozen=True, eq=False)
class Group:
    """All runs of a method on an instance under one limit, and the best value seen there, for rows that know none."""

    key: Key
    rows: Sequence[Row]
    best: float | None = None

    @property
    def name(self) -> str:
        _, _, method, limit = self.key
        return method if limit is None else f"{method}, {limit:g} s"

    @property
    def seconds(self) -> list[float]:
        return sorted(row.seconds for row in self.rows if row.seconds is not None)

    @property
    def statuses(self) -> set[str]:
        return {row.status for row in self.rows}

    @property
    def gaps(self) -> list[float]:
        """Distance of the values to the best one in percent of it; infinite where a run has no value."""
        return sorted(self._off(row, row.value, row.sign) for row in self.rows)

    @property
    def bounds(self) -> list[float]:
        """Distance of the bounds to the best value in percent of it."""
        return sorted(self._off(row, row.bound, -row.sign) for row in self.rows)

    def _off(self, row: Row, number: float | None, sign: float) -> float:
        best = self.best if row.known is None else row.known
        if number is None or best is None:
            return float("inf")
        # Differences of rounding are none.
        share = sign * (number - best) / max(abs(best), 1e-12)
        return 100 * share if abs(share) > 1e-9 else 0.0


def grouped(rows: Iterable[Row], others: Iterable[Row] = ()) -> dict[Key, Group]:
    """The rows by method, instance and limit; gaps are to the best of these rows and of others."""
    rows = [row for row in rows if row.status != SKIPPED]
    best = {name: _best(group) for name, group in _by_instance([*rows, *others]).items()}
    keys = dict.fromkeys((row.part, row.instance, row.method, row.limit) for row in rows)
    return {
        key: Group(key, found, best[key[0], key[1], found[0].sign])
        for key in keys
        for found in [[r for r in rows if (r.part, r.instance, r.method, r.limit) == key]]
    }


def _by_instance(rows: Iterable[Row]) -> dict[tuple[str, str, float], list[Row]]:
    """Rows by part, instance and sign; questions with other signs have other objectives."""
    found: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        found.setdefault((row.part, row.instance, row.sign), []).append(row)
    return found


def _best(rows: Sequence[Row]) -> float | None:
    values = [row.value for row in rows if row.value is not None]
    return (max if rows[0].sign == MAXIMISED else min)(values, default=None)


# -- what is wanted ---------------------------------------------------------------------------------------------------


def _proved_within(times: float) -> Callable[[Group, Group | None, Sequence[Group]], bool]:
    """A test for a proof in so many times the seconds of the reference."""

    def test(group: Group, beside: Group | None, peers: Sequence[Group]) -> bool:
        assert beside is not None
        return group.statuses == {"OPTIMAL"} and median(group.seconds) <= times * median(beside.seconds) + 0.1

    return test


def _same(group: Group, beside: Group | None, peers: Sequence[Group]) -> bool:
    assert beside is not None
    if group.key[2] == "expression":
        return median(group.gaps) <= median(beside.gaps) + 0.1
    return [(row.value, row.bound) for row in group.rows] == [(row.value, row.bound) for row in beside.rows]


def _feasible(group: Group, beside: Group | None, peers: Sequence[Group]) -> bool:
    assert beside is not None
    if group.key[2] == "smallest_bound":
        return group.statuses == {"OPTIMAL"}
    return group.statuses == {"FEASIBLE"} and median(group.seconds) <= median(beside.seconds)


def _million(group: Group, beside: Group | None, peers: Sequence[Group]) -> bool:
    limit, row = group.key[3], group.rows[0]
    if row.seconds is None or row.memory is None or row.value is None or row.bound is None:
        return False
    late = limit is not None and row.seconds > 1.2 * limit + 0.2
    return not late and abs(row.bound - row.value) <= 1e-4 * abs(row.bound) and row.memory < 1.2


def _ahead(group: Group, beside: Group | None, peers: Sequence[Group]) -> bool:
    ours = median(group.gaps)
    return ours < float("inf") and ours <= min((median(peer.gaps) for peer in peers), default=ours) + 1e-6


@dataclass(frozen=True)
class Wanted:
    """What is wanted of some methods of a part, in words and as a test of a group, the reference and the others."""

    words: str
    methods: tuple[str, ...]
    test: Callable[[Group, Group | None, Sequence[Group]], bool]


WANTED = dict.fromkeys(
    linear.KINDS, Wanted("OPTIMAL, in at most 3 x milp + 0.1 s", ("default", "time_limit"), _proved_within(3))
) | {
    "own": Wanted(
        "the values and bounds of Additive; with an expression alone, a median gap at most 0.1 points larger",
        ("subclass", "expression"),
        _same,
    ),
    "bert": Wanted("OPTIMAL, in at most 2 x HiGHS + 0.1 s", ("default",), _proved_within(2)),
    "feasible": Wanted(
        "find_feasible FEASIBLE and no slower than maximize, smallest_bound proved",
        ("find_feasible", "smallest_bound"),
        _feasible,
    ),
    "million": Wanted("a gap of 1e-4, 1.2 GB, at most 1.2 x limit + 0.2 s", ("default", "time_limit"), _million),
    "gap": Wanted("no opponent has a lower median gap", ("cggd",), _ahead),
    "blackbox": Wanted("no opponent has a lower median gap", ("cggd",), _ahead),
    "supernet": Wanted("FEASIBLE", ("find_feasible",), lambda group, beside, peers: group.statuses == {"FEASIBLE"}),
}


# -- text -------------------------------------------------------------------------------------------------------------


def markdown(rows: Sequence[Row], before: Sequence[Row], paper: Sequence[Row], titles: Mapping[str, str]) -> str:
    """A section for each part that was measured; `before` and `paper` are earlier rows to compare with."""
    return "\n\n".join(section(p, rows, before, paper, titles[p]) for p in titles if any(r.part == p for r in rows))


def section(part: str, rows: Sequence[Row], before: Sequence[Row], paper: Sequence[Row], title: str) -> str:
    """The table of a part."""
    rows, earlier = [r for r in rows if r.part == part], [r for r in before if r.part == part]
    now, old = grouped(rows, earlier), grouped(earlier, rows)
    lines = [_line(group, now, old.get(key)) for key, group in now.items()]
    digests = {(row.instance, row.seed): row.digest for row in paper}
    for line, group in zip(lines, now.values(), strict=True):
        line["version 0.1"] = _trajectories(group, digests)
    columns = [name for name in lines[0] if any(line[name] for line in lines)] if lines else []
    parts = [f"### {part}", title]
    if part in WANTED:
        parts.append(f"Wanted: {WANTED[part].words}.")
    if lines:
        parts.append(table(columns, [[line[name] for name in columns] for line in lines]))
    parts += [f"Left out: {row.note}." for row in rows if row.status == SKIPPED]
    return "\n\n".join(parts)


def _line(group: Group, now: Mapping[Key, Group], old: Group | None) -> dict[str, str]:
    part, instance, method, limit = group.key
    beside = now.get((part, instance, BESIDE.get(part, ""), None))
    peers = [g for key, g in now.items() if key[:2] == (part, instance) and key[3] == limit and key[2] != method]
    wanted, first = WANTED.get(part), group.rows[0]
    judged = wanted is not None and method in wanted.methods
    values = [row.value for row in group.rows if row.value is not None]
    ratio = median(group.seconds) / max(median(beside.seconds), 1e-9) if beside and group.seconds else None
    return {
        "instance": instance,
        "method": group.name,
        "runs": str(len(group.rows)),
        "status": _statuses(group),
        "seconds": _spread(group.seconds, _time),
        "ratio": "" if ratio is None else f"{ratio:.2f}",
        "value": _number(median(values)) if values else "",
        "gap": _gaps(group.gaps),
        "bound off": _gaps(group.bounds),
        "calls": _spread(sorted(row.calls for row in group.rows if row.calls is not None), _number),
        "memory": "" if first.memory is None else f"{first.memory:.2f} GB",
        "as wanted": ("yes" if wanted.test(group, beside, peers) else "no") if wanted and judged else "",
        "before: status": _statuses(old) if old else "",
        "before: seconds": _spread(old.seconds, _time) if old else "",
        "before: gap": _gaps(old.gaps) if old else "",
    }


def _statuses(group: Group) -> str:
    counts = Counter(row.status for row in group.rows)
    return ", ".join(word if len(counts) == 1 else f"{n} {word}" for word, n in counts.most_common())


def _trajectories(group: Group, digests: Mapping[tuple[str, int], str]) -> str:
    pairs = [(row.digest, digests.get((row.instance, row.seed), "")) for row in group.rows if row.digest]
    counts = Counter(compared(now, then) for now, then in pairs if then)
    return "; ".join(f"{n} {words}" for words, n in counts.most_common())


def _spread(numbers: Sequence[float], text: Callable[[float], str]) -> str:
    """Median, and from least to most where there are several."""
    if not numbers:
        return ""
    middle = text(median(numbers))
    return middle if len(numbers) == 1 else f"{middle} ({text(numbers[0])} to {text(numbers[-1])})"


def _gaps(gaps: Sequence[float]) -> str:
    """Nothing where no run has a number to compare."""
    return "" if min(gaps) == float("inf") else _spread(gaps, lambda g: "none" if g == float("inf") else f"{g:.3g} %")


def _time(seconds: float) -> str:
    return f"{seconds:.3f}" if seconds < 10 else f"{seconds:.1f}"


def _number(number: float) -> str:
    if abs(number) >= 1e5:
        return f"{number:,.0f}"
    return f"{number:.3f}" if abs(number) < 10 and number % 1 else f"{number:,.6g}"
