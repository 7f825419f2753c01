"""``python -m benchmarks.compress.recipes``: recipes from a measured table, against greedy, uniform bits and HiGHS.

The table is ``recipes/minilm.csv`` of the shared cases: tensors of a sentence encoder at 8 to 2 bits. The first problem
minimises the total damage within a number of bytes. The second has two devices with 40 % and 30 % of the bytes at 8
bits, and a cache of 12 numbers per token for each key and value tensor, in one of three formats, on the device of its
tensor. The context must be at least 8,192 tokens. The devices read 1 and 0.2 GB/s, and the total time is bounded.
"""

from __future__ import annotations

import argparse
import time
from itertools import product
from pathlib import Path

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import lil_array

from cggd_compress import Cache, FormatTable, Plan, make_recipe, plan, read_formats

TABLE, OUT = Path("../shared/cases/recipes/minilm.csv"), Path("benchmarks/results/recipes.md")
SECONDS = 30.0

NOTE = f"""Two devices and a cache, {SECONDS:g} s of time for each solver. HiGHS has one program with a variable for
each pair of an option and a cache, and stops within its absolute gap of 1e-6; a recipe's bound has no such gap:"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compress.recipes", description=__doc__)
    parser.add_argument("table", type=Path, nargs="?", default=TABLE)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args(arguments)
    table = read_formats(asked.table)
    parts = ["# Recipes from a measured table", f"{asked.table.name}; sums of damages, the least is best."]
    parts += [sums(table), NOTE, devices(table)]
    asked.out.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    print("\n\n".join(parts))


def sums(table: FormatTable) -> str:
    """A table of the damage within each bound on bytes."""
    made = plan(table)
    rows = ["| size at most | recipe | CPU s | HiGHS, as scipy calls it | greedy by damage per byte | uniform |"]
    rows.append("|---|---|---|---|---|---|")
    for bound in np.linspace(5.9e6, 20e6, 12).round(-4):
        began = time.process_time()
        found = make_recipe(made, [made.metrics["size"] <= bound]).result
        ours = f"{found.value:.6f} {'proved' if found.bound == found.value else found.status.name.lower()}"
        cells = [f"{bound / 1e6:.2f} MB", ours, f"{time.process_time() - began:.2f}"]
        cells += [_text(method(table, bound)) for method in (by_highs, greedy, uniform)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def by_highs(table: FormatTable, bound: float) -> float | None:
    """The integer linear program, by scipy's `milp` with its default tolerances."""
    flat = [(t, f) for t, formats in table.rows.items() for f in formats]
    damage, size = (np.array([table.rows[t][f][name] for t, f in flat]) for name in ("damage", "bytes"))
    one = np.array([[t == other for t, _ in flat] for other in table.rows], dtype=float)
    rows = [LinearConstraint(one, 1, 1), LinearConstraint(size[None], -np.inf, bound - table.header)]
    found = milp(damage, constraints=rows, integrality=np.ones(len(flat)), bounds=Bounds(0, 1))
    return None if found.x is None else float(damage[found.x > 0.5].sum())


def greedy(table: FormatTable, bound: float) -> float | None:
    """Start from the largest formats, and repeat the switch of least added damage per byte saved until it fits."""
    chosen = {t: max(formats.values(), key=lambda numbers: numbers["bytes"]) for t, formats in table.rows.items()}
    while sum(numbers["bytes"] for numbers in chosen.values()) + table.header > bound:
        rates = [
            ((new["damage"] - chosen[t]["damage"]) / (chosen[t]["bytes"] - new["bytes"]), t, new)
            for t, formats in table.rows.items()
            for new in formats.values()
            if new["bytes"] < chosen[t]["bytes"]
        ]
        if not rates:
            return None
        _, tensor, new = min(rates, key=lambda rate: rate[:2])
        chosen[tensor] = new
    return sum(numbers["damage"] for numbers in chosen.values())


