"""The text formats of two classical benchmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cggd.checks import check_sense
from cggd.io.text import Sense, StrPath, fail, most_bytes, number_rows, whole
from cggd.metrics import Additive
from cggd.problem import Problem
from cggd.space import ChoiceSpace


def read_mmkp(path: StrPath, sense: Sense) -> Problem:
    r"""Read a multiple-choice multi-dimensional knapsack from the text format of Khan's instances.

    The file begins with the number n of groups, l of items per group and m of resources, and m capacities. Each group
    has a line with its number, and a line ``value weight_1 ... weight_m`` for each item. If groups differ in size, l is
    omitted or ignored, and each group begins with the number of its items.

    Parameters
    ----------
    path : str or path
    sense : {"minimize", "maximize"}
        Of the value; Khan's instances are maximised.

    Returns
    -------
    Problem
        Decisions 0, 1, ... are groups, and options 0, 1, ... their items. The objective is called ``value``; the
        constraints are ``resource 1 <= capacity`` to ``resource m <= capacity``.

    Raises
    ------
    ValueError, OSError
        If the file is not of this format, or cannot be opened.

    References
    ----------
    Khan et al., "Solving the knapsack problem for adaptive multimedia systems", Studia Informatica 2002.

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("knapsack.txt").write_text("2 2 1\n10\n1\n5 3\n9 8\n2\n2 1\n8 7\n")
    >>> problem = read_mmkp("knapsack.txt", "maximize")
    >>> problem.constraints
    (Constraint(resource 1 <= 10),)
    >>> problem.objective.maximum()
    17.0
    """
    check_sense(sense)
    rows = number_rows(path, "the numbers of groups, items and resources")
    line, header = rows.pop(0)
    if len(header) not in (2, 3):
        fail(path, line, f"expected the numbers of groups, items per group and resources, got {len(header)} numbers")
    n, *per_group, m = (whole(path, line, number) for number in header)
    capacities: list[float] = []
    while rows and len(capacities) < m:
        line, numbers = rows.pop(0)
        capacities += numbers
    if len(capacities) != m:
        end = "the file ends here; " if len(capacities) < m else ""
        fail(path, line, f"{end}expected {m} capacities, got {len(capacities)}")
    if not rows:
        fail(path, line, f"the file ends here; expected {n} groups")
    for line, numbers in rows:
        if len(numbers) not in (1, m + 1):
            fail(path, line, f"expected a value and {m} weights, {m + 1} numbers, got {len(numbers)}")
    items = np.array([numbers for _, numbers in rows if len(numbers) == m + 1]).reshape(-1, m + 1)
    # A number alone on its line begins a group, as an item has at least one weight.
    if per_group and len(items) == len(rows):
        if len(items) != n * per_group[0]:  # a header may promise more than memory holds
            fail(path, line, f"the file ends here; expected {n} groups of {per_group[0]} items, got {len(items)} items")
        sizes = per_group * n
    else:
        sizes = _sizes(path, rows, n, per_group)
    space = ChoiceSpace.from_sizes(sizes)
    value, *weights = (Additive(space, items[:, r], name=f"resource {r}" if r else "value") for r in range(m + 1))
    return Problem(value, [w <= c for w, c in zip(weights, capacities, strict=True)], sense)


def _sizes(path: StrPath, rows: list[tuple[int, list[float]]], n: int, per_group: list[int]) -> list[int]:
    """Numbers of items of groups that each begin with a line of one number."""
    starts = [i for i, (_, numbers) in enumerate(rows) if len(numbers) == 1]
    if not starts or starts[0] != 0:
        begin = "its number" if per_group else "the number of its items"
        fail(path, rows[0][0], f"expected {n} groups, each begun by a line with {begin}")
    sizes = [stop - start - 1 for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True)]
    for group, (start, size) in enumerate(zip(starts, sizes, strict=True), start=1):
        line, (number,) = rows[start]
        if group > n:
            fail(path, line, f"expected the end of the file after {n} groups, got another")
        if number != size and not ([size] == per_group and number in (group - 1, group)):
            wanted = (
                f"{per_group[0]} items, or a line with their number before them," if per_group else f"{number:g} items"
            )
            fail(path, line, f"expected {wanted} in group {group}, got {size} items below {number:g}")
        if not size:
            fail(path, line, f"group {group} has no item")
    if len(sizes) < n:
        fail(path, rows[-1][0], f"the file ends here; expected {n} groups, got {len(sizes)}")
    return sizes


def read_gap(path: StrPath, sense: Sense) -> list[Problem]:
    r"""Read generalised assignment problems from the text format of the OR-Library.

    The file has the number of problems and, for each, the number m of agents and n of jobs, m rows of n costs, m rows
    of n amounts of resource, and m capacities. Line breaks have no meaning.

    Parameters
    ----------
    path : str or path
    sense : {"minimize", "maximize"}
        The files gap1 to gap12 are maximised, gapa to gapd minimised.

    Returns
    -------
    list of Problem
        Decisions 0, 1, ... are jobs, and options 0, 1, ... agents. The objective is called ``cost``, or ``profit`` if
        it is maximised; the constraints are ``load of agent i <= capacity``, with agents counted from 0.

    Raises
    ------
    ValueError, OSError
        If the file is not of this format, or cannot be opened.

    References
    ----------
    Beasley, "OR-Library: distributing test problems by electronic mail", J. Oper. Res. Soc. 1990.

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("gap.txt").write_text("1\n2 3\n4 1 7\n5 2 3\n9 8 7\n3 2 1\n15 5\n")
    >>> (problem,) = read_gap("gap.txt", "minimize")
    >>> problem.constraints
    (Constraint(load of agent 0 <= 15), Constraint(load of agent 1 <= 5))
    >>> problem.objective([0, 0, 1])
    8.0
    """
    check_sense(sense)
    rows = number_rows(path, "the number of problems")
    numbers = np.array([number for _, row in rows for number in row])
    lines = [line for line, row in rows for _ in row]
    if not _fits(numbers, 1, numbers[0]) and _fits(numbers, 0):
        fail(path, lines[0], "expected the number of problems, got the numbers of agents and jobs; put it before them")
    problems, at = [], 1
    for number in range(1, whole(path, lines[0], numbers[0]) + 1):
        if at + 1 >= len(numbers):
            fail(path, lines[-1], f"the file ends here; expected the numbers of agents and jobs of problem {number}")
        m, n = (whole(path, lines[i], numbers[i]) for i in (at, at + 1))
        stop = at + 2 + 2 * m * n + m
        if stop > len(numbers):
            taken = f"problem {number} of {m} agents and {n} jobs takes {stop - at} numbers"
            fail(path, lines[-1], f"the file ends here; {taken}, got {len(numbers) - at}")
        costs, loads, capacities = np.split(numbers[at + 2 : stop], [m * n, 2 * m * n])
        if m * n * m * 8 > most_bytes():  # a load is a table of all options, and each agent has one
            fail(path, lines[at], f"{m} agents and {n} jobs take more memory than there is; give fewer agents")
        problems.append(_assignment(costs.reshape(m, n), loads.reshape(m, n), capacities, sense))
        at = stop
    if at < len(numbers):
        fail(path, lines[at], f"expected the end of the file after {len(problems)} problems, got {numbers[at]:g}")
    return problems


def _assignment(costs: NDArray, loads: NDArray, capacities: NDArray, sense: Sense) -> Problem:
    agents, jobs = costs.shape
    space = ChoiceSpace.from_sizes([agents] * jobs)
    objective = Additive(space, costs.T.ravel(), name="cost" if sense == "minimize" else "profit")
    tables = np.zeros((agents, jobs, agents))
    tables[range(agents), :, range(agents)] = loads
    metrics = [Additive(space, table.ravel(), name=f"load of agent {i}") for i, table in enumerate(tables)]
    return Problem(objective, [m <= c for m, c in zip(metrics, capacities.tolist(), strict=True)], sense)


def _fits(numbers: NDArray[np.float64], at: int, problems: float | None = None) -> bool:
    """Whether the numbers from a position on are those of a whole number of problems, or of `problems` of them."""
    found = 0
    while at + 1 < len(numbers):
        m, n = numbers[at : at + 2].tolist()
        if m < 1 or n < 1 or m % 1 or n % 1 or m * n > len(numbers):
            return False
        at += int(2 + 2 * m * n + m)
        found += 1
    return at == len(numbers) and problems in (None, found)
