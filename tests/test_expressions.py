"""Expressions: their arithmetic is that of their values, and the program keeps to what it is told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from cggd import Additive, ChoiceSpace, Function, Metric, Problem, maximum
from cggd.expressions import LARGEST, Expression, Program
from cggd.metrics import Combination, SumTable
from cggd.program.highs import LinearProgram, Outcome
from cggd.program.lagrangian import relax
from cggd.testing import choice_spaces, selections

NUMBERS = st.integers(-9, 9).map(float)


def values_at(program, expression, selection, auxiliary=()):
    """The value of each row, by the definition."""
    chosen = program.space.layout.flat(selection)
    columns = np.concatenate([np.isin(program.open, chosen), np.asarray(auxiliary, dtype=float)])
    dense = np.zeros((len(expression), program.n_columns))
    for row, column, coefficient in zip(expression.row, expression.column, expression.coefficient, strict=True):
        dense[row, column] += coefficient
    return dense @ columns + expression.constant


@st.composite
def programs(draw):
    """A program with some options forbidden, a selection that it allows, and a matrix of numbers."""
    space = draw(choice_spaces(max_decisions=4, max_options=3))
    selection = np.array(draw(selections(space)))
    allowed = np.array(draw(st.lists(st.booleans(), min_size=space.n_options, max_size=space.n_options)))
    allowed[space.layout.flat(selection)] = True
    n = draw(st.integers(1, 4)) * space.n_options
    matrix = np.array(draw(st.lists(NUMBERS, min_size=n, max_size=n))).reshape(-1, space.n_options)
    return Program(space, allowed), selection, matrix


@given(programs(), NUMBERS, st.data())
def test_arithmetic_is_that_of_the_values(drawn, number, data):
    program, selection, matrix = drawn
    flat = program.space.layout.flat(selection)
    sums = program.sum(sparse.csr_array(matrix) if data.draw(st.booleans()) else matrix)
    expected = matrix[:, flat].sum(axis=1)
    one = program.sum(matrix[0], number)
    at = data.draw(st.lists(st.integers(0, len(matrix) - 1), max_size=5))
    group = np.arange(len(matrix)) % 2

    def same(expression, values):
        assert values_at(program, expression, selection) == pytest.approx(np.atleast_1d(values))
        assert (np.abs(np.atleast_1d(values)) <= 3 * expression.size + 1e-9).all()

    same(sums, expected)
    same(one, expected[0] + number)
    same(sums + one, expected + expected[0] + number)
    same(number * sums - 2 * one, number * expected - 2 * (expected[0] + number))
    same(number - sums, number - expected)
    same(expected * sums, expected**2)
    same(sums[at], expected[at])
    same(sums.sum(), expected.sum())
    same(sums.sum(group, 2), np.bincount(group, expected, minlength=2))
    same(Expression.join([sums, one]), [*expected, expected[0] + number])
    same(program.chosen(np.arange(program.space.n_options)), 1.0 * np.isin(np.arange(program.space.n_options), flat))


@given(programs())
def test_the_range_of_rows_is_what_enumeration_finds(drawn):
    program, _, matrix = drawn
    rows = program.space.enumerate()
    rows = rows[program.allowed[program.space.layout.flat(rows)].all(axis=1)]
    expression = program.sum(matrix) + program.variable(-1.0, 2.0)
    values = np.array([matrix[:, program.space.layout.flat(row)].sum(axis=1) for row in rows])
    low, high = program.range(expression)
    assert low == pytest.approx(values.min(axis=0) - 1)
    assert high == pytest.approx(values.max(axis=0) + 2)


def test_variables_reach_from_end_to_end():
    program = Program(ChoiceSpace.from_sizes([2, 2]))
    moved = program.variable([-3.0, 5.0], [7.0, 5.0])
    assert program.reach.tolist() == [LARGEST]
    for share, value in ((0.0, -3.0), (LARGEST, 7.0)):
        assert values_at(program, moved, np.array([0, 0]), [share]).tolist() == [value, 5.0]
    with pytest.raises(ValueError, match="ends of a variable must be finite"):
        program.variable(0.0, np.inf)
    with pytest.raises(ValueError, match="shape mismatch"):
        program.chosen([0, 1]) + program.chosen([0, 1, 2])


class Suppliers(Metric):
    """The number of different suppliers; nothing but its expression says more than `evaluate`."""

    def __init__(self, space):
        self.space, self.name, self.unit = space, "suppliers", ""

    def evaluate(self, selections):
        return np.array([len(set(row)) for row in selections.tolist()], dtype=float)

    def expression(self, program, sign):
        if sign < 0:
            return None
        used = program.switch(int(self.space.sizes.max()))
        place = np.arange(self.space.n_options) - self.space.offsets[self.space.layout.owner]
        program.at_most(program.chosen(np.arange(self.space.n_options)) - used[place])
        return used.sum()


def test_a_metric_of_ones_own_is_solved_exactly_by_its_expression_alone():
    rng = np.random.default_rng(0)
    space = ChoiceSpace.from_sizes([4] * 6)
    price, suppliers = Additive(space, rng.integers(1, 20, 24)), Suppliers(space)
    rows = space.enumerate()
    values = (price + 7 * suppliers).evaluate(rows)
    solution = LinearProgram(space, [suppliers <= 2], price + 7 * suppliers).solve()
    best = values[suppliers.evaluate(rows) <= 2].min()
    assert solution.outcome is Outcome.OPTIMAL
    assert (price + 7 * suppliers)(solution.selection) == best
    assert solution.bound == pytest.approx(best, abs=1e-3)


def test_an_expression_must_be_an_expression():
    class Wrong(Suppliers):
        def expression(self, program, sign):
            return 3.0

    space = ChoiceSpace.from_sizes([2, 2])
    with pytest.raises(TypeError, match="of metric 'suppliers' must return an Expression"):
        LinearProgram(space, [Wrong(space) <= 1])


# -- what a metric says holds for its subclasses ----------------------------------------------------------------------


class Mine(Additive):
    pass


class Squared(Additive):
    """Its own values are no sum."""

    def evaluate(self, selections):
        return super().evaluate(selections) ** 2


class Noisy(Additive):
    """A sum of measured numbers."""

    def value_errors(self, selections):
        return np.ones(len(selections))


def test_a_subclass_is_as_strong_as_a_sum():
    rng = np.random.default_rng(1)
    space = ChoiceSpace.from_sizes([10] * 60)
    gain, weight = rng.integers(1, 100, 600), rng.integers(1, 100, 600)
    found = []
    for kind in (Additive, Mine):
        problem = Problem(kind(space, gain, name="gain"), [kind(space, weight) <= 1500], "maximize")
        sums = relax(problem)
        solution = LinearProgram(space, problem.constraints, problem.objective, sign=-1.0).solve()
        found.append((sums.bound, sums.value, solution.bound, solution.selection.tolist()))
    assert found[0] == found[1]


def test_a_subclass_with_values_of_its_own_is_no_sum():
    space = ChoiceSpace.from_sizes([2, 2])
    squared = Squared(space, [1, 2, 3, 4])
    assert squared.sum_table() is None
    assert not squared.closed_form
    assert not isinstance(squared + 1, Additive)
    assert (2 * squared).evaluate(space.enumerate()).tolist() == [32, 50, 50, 72]


def test_arithmetic_with_sums_gives_sums_unless_something_would_be_lost():
    space = ChoiceSpace.from_sizes([2, 2])
    mine, noisy = Mine(space, [1, 2, 3, 4], 1.0, name="mine", unit="kg"), Noisy(space, [1, 2, 3, 4])
    for metric, values in ((mine + 1, [1, 2, 3, 4]), (2 * mine, [2, 4, 6, 8]), (mine + mine, [2, 4, 6, 8])):
        assert (type(metric), metric.values.tolist(), metric.unit) == (Additive, values, "kg")
    assert (mine + 1).name == "mine"
    assert (noisy + 1).value_errors(space.enumerate()).tolist() == [1, 1, 1, 1]
    # Of 1e16 a - 1e16 b rounding leaves little, which the sum of the differences would not show.
    other = Combination(space, ((1e16, mine), (-1e16, Mine(space, [1, 2, 3, 5]))))
    assert other.sum_table().lost > 1e16
    assert not isinstance(other + 1, Additive)


def test_a_sum_table_alone_makes_a_metric_linear():
    class Length(Metric):
        def __init__(self, space):
            self.space, self.name, self.unit = space, "length", ""

        def evaluate(self, selections):
            return selections.sum(axis=1) + 0.5

        def sum_table(self):
            return SumTable(np.arange(self.space.n_options) % 3.0, 0.5, 0.5)

    space = ChoiceSpace.from_sizes([3, 3])
    solution = LinearProgram(space, [Length(space) <= 1.5], Length(space), sign=-1.0).solve()
    assert Length(space)(solution.selection) == 1.5
    assert relax(Problem(Length(space), [], "minimize")).bound == pytest.approx(0.5)


def test_a_large_number_that_all_options_share_is_no_coefficient():
    program = Program(ChoiceSpace.from_sizes([2, 3]), None)
    shared = program.sum([1e9 + 1, 1e9 + 2, 2e9, 2e9 + 5, 2e9 + 3], 4.0)
    assert shared.coefficient.tolist() == [0, 1, 0, 5, 3]
    assert shared.constant.tolist() == [3e9 + 5]
    assert program.sum([1.0, 2.0, 2.0, 7.0, 5.0]).coefficient.tolist() == [1, 2, 2, 7, 5]


def test_an_expression_is_that_of_the_metric_itself_unless_a_sign_is_given():
    metric = Additive(ChoiceSpace.from_sizes([2]), [1.0, 3.0])
    program = Program(metric.space, None)
    for expression, sign in ((program.of(metric), 1.0), (program.of(metric, -1.0), -1.0)):
        assert expression is not None
        assert values_at(program, expression, np.array([1])).tolist() == [3.0 * sign]


def test_a_metric_becomes_one_row_or_none():
    space = ChoiceSpace.from_sizes([2])
    a, b = Additive(space, [1.0, 3.0], name="a"), Additive(space, [2.0, 0.0], name="b")
    program = Program(space, None)
    assert (len(program.switch()), program.n_columns) == (1, 3)
    assert program.linear(Function(space, lambda labels: 1.0, name="f")) is None
    assert "'f' is a Function, which has no linear form" in program.refusal()
    one, largest = program.linear(a), program.linear(maximum(a, b))
    assert one is not None
    assert values_at(program, one, np.array([1]), np.zeros(program.n_columns - 2)).tolist() == [3.0]
    assert largest is not None
    assert len(largest) == 1
    assert program.of(maximum(a, b)) is not None
    assert len(program.of(maximum(a, b))) == 2
