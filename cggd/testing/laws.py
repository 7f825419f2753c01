"""Laws of metrics, directions and guides. A check raises `LawError` with a counterexample if a law does not hold.

For a metric that declares noise (`Metric.noisy`), laws that compare two evaluations are not checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from math import erf, sqrt
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from cggd.checks import short
from cggd.constraints import Constraint, check_constraints
from cggd.expressions import Expression, Program
from cggd.guide import Guide
from cggd.guide.directions import Weights
from cggd.metrics import Evaluation, Metric, State, evaluating
from cggd.space import ChoiceSpace, count

# Sums of the same numbers in another order may differ by this share.
CLOSE = 1e-7

# What a solver finds for an expression may differ from the metric by this share of the largest number.
SOLVED = 1e-5

# Largest number of options for which directions are compared with the loop over pairs.
ORACLE = 2000

# Excess, as a share of the largest number, below which rounding may decide differently in another unit.
UNCLEAR = 1e-12


class LawError(AssertionError):
    """A law does not hold; the message names the law, the selection, and what was found instead."""


def check_metric(metric: Metric, *, selections: NDArray[np.int64] | None = None, n: int = 20, seed: int = 0) -> None:
    """Check the laws of metrics; raise `LawError` if one does not hold.

    The metric returns one finite number per selection, the same number twice, alone and in a batch. It does not change
    its argument. Values lie within `limits` and the bounds of `least_with` and `minorant`. Every entry of the
    replacement table equals an evaluation, and the entry of a chosen option is the value. `local_replacements` do not
    exceed the table. Every group of `moves` switches distinct decisions to options that they have.

    Parameters
    ----------
    metric : Metric
    selections : ndarray of int, shape (n, n_decisions), optional
        By default all of a space of up to 4 n selections, or `n` random ones.
    n, seed : int

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> check_metric(Additive(ChoiceSpace.from_sizes([2, 3]), [1, 2, 3, 4, 5]))
    >>> class Wrong(Additive):
    ...     def replacements(self, selection):
    ...         return self.values
    >>> check_metric(Wrong(ChoiceSpace.from_sizes([2, 3]), [1, 2, 3, 4, 5], name="wrong"), n=1)
    Traceback (most recent call last):
    ...
    cggd.testing.laws.LawError: wrong: the replacement table must hold what a fresh evaluation gives: ...
    """
    rows = _rows(metric.space, selections, n, seed)
    with evaluating(Evaluation(fresh=True)):
        batch = _answer(metric, "evaluate", rows, len(rows))
        scale = CLOSE * float(np.abs(batch).max())
        for row, value in zip(rows, batch, strict=True):
            _check_values(metric, row, value, scale)
            _check_table(metric, row, value)
            _check_moves(metric, row)
        if metric.separable and not metric.noisy:
            _check_separable(metric, rows[0], rows[-1])


def check_expression(
    metric: Metric, *, selections: NDArray[np.int64] | None = None, n: int = 20, seed: int = 0
) -> None:
    """Check that the linear form of a metric, if it has one, equals the metric; raise `LawError` otherwise.

    At a selection, the least maximum of the linear functions over the auxiliary variables must be ``sign * metric``,
    for both signs and also with forbidden options. A sum table must add up to the metric. The parameters are those of
    `check_metric`.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace, Peak
    >>> space = ChoiceSpace.from_sizes([2, 3])
    >>> check_expression(Peak(space, [1, 2, 3, 4, 5]))
    >>> class Wrong(Peak):
    ...     def expression(self, program, sign):
    ...         return sign * program.sum([1, 2, 3, 4, 5])
    >>> check_expression(Wrong(space, [1, 2, 3, 4, 5], name="wrong"), n=1)
    Traceback (most recent call last):
    ...
    cggd.testing.laws.LawError: wrong: its expression must be the metric, but at {0: 1, 1: 1} ...
    """
    space, rng = metric.space, np.random.default_rng(seed)
    rows = _rows(space, selections, n, seed)
    with evaluating(Evaluation(fresh=True)):
        values = _answer(metric, "evaluate", rows, len(rows))
    table = metric.sum_table()
    if table is not None and not hasattr(table, "lost"):
        raise LawError(f"{metric.name}: sum_table must return a cggd.metrics.SumTable or None, got {table!r}")
    for row, value in zip(rows, values, strict=True):
        chosen = space.layout.flat(row)
        if table is not None:
            total, size = table.values[chosen].sum(dtype=float), float(np.abs(table.values[chosen]).sum(dtype=float))
            scale = CLOSE * (size + table.lost + abs(value))
            _same(metric, "its sum table must add up to the metric", row, total + table.constant, value, scale)
        for sign, some in product((1.0, -1.0), (False, True)):
            allowed = rng.random(space.n_options) < 0.5 if some else np.ones(space.n_options, dtype=bool)
            allowed[chosen] = True
            program = Program(space, allowed)
            if (expression := program.of(metric, sign)) is not None:
                least, size = _least(program, expression, chosen)
                text = "its expression must be the metric" + (" with a sign of -1" if sign < 0 else "")
                _same(metric, text, row, least, sign * value, SOLVED * max(size, abs(value)))
            if type(metric).within is not Metric.within:
                _check_within(metric, allowed, row, sign, float(value))


def _check_within(
    metric: Metric, allowed: NDArray[np.bool_], row: NDArray[np.int64], sign: float, value: float
) -> None:
    """The linear form of a bound must hold at a selection exactly if the metric is within the bound."""
    for limit in (sign * value, sign * value - 1.0, 0.0):
        program = Program(metric.space, allowed)
        form = metric.within(program, sign, limit)
        if form is None:
            continue
        least, size = _least(program, form, metric.space.layout.flat(row))
        if (least <= SOLVED * max(size, abs(limit))) != (sign * value <= limit):
            text = (
                f"its linear form of {'<=' if sign > 0 else '>='} {sign * limit:g} must hold exactly if the bound does"
            )
            raise LawError(f"{metric.name}: {text}, {_at(metric, row)}")


def _least(program: Program, expression: Expression, chosen: NDArray[np.int64]) -> tuple[float, float]:
    """The least maximum of linear functions at a selection, infinite where there is none, and their size."""
    taken = np.isin(program.open, chosen).astype(float)
    n, n_open, reach = len(program.reach), len(program.open), program.reach

    def at_selection(one: Expression) -> tuple[Any, NDArray[np.float64]]:
        matrix = one.matrix(program.n_columns)
        return matrix[:, n_open:].toarray() * reach, one.constant + matrix[:, :n_open] @ taken

    size = float(expression.size.max()) or 1.0
    coefficients, constants = at_selection(expression)
    rows = Expression.join(program.rows)
    sizes = np.where(rows.size > 0, rows.size, 1.0)
    more, limits = at_selection(rows)
    # Variables: the maximum in units of the size, then the auxiliary variables as shares of their reach.
    most = np.concatenate([-np.ones(len(constants)), np.zeros(len(sizes))])
    matrix = np.column_stack([most, np.concatenate([coefficients / size, more / sizes[:, None]])])
    upper = np.concatenate([-constants / size, -limits / sizes])
    found = milp(
        np.eye(1, n + 1)[0],
        integrality=np.append(0, reach == 1),
        bounds=cast(Any, Bounds)(np.append(-np.inf, np.zeros(n)), np.append(np.inf, np.ones(n))),
        constraints=cast(Any, LinearConstraint)(matrix, -np.inf, upper),
    )
    return (float(found.fun) * size if found.status == 0 else np.inf), size


def _rows(space: ChoiceSpace, selections: NDArray[np.int64] | None, n: int, seed: int) -> NDArray[np.int64]:
    """Selections at which a metric is checked."""
    if selections is not None:
        return space.check_selections(selections)
    return space.enumerate() if space.n_selections <= 4 * n else space.sample(n, np.random.default_rng(seed))


def check_state(metric: Metric, *, n: int = 20, seed: int = 0) -> None:
    """Check that a metric's state equals the metric after each move; raise `LawError` otherwise.

    From a random selection, `n` random moves of one to three decisions are made, and some of them are undone.

    Examples
    --------
    >>> from cggd import Additive, ChoiceSpace
    >>> check_state(Additive(ChoiceSpace.from_sizes([2, 3]), [1, 2, 3, 4, 5]))
    """
    space, rng = metric.space, np.random.default_rng(seed)
    selection, done = space.sample(1, rng)[0], []
    given = selection.copy()
    state = metric.state(given)
    given[:] = 0  # the state must not depend on later changes of its argument
    for _ in range(n):
        _check_stand(metric, state, selection, rng)
        if done and rng.random() < 1 / 3:
            state.undo()
            selection = done.pop()
            continue
        decisions = rng.permutation(space.n_decisions)[: rng.integers(1, 4)]
        moves = [(int(d), int(rng.integers(space.sizes[d]))) for d in decisions]
        state.move(moves)
        done.append(selection)
        selection = selection.copy()
        for decision, option in moves:
            selection[decision] = option
    _check_stand(metric, state, selection, rng)


def _check_stand(metric: Metric, state: State, selection: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Compare a state with its metric at a selection."""
    space = metric.space
    table, local = metric.replacements(selection), metric.local_replacements(selection)
    value, scale = float(metric.evaluate(selection[None])[0]), CLOSE * float(np.abs(table).max())
    some = rng.integers(0, space.n_options, 3)
    decision = int(rng.integers(space.n_decisions))
    option = int(rng.integers(space.sizes[decision]))
    other = selection.copy()
    other[decision] = option
    answers = [
        ("value", np.array([state.value]), np.array([value])),
        ("table", state.table(), table),
        ("local_table", state.local_table(), local),
        ("entries", state.entries(some), table[some]),
        ("value after the table", np.array([state.value]), np.array([value])),
    ]
    if (after := state.exchanges((decision, option))) is not None:
        answers.append(("exchanges", after, metric.replacements(other)))
    if state.weights is not None:
        first = space.layout.spread(state.weights[space.layout.flat(selection)])
        answers.append(("weights", state.weights - first + value, table))
    for name, said, true in answers:
        if said.shape != true.shape or np.abs(said - true).max() > scale + CLOSE * float(np.abs(true).max()):
            raise LawError(
                f"{metric.name}: a state must say what the metric says of its selection, but its {name} is {said} "
                f"instead of {true} at {_at(metric, selection)}"
            )