def uniform(table: FormatTable, bound: float) -> float | None:
    """The format of least damage that fits if all tensors have it."""
    names = {f for formats in table.rows.values() for f in formats}
    alike = [[formats[f] for formats in table.rows.values()] for f in names if all(f in r for r in table.rows.values())]
    fit = [some for some in alike if sum(numbers["bytes"] for numbers in some) + table.header <= bound]
    return min((sum(numbers["damage"] for numbers in some) for some in fit), default=None)


# -- two devices and a cache ------------------------------------------------------------------------------------------

FORMATS = {"f16": (0.0, 2.0), "q8_0": (0.01, 34 / 32), "q4_0": (0.1, 18 / 32)}  # damage, bytes of a number
SPEEDS = {"gpu": 1e9, "cpu": 2e8}


def devices(table: FormatTable) -> str:
    rows = ["| ms at most | recipe | bound | CPU s | one program, HiGHS | its bound | CPU s |"]
    rows.append("|---|---|---|---|---|---|---|")
    made = two_devices(table)
    for most in (12, 16, 20, 25):
        limits = ["context >= 8192", f"ms <= {most}"]
        began = time.process_time()
        found = make_recipe(made, limits, time_limit=SECONDS).result
        middle = time.process_time()
        value, bound = one_program(made, most)
        cells = [f"{most}", _text(found.value), _text(found.bound), f"{middle - began:.1f}"]
        cells += [_text(value), _text(bound), f"{time.process_time() - middle:.1f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def two_devices(table: FormatTable) -> Plan:
    rows = {}
    for tensor, formats in table.rows.items():
        kept = 384 if "key" in tensor or "value" in tensor else 0
        rows[tensor] = {
            f: {**numbers, "cached": kept / 32} | {f"ms {d}": 1e3 * numbers["bytes"] / s for d, s in SPEEDS.items()}
            for f, numbers in formats.items()
        }
    whole = sum(max(numbers["bytes"] for numbers in formats.values()) for formats in rows.values())
    cache = Cache([4096, 8192, 16384], {name: damage for name, (damage, _) in FORMATS.items()})
    return plan(FormatTable(rows), {"gpu": 0.4 * whole, "cpu": 0.3 * whole}, cache=cache)


def one_program(made: Plan, most: float) -> tuple[float | None, float | None]:
    """The same problem for HiGHS, as one program with a variable for each pair of an option and a cache."""
    assert made.space.decisions[-1] == "cache"
    caches = [(n, f) for n, f in product((4096, 8192, 16384), FORMATS) if n >= 8192]
    flat = [(i, choice) for i, choices in enumerate(made.choices.values()) for choice in choices]
    n, k = len(flat), len(caches)
    # Variables: the option with each cache (n x k), and the cache (k).
    rows, low, high = lil_array((len(made.choices) * k + 1 + 3, n * k + k)), [], []
    for i, c in product(range(len(made.choices)), range(k)):
        for at, (owner, _) in enumerate(flat):
            if owner == i:
                rows[i * k + c, at * k + c] = 1
        rows[i * k + c, n * k + c] = -1
    low, high = [0.0] * (len(made.choices) * k) + [1.0], [0.0] * (len(made.choices) * k) + [1.0]
    base = len(made.choices) * k
    rows[base, n * k :] = 1
    cost = np.zeros(n * k + k)
    cost[n * k :] = [FORMATS[f][0] for _, f in caches]
    for (at, (_, choice)), (c, (tokens, f)) in product(enumerate(flat), enumerate(caches)):
        numbers, place = choice.numbers, at * k + c
        cost[place] = numbers["damage"]
        held = np.ceil(tokens * numbers["cached"] * FORMATS[f][1])
        rows[base + 1 + list(SPEEDS).index(choice.device), place] = numbers["bytes"] + held
        rows[base + 3, place] = numbers["ms"]
    low += [-np.inf] * 3
    high += [made.memory["gpu"], made.memory["cpu"], most]
    found = milp(
        cost, constraints=LinearConstraint(rows.tocsr(), low, high), integrality=np.ones(len(cost)),
        bounds=Bounds(0, 1), options={"time_limit": SECONDS, "mip_rel_gap": 0},
    )  # fmt: skip
    return found.fun, found.mip_dual_bound


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.6f}"


if __name__ == "__main__":
    main()
