"""Laws that every kind of metric obeys, and what is special to each."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise, product
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from cggd import (
    Additive,
    ChoiceSpace,
    Descent,
    Function,
    LongestPath,
    Metric,
    MetricError,
    Peak,
    Predicted,
    Table,
    maximum,
    minimize,
)
from cggd.metrics import Evaluation, evaluating, one_hot, table_of, values_of
from cggd.testing import selections
from tests.messages import BIG, LAT, NAN, case, told
from tests.strategies import dags, durations, tables

# -- kinds: each draws a metric and its definition in plain Python, a function of the chosen indices -------------------


def cut(space, flat):
    """Numbers per option as a list of lists."""
    return [part.tolist() for part in np.split(np.asarray(flat, dtype=float), space.offsets[1:-1])]


def total(space, flat):
    rows = cut(space, flat)
    return lambda chosen: sum(row[i] for row, i in zip(rows, chosen, strict=True))


def scrambled(chosen):
    """A number that depends on the whole selection."""
    return float(sum((7 * d + 3 * i + 1) ** (i % 3 + 1) for d, i in enumerate(chosen)) % 101 - 50)


@st.composite
def additive(draw, dtype=float):
    space, flat = draw(tables())
    constant = draw(st.sampled_from([0.0, -2.5]))
    plain = total(space, flat)
    return Additive(space, flat.astype(dtype), constant), lambda chosen: plain(chosen) + constant


@st.composite
def peak(draw):
    space, flat = draw(tables())
    rows = cut(space, flat)
    return Peak(space, flat), lambda chosen: max(row[i] for row, i in zip(rows, chosen, strict=True))


@st.composite
def peak_over_stages(draw):
    space, flat = draw(tables())
    stages = draw(st.lists(st.sets(st.sampled_from(range(space.n_decisions))), min_size=1, max_size=4))
    rows = cut(space, flat)
    metric = Peak(space, flat, {f"stage {s}": sorted(decisions) for s, decisions in enumerate(stages)})
    return metric, lambda chosen: max(sum(rows[d][chosen[d]] for d in stage) for stage in stages)


@st.composite
def peak_of_matrix(draw, form=np.asarray):
    space, *columns = draw(tables(columns=3))
    sums = [total(space, column) for column in columns]
    return Peak(space, None, form(np.stack(columns))), lambda chosen: max(f(chosen) for f in sums)


def messy(matrix):
    """The same matrix in sparse form, each entry as two, in no order."""
    rows, columns = (np.concatenate([at, at]) for at in np.nonzero(matrix))
    data = np.concatenate([matrix[np.nonzero(matrix)] - 1.0, np.ones(len(rows) // 2)])
    order = np.argsort(rows, kind="stable")[::1]
    cuts = np.searchsorted(rows[order], np.arange(len(matrix) + 1))
    return sparse.csr_array((data[order], columns[order], cuts), shape=matrix.shape)


@st.composite
def longest_path(draw):
    space, flat = draw(tables(durations))
    graph, places = draw(dags(least=space.decisions))
    own, rest = places[: space.n_decisions], places[space.n_decisions :]
    owners = draw(st.lists(st.none() | st.sampled_from(space.decisions), max_size=len(rest)))
    at = {d: [place] for d, place in enumerate(own)}
    for place, owner in zip(rest, owners, strict=False):
        if owner is not None:
            at[owner].append(place)
    for place in (place for shared in at.values() for place in shared):
        (graph.nodes if place in graph.nodes else graph.edges)[place].pop("duration", None)
    rows = cut(space, flat)

    def plain(chosen):
        taken = {place: rows[d][chosen[d]] for d, shared in at.items() for place in shared}
        split = nx.DiGraph()
        for v, data in graph.nodes(data=True):
            split.add_edge((v, "in"), (v, "out"), weight=taken.get(v, data.get("duration", 0)))
        for u, v, data in graph.edges(data=True):
            split.add_edge((u, "out"), (v, "in"), weight=taken.get((u, v), data.get("duration", 0)))
        return nx.dag_longest_path_length(split)

    return LongestPath(space, graph, flat, at=at), plain


@st.composite
def table(draw, shaped=False):
    space, _ = draw(tables())
    values = [scrambled(chosen) for chosen in product(*map(range, space.sizes.tolist()))]
    return Table(space, np.reshape(values, space.sizes) if shaped else values), scrambled


@st.composite
def function(draw, **options):
    space, _ = draw(tables())
    if options.get("batch"):
        return Function(space, lambda rows: [scrambled(row) for row in rows.tolist()], **options), scrambled
    return Function(space, lambda labelled: scrambled(labelled.values()), **options), scrambled


@st.composite
def predicted(draw):
    space, flat = draw(tables())
    model = SimpleNamespace(predict=lambda X: (X @ flat)[:, None])
    return Predicted(space, model), total(space, flat)


@st.composite
def users(draw):
    class Own(Metric):
        def __init__(self, space):
            self.space, self.name, self.unit = space, "own", ""

        def evaluate(self, selections):
            return np.array([int(scrambled(row)) for row in selections.tolist()], dtype=np.int16)

    space, _ = draw(tables())
    return Own(space), scrambled


@st.composite
def composed(draw):
    """Sums, scalings and maxima of each other."""
    space, a, b = draw(tables(columns=2))
    add, top = Additive(space, a, 1.0), Peak(space, b)
    box = Function(space, lambda labelled: scrambled(labelled.values()))
    sum_, rows = total(space, a), cut(space, b)
    w = draw(st.sampled_from([-2.0, 0.0, 1.0, 0.5]))

    def both(chosen):
        return sum_(chosen) + 1.0, max(row[i] for row, i in zip(rows, chosen, strict=True)), scrambled(chosen)

    forms = {
        lambda: 2 * add - add / 4 + 3: lambda a, p, s: 1.75 * a + 3,
        lambda: w * add + top: lambda a, p, s: w * a + p,
        lambda: 5 - w * top: lambda a, p, s: 5 - w * p,
        lambda: -(top - box) * 3: lambda a, p, s: -3 * (p - s),
        lambda: maximum(add, top, w * box): lambda a, p, s: max(a, p, w * s),
        lambda: maximum(add - top, 2.0 - maximum(box, add)) + w * box: lambda a, p, s: (
            max(a - p, 2 - max(s, a)) + w * s
        ),
        lambda: sum([add, top, box]): lambda a, p, s: a + p + s,
    }
    make, plain = draw(st.sampled_from(list(forms.items())))
    return make(), lambda chosen: plain(*both(chosen))


KINDS = {
    "additive": additive(),
    "additive float32": additive(np.float32),
    "peak": peak(),
    "peak over stages": peak_over_stages(),
    "peak of matrix": peak_of_matrix(),
    "peak of sparse matrix": peak_of_matrix(sparse.coo_array),
    "peak of messy matrix": peak_of_matrix(messy),
    "longest path": longest_path(),
    "table": table(),
    "table shaped": table(shaped=True),
    "function": function(),
    "function batch": function(batch=True),
    "function repeated": function(repeats=2, cache=False),
    "predicted": predicted(),
    "user's": users(),
    "composed": composed(),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
laws = settings(max_examples=40, deadline=None)


def close(value, tight=True):
    return pytest.approx(value, rel=1e-9 if tight else 1e-5, abs=1e-9 if tight else 1e-3)


# -- laws --------------------------------------------------------------------------------------------------------------


@every_kind
@laws
@given(data=st.data())
def test_values_are_those_of_the_definition(kind, data):
    metric, plain = data.draw(KINDS[kind])
    everything = metric.space.enumerate()
    tight = "float32" not in kind
    assert metric.evaluate(everything) == close([plain(chosen) for chosen in everything.tolist()], tight)
    assert metric.evaluate(everything[:0]).shape == (0,)
    one = data.draw(selections(metric.space))
    assert metric(one) == metric(metric.space.labels(one)) == close(plain(one.tolist()), tight)


@every_kind
@laws
@given(data=st.data())
def test_replacement_table_is_every_switch_evaluated_afresh(kind, data):
    metric, plain = data.draw(KINDS[kind])
    selection = data.draw(selections(metric.space))
    found = metric.replacements(selection)
    slow = [
        plain([*selection[:d].tolist(), o, *selection[d + 1 :].tolist()])
        for d, size in enumerate(metric.space.sizes.tolist())
        for o in range(size)
    ]
    assert found.shape == (metric.space.n_options,)
    assert found == close(slow, "float32" not in kind)
    np.testing.assert_array_equal(table_of(metric, selection), found)
    at_current = found[metric.space.layout.flat(selection)]
    assert at_current == close(np.full(metric.space.n_decisions, metric(selection)), "float32" not in kind)


@every_kind
@laws
@given(data=st.data())
def test_no_local_part_exceeds_the_whole(kind, data):
    metric, _ = data.draw(KINDS[kind])
    selection = data.draw(selections(metric.space))
    whole, part = metric.replacements(selection), table_of(metric, selection, local=True)
    for low, high in pairwise(metric.space.offsets):
        alike = (part[low:high] == part[low]).all()
        assert alike or (part[low:high] <= whole[low:high] + 1e-9 * np.abs(whole[low:high])).all()


@every_kind
@laws
@given(data=st.data())
def test_asking_changes_nothing(kind, data):
    metric, _ = data.draw(KINDS[kind])
    selection, everything = data.draw(selections(metric.space)), metric.space.enumerate()
    everything.flags.writeable = False
    arrays = {name: array.copy() for name, array in vars(metric).items() if isinstance(array, np.ndarray)}
    for ask in (
        lambda: metric.replacements(selection),
        lambda: metric.local_replacements(selection),
        lambda: metric.evaluate(everything),
        metric.limits,
        metric.minimum,
        metric.maximum,
        lambda: metric.quantile(0.3),
    ):
        first = np.array(ask())
        answer = ask()
        if isinstance(answer, np.ndarray) and answer.flags.writeable:
            answer[...] = 77  # what a caller does to an answer is its own affair
        np.testing.assert_array_equal(ask(), first)
    for name, array in arrays.items():
        np.testing.assert_array_equal(vars(metric)[name], array)


@every_kind
@laws
@given(data=st.data())
def test_extremes_limits_and_quantiles_against_enumeration(kind, data):
    metric, plain = data.draw(KINDS[kind])
    values = [plain(chosen) for chosen in metric.space.enumerate().tolist()]
    tight = "float32" not in kind
    assert metric.minimum() == close(min(values), tight)
    assert metric.maximum() == close(max(values), tight)
    low, high = metric.limits()
    slack = 1e-3 if not tight else 1e-9 * max(1.0, *map(abs, values))
    assert low - slack <= min(values)
    assert max(values) <= high + slack
    q = data.draw(st.floats(0, 1))
    assert metric.quantile(q) == close(np.quantile(values, q), tight)


@every_kind
@laws
@given(data=st.data())
def test_separable_means_that_tables_differ_by_one_number_per_decision(kind, data):
    metric, _ = data.draw(KINDS[kind])
    if metric.separable:
        one, other = (metric.replacements(data.draw(selections(metric.space))) for _ in range(2))
        layout = metric.space.layout
        difference = one.astype(float) - other
        spread = layout.reduce(np.maximum, difference) - layout.reduce(np.minimum, difference)
        assert spread == close(np.zeros(metric.space.n_decisions), "float32" not in kind)


# -- additive ----------------------------------------------------------------------------------------------------------

SPACE = ChoiceSpace({"a": ["x", "y"], "b": ["u", "v", "w"]})


def test_additive_takes_values_in_any_form():
    nested = {"b": {"w": 5, "u": 3, "v": 4}, "a": [1, 2]}
    frame = {"decision": list("bbaba"), "option": list("wvyux"), "ms": [5, 4, 2, 3, 1]}
    for metric in (Additive(SPACE, nested), Additive.from_table(SPACE, frame, "ms", unit="s")):
        np.testing.assert_array_equal(metric.values, [1, 2, 3, 4, 5])
    assert repr(metric) == "Additive(ms [s], ChoiceSpace(2 decisions, 2 to 3 options each))"
    uniform = ChoiceSpace.from_sizes([2, 2])
    np.testing.assert_array_equal(Additive(uniform, [[1, 2], [3, 4]]).values, [1, 2, 3, 4])


def test_float32_is_kept():
    values = np.linspace(0, 1, 5, dtype=np.float32)
    metric = Additive(SPACE, values)
    assert metric.values.dtype == np.float32
    values[:] = 9.0
    assert metric.values[0] == 0.0, "a change that the caller makes later is none to the metric"
    assert values_of(metric, np.array([[1, 1]])).dtype == np.float64


@pytest.mark.parametrize("sizes", [np.full(1_000_000, 4), 1 + np.arange(1_000_000) % 5], ids=["uniform", "ragged"])
def test_a_million_decisions(sizes):
    space = ChoiceSpace.from_sizes(sizes)
    values = np.arange(space.n_options) % 13.0
    metric = Additive(space, values)
    selection = space.sizes - 1
    table = metric.replacements(selection)
    value = metric(selection)
    assert value == values[space.offsets[1:] - 1].sum()
    assert (table[space.offsets[1:] - 1] == value).all()
    assert table[0] == value - values[space.offsets[1] - 1] + values[0]
    assert metric.minimum() <= value <= metric.maximum()
    assert minimize(metric, [metric <= value], improvers=[Descent(steps=2, starts=1)]).feasible


def test_composition_keeps_what_is_additive_additive():
    a, b = (
        Additive(SPACE, [1, 2, 3, 4, 5], name="a", unit="ms"),
        Additive(SPACE, [5, 4, 3, 2, 1], 2.0, name="b", unit="ms"),
    )
    both = 2 * a - b + 1
    assert isinstance(both, Additive)
    assert both.unit == "ms"
    assert both([1, 2]) == 2 * 7 - 7 + 1
    assert (a + Additive(SPACE, np.zeros(5), unit="mJ")).unit == "ms + mJ"
    assert (-a).name == "-a"
    assert (a + b).name == "a + b"
    assert maximum(a, b).name == "max(a, b)"
    assert maximum(a, b, name="worst").name == "worst"
    assert maximum(a, b).unit == "ms"


@pytest.mark.parametrize("number", [np.float32(2), np.int64(2), np.array(2.0), 2], ids=lambda x: type(x).__name__)
def test_numbers_on_both_sides(number):
    metric = Function(SPACE, lambda s: 3.0)
    for composed, value in (
        (number * metric, 6.0),
        (metric * number, 6.0),
        (metric / number, 1.5),
        (number + metric, 5.0),
        (metric + number, 5.0),
        (number - metric, -1.0),
        (metric - number, 1.0),
    ):
        assert isinstance(composed, Metric)
        assert composed([0, 0]) == value


# -- longest path ------------------------------------------------------------------------------------------------------


def test_a_chain_of_20_000_nodes():
    n = 20_000
    graph = nx.path_graph(n, create_using=nx.DiGraph)
    space = ChoiceSpace.from_graph(graph, ["slow", "fast"])
    metric = LongestPath(space, graph, np.tile([3.0, 1.0], n))
    selection = np.zeros(n, dtype=np.int64)
    np.testing.assert_array_equal(metric.replacements(selection), np.tile([3.0 * n, 3.0 * n - 2], n))
    assert (metric.minimum(), metric.maximum()) == (n, 3 * n)


def test_critical_path_names_nodes_and_decided_edges():
    graph = nx.DiGraph([("s", "a"), ("s", "b"), ("a", "t"), ("b", "t")])
    space = ChoiceSpace({("s", "b"): [1, 2], "a": ["slow", "fast"]})
    metric = LongestPath(space, graph, [1, 5, 4, 2])
    assert metric.critical_path([1, 0]) == ["s", ("s", "b"), "b", "t"]
    assert metric.critical_path({("s", "b"): 1, "a": "slow"}) == ["s", "a", "t"]
    assert metric([1, 0]) == 5


def test_places_may_come_from_an_iterator():
    graph = nx.DiGraph([("a", "b")])
    metric = LongestPath(ChoiceSpace({"d": [0, 1]}), graph, [1, 2], at={"d": iter(["a", "b"])})
    assert metric([1]) == 4


# -- black boxes -------------------------------------------------------------------------------------------------------


class Counted:
    def __init__(self, function):
        self.function, self.seen = function, []

    def __call__(self, given):
        self.seen.append(given)
        return self.function(given)


def area(labelled):
    return "xy".index(labelled["a"]) * 10.0 + "uvw".index(labelled["b"])


def test_function_is_called_once_per_selection():
    counted = Counted(area)
    metric = Function(SPACE, counted)
    for _ in range(3):
        metric.replacements(np.array([1, 2]))
        metric.evaluate(SPACE.enumerate())
    assert len(counted.seen) == SPACE.n_selections
    assert {"a": "y", "b": "w"} in counted.seen
    with evaluating(Evaluation(fresh=True)) as evaluation:
        assert metric([1, 2]) == 12.0
    assert evaluation.calls == 1
    assert len(counted.seen) == SPACE.n_selections + 1


def test_function_without_cache_is_called_again():
    counted = Counted(area)
    metric = Function(SPACE, counted, cache=False)
    metric([0, 0])
    metric([0, 0])
    assert len(counted.seen) == 2


def test_repeats_give_the_mean_and_its_standard_error():
    noise = iter(np.tile([1.0, 2.0, 6.0], 5))
    metric = Function(SPACE, lambda s: area(s) + next(noise), repeats=3)
    assert metric.noisy
    selection = np.array([0, 0])
    assert metric.replacements(selection) == close([3.0, 13.0, 3.0, 4.0, 5.0])
    expected = np.std([1, 2, 6], ddof=1) / np.sqrt(3)
    assert metric.errors(selection) == close(np.full(5, expected))
    assert (2 * metric + 1).errors(selection) == close(np.full(5, 2 * expected))
    assert (metric - metric).errors(selection) == close(np.zeros(5)), "a measurement is no error apart from itself"
    again = Function(SPACE, lambda s: area(s), repeats=2)
    assert (metric - again).errors(selection) == close(np.full(5, expected))
    other = Additive(SPACE, [0, 0, 0, 0, 100])
    assert maximum(metric, other).errors(selection) == close([expected] * 4 + [0.0])
    assert maximum(metric, other).noisy
    assert other.errors(selection) is None


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("executor", [False, True])
def test_function_through_an_executor(batch, executor):
    def rows(given):
        return given @ [10.0, 1.0]

    counted = Counted(rows if batch else area)
    metric = Function(SPACE, counted, batch=batch)
    with ThreadPoolExecutor(3) as pool, evaluating(Evaluation(pool if executor else None)) as evaluation:
        assert metric.evaluate(SPACE.enumerate()).tolist() == [0, 1, 2, 10, 11, 12]
    assert evaluation.calls == SPACE.n_selections
    assert metric.replacements(np.array([1, 1])).tolist() == [1, 11, 10, 11, 12]


def test_an_executor_is_given_up_at_the_first_error():
    def broken(labelled):
        raise OSError(f"no device for {labelled['b']}")

    with ThreadPoolExecutor(1) as pool, evaluating(Evaluation(pool)) as evaluation:
        with pytest.raises(
            MetricError, match=r"metric 'function' raised OSError: no device for u; at selection {'a': 'x'"
        ):
            Function(SPACE, broken).evaluate(SPACE.enumerate())
        assert evaluation.calls == 1


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("wrap", [lambda m: m, lambda m: 2 * m + Additive(SPACE, np.zeros(5)), maximum])
def test_forbidden_options_are_not_evaluated(batch, wrap):
    def one(labelled):
        assert labelled["b"] != "v"
        return area(labelled)

    def rows(given):
        assert not (given[:, 1] == 1).any()
        return given @ [10.0, 1.0]

    metric = wrap(Function(SPACE, rows if batch else one, batch=batch, repeats=2))
    mask = SPACE.allowed({"b": ["v"]})
    selection = np.array([1, 2])
    value = metric(selection)
    with evaluating(Evaluation(allowed=mask)):
        table = metric.replacements(selection)
        errors = metric.errors(selection)
    assert table.tolist() == [value / 12 * 2, value, value / 12 * 10, value, value]
    assert errors.shape == (5,)


def test_a_user_metric_is_not_asked_for_forbidden_options():
    class Own(Metric):
        space, name, unit = SPACE, "own", ""

        def evaluate(self, selections):
            assert not (selections[:, 1] == 1).any()
            return selections.sum(axis=1)

    with evaluating(Evaluation(allowed=SPACE.allowed({"b": ["v"]}))):
        assert Own().replacements(np.array([0, 0])).tolist() == [0, 1, 0, 0, 2]


@pytest.mark.parametrize("model", [LinearRegression(), DecisionTreeRegressor(random_state=0)], ids=["linear", "tree"])
@pytest.mark.parametrize("features", [None, lambda rows: np.column_stack([rows, rows[:, 0] * rows[:, 1]])])
def test_predicted_by_scikit_learn(model, features):
    everything = SPACE.enumerate()
    X = one_hot(SPACE, everything) if features is None else features(everything)
    y = everything @ [10.0, 1.0]
    metric = Predicted(SPACE, model.fit(X, y), features, name="power", unit="W")
    assert metric.evaluate(everything) == close(y)
    assert metric.replacements(np.array([1, 0])) == close([0, 10, 10, 11, 12])
    two = Predicted(SPACE, model.fit(X, y[:, None]), features)
    assert two.evaluate(everything) == close(y)


# -- extremes of large spaces ------------------------------------------------------------------------------------------


def test_quantile_of_a_large_space_is_sampled_with_a_seed():
    space = ChoiceSpace.from_sizes([3] * 40)
    metric = Additive(space, np.tile([0.0, 1.0, 2.0], 40))
    assert metric.quantile(0.5, seed=1) == metric.quantile(0.5, seed=1)
    assert abs(metric.quantile(0.5) - 40) <= 1
    assert metric.quantile(0.0, samples=50) >= 0


def test_table_quantile_is_exact_at_any_size():
    space = ChoiceSpace.from_sizes([30, 30, 30])
    assert Table(space, np.arange(27_000)).quantile(0.5) == 13_499.5


def test_one_option_decisions_without_end():
    space = ChoiceSpace.from_sizes([1] * 200 + [2])
    metric = Function(space, lambda s: float(s[200]))
    assert (metric.minimum(), metric.maximum()) == (0, 1)
    assert Table(space, [3, 4]).replacements(np.zeros(201, dtype=int)).tolist() == [3] * 201 + [4]


def test_sum_of_black_boxes_has_limits_where_its_terms_have():
    top = Peak(SPACE, [1, 2, 3, 4, 5])
    assert (top - Additive(SPACE, [0, 1, 0, 0, 0])).limits() == (2, 5)
    assert (Function(SPACE, area) + top).limits() == (-np.inf, np.inf)
    assert (0 * Function(SPACE, area) + top).limits() == (3, 5)
    assert maximum(Function(SPACE, area), top).limits() == (3, np.inf)


# -- wrong input -------------------------------------------------------------------------------------------------------

WRONG = [
    case("quantile above one", lambda: LAT.quantile(50), ValueError, "q must", "50", "between 0 and 1"),
    case("quantile NaN", lambda: LAT.quantile(NAN), ValueError, "q must", "nan"),
    case(
        "quantile without samples", lambda: LAT.quantile(0.5, samples=0), ValueError, "samples", "got 0", "at least 1"
    ),
    case(
        "minimum of too large a space",
        lambda: Function(BIG, len).minimum(),
        ValueError,
        "least value of 'function'",
        "2**3001",
        "as a number",
    ),
]


@pytest.mark.parametrize(("make", "error", "fragments"), WRONG)
def test_wrong_input(make, error, fragments):
    told(make, error, fragments)