def _check_values(metric: Metric, row: NDArray[np.int64], value: float, scale: float) -> None:
    alone, again = (float(_answer(metric, "evaluate", row[None], 1)[0]) for _ in range(2))
    if metric.noisy:
        return
    _same(metric, "must give the same answer twice", row, alone, again, scale)
    _same(metric, "must give the same answer alone and in a batch", row, alone, value, scale)
    low, high = metric.limits()
    if not low - scale <= value <= high + scale:
        raise LawError(f"{metric.name}: limits are {low} and {high}, but the value at {_at(metric, row)} is {value}")
    chosen, everything = metric.space.layout.flat(row), np.ones(metric.space.n_options, dtype=bool)
    for sign in (1.0, -1.0):
        least = float(metric.least_with(sign, everything)[chosen].max())
        if least > sign * value + scale:
            raise LawError(
                f"{metric.name}: least_with says that {sign:g} times the value at {_at(metric, row)} is at least "
                f"{least}, but the value is {value}"
            )
        line = metric.minorant(sign, everything)
        if line is not None and float(line.values[chosen].sum()) + line.constant > sign * value + scale:
            raise LawError(f"{metric.name}: minorant exceeds {sign:g} times the value at {_at(metric, row)}, {value}")


def _check_separable(metric: Metric, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
    layout = metric.space.layout
    tables = [_answer(metric, "replacements", row, metric.space.n_options) for row in (first, second)]
    apart = tables[0] - tables[1]
    spread = layout.reduce(np.maximum, apart) - layout.reduce(np.minimum, apart)
    if spread.max() > CLOSE * float(np.abs(tables).max()):
        raise LawError(
            f"{metric.name}: says that it is separable, but its tables at {_at(metric, first)} and "
            f"{_at(metric, second)} differ by more than one number per decision"
        )


def _check_table(metric: Metric, row: NDArray[np.int64], value: float) -> None:
    space = metric.space
    table = _answer(metric, "replacements", row, space.n_options)
    parts = _answer(metric, "local_replacements", row, space.n_options)
    if (errors := metric.errors(row)) is not None and not (np.isfinite(errors) & (errors >= 0)).all():
        raise LawError(f"{metric.name}: standard errors must be at least 0 and finite, got {errors}")
    if metric.noisy:
        return
    fresh = _answer(metric, "evaluate", space.switches(row), space.n_options)
    scale = CLOSE * float(np.abs(fresh).max())
    wrong = np.flatnonzero(np.abs(table - fresh) > scale)
    if len(wrong):
        o = int(wrong[0])
        raise LawError(
            f"{metric.name}: the replacement table must hold what a fresh evaluation gives: "
            f"with {space.name_option(o)} put into {_at(metric, row)} it says {table[o]}, and evaluate says {fresh[o]}"
        )
    law = "the replacement table must hold the value at every chosen option"
    for o in space.layout.flat(row):
        _same(metric, law, row, float(table[o]), value, scale)
    if (shifted := metric.shifted(row)) is not None:
        whole = shifted.values + space.layout.spread(shifted.shift)
        if np.abs(whole - table).max() > scale:
            raise LawError(f"{metric.name}: shifted must add up to the replacement table {table}, but gives {whole}")
    over = np.flatnonzero(parts > table + scale)
    if len(over):
        o = int(over[0])
        raise LawError(
            f"{metric.name}: a part of the metric must not exceed it, but with {space.name_option(o)} put into "
            f"{_at(metric, row)} local_replacements says {parts[o]}, and replacements {table[o]}"
        )


def _check_moves(metric: Metric, row: NDArray[np.int64]) -> None:
    space = metric.space
    for switches in metric.moves(row.copy()):
        decisions = [d for d, _ in switches]
        if len(set(decisions)) < len(decisions) or not all(
            0 <= d < space.n_decisions and 0 <= o < space.sizes[d] for d, o in switches
        ):
            raise LawError(
                f"{metric.name}: a group of moves must switch distinct decisions to options that they have, but at "
                f"{_at(metric, row)} one is {list(switches)}"
            )


def _answer(metric: Metric, method: str, argument: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    before = argument.copy()
    given = argument.copy()
    answer = np.asarray(getattr(metric, method)(given))
    if not np.array_equal(given, before):
        raise LawError(f"{metric.name}: {method} must leave its argument alone, but changed {before} to {given}")
    if answer.shape != (n,) or answer.dtype.kind not in "fiu":
        raise LawError(f"{metric.name}: {method} must return {n} numbers, got {answer.dtype} of shape {answer.shape}")
    if not np.isfinite(answer).all():
        raise LawError(f"{metric.name}: {method} must return finite numbers, got {answer[~np.isfinite(answer)][0]}")
    return answer.astype(float)


def _same(metric: Metric, law: str, row: NDArray[np.int64], a: float, b: float, scale: float) -> None:
    if abs(a - b) > scale:
        raise LawError(f"{metric.name}: {law}, but at {_at(metric, row)} it says {a} and {b}")


def _at(metric: Metric, row: NDArray[np.int64]) -> str:
    return short(metric.space.labels(row), 300)


# -- directions -------------------------------------------------------------------------------------------------------


def slow_direction(
    table: NDArray[np.float64],
    limit: float,
    space: ChoiceSpace,
    weights: Weights,
    *,
    errors: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The definition of a direction as a loop over pairs of options: oracle of `cggd.guide.directions.three_case`."""
    total = np.zeros(space.n_options)
    errors = np.zeros(space.n_options) if errors is None else errors
    for first, size in zip(space.offsets[:-1].tolist(), space.sizes.tolist(), strict=True):
        options = range(first, first + size)
        satisfying = sum(table[o] <= limit for o in options)
        push = np.zeros(space.n_options)
        for j, m in product(options, options):
            crossing = table[j] <= limit < table[m]
            if satisfying == size or not (crossing if satisfying else table[j] < table[m]):
                continue
            noise = sqrt(errors[j] ** 2 + errors[m] ** 2)
            confident = erf((table[m] - table[j]) / (sqrt(2) * noise)) if noise else 1.0
            w = {"unit": 1.0, "difference": table[m] - table[j], "confidence": confident}[weights]
            push[j] += w
            push[m] -= w
        norm = np.linalg.norm(push)
        total += push / norm if weights != "difference" and norm > 0 else push
    norm = np.linalg.norm(total)
    return total / norm if norm > 0 else total


def check_direction(
    constraints: Iterable[Constraint] | Constraint, *, weights: Weights = "unit", n: int = 10, seed: int = 0
) -> None:
    """Check the laws of directions at random selections; raise `LawError` if one does not hold.

    The direction of one constraint is a unit vector, or zero if the bound is satisfied or no option helps. It equals
    the sum over pairs that defines it. It pushes no satisfying option below a violating one of the same decision. It
    does not depend on the order of options and decisions, or on the unit. The direction of all constraints together is
    the unit vector of the sum of those that are violated.
    """
    checked = check_constraints(constraints)
    rng = np.random.default_rng(seed)
    for selection in checked[0].space.sample(n, rng):
        alone = [_check_one(c, selection, weights, rng) for c in checked]
        _check_together(checked, selection, weights, alone)


def _direction(constraints: list[Constraint], selection: NDArray[np.int64], weights: Weights) -> NDArray[np.float64]:
    guide = Guide(constraints, weights=weights)
    logits = np.zeros(guide.space.n_options)
    logits[guide.space.layout.flat(selection)] = 1.0
    return guide.direction(guide.observe(logits))


def _check_one(
    c: Constraint, selection: NDArray[np.int64], weights: Weights, rng: np.random.Generator
) -> NDArray[np.float64]:
    metric, space = c.metric, c.space
    with evaluating(Evaluation()):
        direction = _direction([c], selection, weights)
        table = c.sign * c.table(selection, local=True).astype(float)
        value = c.sign * float(c.values(selection[None])[0])
    if metric.noisy and c.sign * float(c.values(selection[None])[0]) != value:
        return direction  # without a cache, the guide saw other measurements than these

    def fail(law: str) -> LawError:
        where = f"{c!r}, weights {weights!r}, at {_at(metric, selection)}"
        return LawError(f"{where}: {law}; table {_cut(table, space)}, direction {_cut(direction, space)}")

    norm = float(np.linalg.norm(direction))
    if value <= c.limit:
        if norm:
            raise fail("a constraint that is satisfied must give no direction")
        return direction
    if abs(norm - 1) > CLOSE and norm != 0:
        raise fail(f"a direction must have norm 1 or 0, got {norm}")
    errors = metric.errors(selection) if weights == "confidence" else None
    if not metric.noisy and space.n_options <= ORACLE:
        expected = slow_direction(table, c.limit, space, weights, errors=errors)
        if np.abs(direction - expected).max() > 10 * CLOSE:
            raise fail(f"a direction must be the sum over pairs that defines it, {_cut(expected, space)}")
        if norm == 0 and (c.sign * metric.replacements(selection) < value - 10 * CLOSE * abs(value)).any():
            raise fail("a direction must not be zero where a switch helps")
    satisfying = table <= c.limit
    for d, first in enumerate(space.offsets[:-1]):
        own = slice(int(first), int(space.offsets[d + 1]))
        good, bad = direction[own][satisfying[own]], direction[own][~satisfying[own]]
        if len(good) and len(bad) and good.min() < bad.max() - CLOSE:
            raise fail(f"no satisfying option may be pushed below a violating one, as in {space.decisions[d]!r}")
    if not metric.noisy:
        factor = float(2.0 ** rng.integers(-6, 7))
        scaled = Constraint(factor * metric, factor * c.bound, c.sense, c.confidence)
        beyond = np.append(table, value) - c.limit  # a batch may round otherwise than a single selection
        if not ((beyond > 0) & (beyond < UNCLEAR * np.abs(table).max())).any():
            other = _direction([scaled], selection, weights)
            if np.abs(other - direction).max() > 10 * CLOSE:
                raise fail(
                    f"another unit must not matter, but {factor} times metric and bound gives {_cut(other, space)}"
                )
        shuffled, order, moved = _shuffled(metric, selection, rng)
        other = _direction([Constraint(shuffled, c.bound, c.sense, c.confidence)], moved, weights)
        if np.abs(other - direction[order]).max() > 10 * CLOSE:
            raise fail("the order of decisions and options must not matter, but it does")
    return direction


def _check_together(
    constraints: list[Constraint], selection: NDArray[np.int64], weights: Weights, alone: list[NDArray[np.float64]]
) -> None:
    if any(c.metric.noisy for c in constraints):
        return
    total = np.sum(alone, axis=0)
    norm = float(np.linalg.norm(total))
    together = _direction(constraints, selection, weights)
    if norm > 1e-6 and np.abs(together - total / norm).max() > 1e-5:
        raise LawError(
            f"{constraints!r}, weights {weights!r}, at {_at(constraints[0].metric, selection)}: together they must "
            f"give the unit vector of the sum of their directions, {total / norm}, got {together}"
        )


class _Shuffled(Metric):
    """A metric over the same decisions and options in another order."""

    def __init__(self, metric: Metric, space: ChoiceSpace, back: Callable[[NDArray], NDArray], order: NDArray) -> None:
        self.metric, self.back, self.order = metric, back, order
        self.space, self.name, self.unit = space, f"shuffled {metric.name}", metric.unit

    def evaluate(self, selections: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.metric.evaluate(self.back(selections))

    def rounded(self, selections: NDArray[np.int64], sign: float) -> tuple[NDArray[np.float64], Any]:
        return self.metric.rounded(self.back(selections), sign)

    def rounded_table(
        self, selection: NDArray[np.int64], sign: float, *, local: bool = False
    ) -> tuple[NDArray[np.float64], Any]:
        table, rounding = self.metric.rounded_table(self.back(selection[None])[0], sign, local=local)
        return table[self.order], np.broadcast_to(rounding, table.shape)[self.order]

    def replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.metric.replacements(self.back(selection[None])[0])[self.order]

    def local_replacements(self, selection: NDArray[np.int64]) -> NDArray[np.float64]:
        return self.metric.local_replacements(self.back(selection[None])[0])[self.order]


def _shuffled(
    metric: Metric, selection: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Metric, NDArray[np.int64], NDArray[np.int64]]:
    """A shuffled metric, the former places of its options, and the selection in its order."""
    space = metric.space
    decisions = rng.permutation(space.n_decisions)
    options = [rng.permutation(int(space.sizes[d])) for d in decisions]
    order = np.concatenate([space.offsets[d] + permuted for d, permuted in zip(decisions, options, strict=True)])
    moved = np.array([int(np.argwhere(p == selection[d])[0, 0]) for d, p in zip(decisions, options, strict=True)])

    def back(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        original = np.empty_like(rows)
        for place, (d, permuted) in enumerate(zip(decisions, options, strict=True)):
            original[:, d] = permuted[rows[:, place]]
        return original

    return _Shuffled(metric, ChoiceSpace.from_sizes(space.sizes[decisions]), back, order), order, moved


def _cut(flat: NDArray[np.float64], space: ChoiceSpace) -> list[list[float]]:
    """A flat array as a list per decision, for messages."""
    return [part.round(6).tolist() for part in np.split(flat, space.offsets[1:-1])]


# -- guides -----------------------------------------------------------------------------------------------------------


def check_guide(guide: Guide, *, n: int = 10, seed: int = 0) -> None:
    """Check a guide against its formula at random logits and gradients of many sizes; raise `LawError` otherwise."""
    rng, space = np.random.default_rng(seed), guide.space
    for turn in range(n):
        logits = rng.standard_normal(space.n_options)
        gradient = rng.standard_normal(space.n_options) * [0.0, 1e-6, 1.0, 1e6][turn % 4]
        before = logits.copy(), gradient.copy()
        step = guide.step(gradient, logits)
        if not all(map(np.array_equal, before, (logits, gradient))):
            raise LawError(f"{guide}: a guide must leave its arguments alone")
        if not np.array_equal(guide.modify(gradient, logits), step.gradient):
            raise LawError(f"{guide}: a guide must answer the same twice")
        size = guide.rescale * max(float(np.linalg.norm(gradient)), guide.epsilon)
        expected = gradient - size * step.direction if not step.feasible else gradient
        if np.abs(step.gradient - expected).max() > CLOSE * max(1.0, size):
            raise LawError(f"{guide}: must give g - R max(|g|, epsilon) d = {expected}, got {step.gradient}")
        if np.any(step.direction) and not -step.gradient @ step.direction > 0:
            raise LawError(
                f"{guide}: a step must point along the direction whatever the gradient, at {logits.tolist()}"
            )


def describe(constraints: Iterable[Constraint]) -> str:
    """Constraints and their space in a line, for messages."""
    listed: list[Any] = list(constraints)
    return f"{listed} over {count(listed[0].space.n_selections)} selections"
