"""What the pictures show: marks, words, colours and numbers of them."""

import builtins
import dataclasses

import matplotlib as mpl

mpl.use("Agg")

import networkx as nx
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from cggd import Additive, ChoiceSpace, Descent, Function, History, Result, Status, Stop, maximize, minimize
from cggd.constraints import Row
from cggd.datasets import arf, mmkp, nats_topology
from cggd.plotting import plot_answer, plot_budgets, plot_choices, plot_search, plot_tradeoff
from cggd.plotting.axes import BAD, GOOD
from cggd.result import Asked, Run


@pytest.fixture(autouse=True)
def _draw_and_close():
    yield
    for number in pyplot.get_fignums():
        pyplot.figure(number).canvas.draw()
    pyplot.close("all")


@pytest.fixture(scope="module")
def nats():
    return nats_topology()


@pytest.fixture(scope="module")
def found(nats):
    return maximize(nats.val12, [nats.latency <= 5.31, nats.energy <= 23.95], improvers=[Descent(steps=100, starts=3)])


def result_of(violation, value, *, start=None, rows=(), status=Status.FEASIBLE, **more):
    violation, value = np.asarray(violation, float), np.asarray(value, float)
    best = np.fmin.accumulate(value)
    start = np.zeros(len(value), int) if start is None else np.asarray(start)
    facts = {
        "selection": None,
        "indices": None,
        "value": None,
        "stopped": Stop.DONE,
        "nearest": None,
        "bound": None,
    }
    asked = {"objective": "cost", "unit": "s", "sense": "minimize"}
    asked |= {name: more.pop(name) for name in asked.keys() & more.keys()}
    run = Run(History(start, value, violation, best, np.zeros(len(value))), evaluations=0, seconds=0.0, seed=0)
    return Result(**facts | more, status=status, constraints=list(rows), asked=Asked(**asked), run=run)


def row(value, sense, bound, name="latency", unit="ms"):
    slack = bound - value if sense == "<=" else value - bound
    return Row(name, value, sense, bound, slack, unit, slack >= 0)


def line(ax, label):
    return next(each for each in ax.lines if each.get_label() == label)


def words(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


# -- every picture ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "plot",
    [
        lambda nats, found, ax: plot_search(found, ax=ax),
        lambda nats, found, ax: plot_budgets(found, ax=ax),
        lambda nats, found, ax: plot_choices(nats.space, found, ax=ax),
        lambda nats, found, ax: plot_choices(ChoiceSpace(nats.space.options), found, ax=ax),
        lambda nats, found, ax: plot_tradeoff(nats.val12, nats.latency, ax=ax),
    ],
)
class TestEveryPlot:
    def test_draws_into_the_axes_given_and_returns_them(self, plot, nats, found):
        figure, (left, right) = pyplot.subplots(1, 2)
        assert plot(nats, found, right) is right
        assert not left.has_data()
        assert pyplot.get_fignums() == [figure.number]

    def test_makes_one_figure_and_does_not_show_it(self, plot, nats, found, monkeypatch):
        monkeypatch.setattr(pyplot, "show", lambda *_: pytest.fail("shown"))
        ax = plot(nats, found, None)
        assert pyplot.get_fignums() == [ax.figure.number]

    def test_names_the_extra_where_matplotlib_is_missing(self, plot, nats, found, monkeypatch):
        real = builtins.__import__

        def without(name, *rest):
            if name.startswith("matplotlib"):
                raise ModuleNotFoundError(f"No module named {name!r}")
            return real(name, *rest)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(ImportError, match=r"pip install cggd\[plot\]"):
            plot(nats, found, None)


# -- the search -------------------------------------------------------------------------------------------------------


def test_search_draws_feasible_steps_the_best_and_the_largest_relative_violation():
    result = result_of(
        [[0, 0], [2, 0], [1, 30], [0, 0], [0, 0]], [9, np.nan, np.nan, 5, 7], rows=[row(1, "<=", 4), row(1, ">=", -60)]
    )
    ax = plot_search(result)
    below = ax.figure.axes[-1]
    assert (ax.get_xlabel(), ax.get_ylabel(), below.get_ylabel()) == (
        "step",
        "cost [s], minimized",
        "violation / |bound|",
    )
    np.testing.assert_array_equal(line(ax, "feasible step").get_xydata(), [[1, 9], [4, 5], [5, 7]])
    np.testing.assert_array_equal(line(ax, "best so far").get_xydata(), [[1, 9], [4, 5], [5, 5]])
    np.testing.assert_array_equal(line(below, "violation of the other steps").get_xydata(), [[2, 0.5], [3, 0.5]])
    assert below.get_yscale() == "log"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "feasible step",
        "best so far",
        "violation of the other steps",
    ]


def test_search_keeps_objective_and_violation_apart(found):
    ax = plot_search(found)
    below = ax.figure.axes[-1]

    def heights(axis):
        y = np.concatenate([each.get_ydata() for each in axis.lines])
        return axis.transAxes.inverted().transform(axis.transData.transform(np.column_stack([y * 0 + 1, y])))[:, 1]

    assert 0 <= heights(below).min() < heights(below).max() < heights(ax).min() < heights(ax).max() <= 1


def test_search_separates_starts():
    ax = plot_search(result_of(np.zeros((6, 1)), range(6), start=[0, 0, 1, 1, 1, 2]))
    assert [segment[0, 0] for segment in ax.collections[0].get_segments()] == [2.5, 5.5]
    assert ax.get_xlabel() == "step, over all starts"


def test_search_without_violation_has_no_second_axis():
    ax = plot_search(result_of(np.zeros((3, 0)), [3, 2, 1]))
    assert ax.figure.axes == [ax]


def test_search_without_a_feasible_step_says_so():
    ax = plot_search(result_of([[2.0], [1.0]], [np.nan, np.nan], rows=[row(1, "<=", 0)], status=Status.UNKNOWN))
    assert words(ax) == ["no step satisfied every constraint"]
    assert ax.figure.axes[-1].get_ylabel() == "violation"


@pytest.mark.parametrize("n_constraints", [0, 2])
def test_search_without_steps_says_so(n_constraints):
    assert words(plot_search(result_of(np.zeros((0, n_constraints)), []))) == ["no step was recorded"]


@pytest.mark.parametrize("violation", [0.0, 1.0])
def test_search_of_one_step(violation):
    ax = plot_search(result_of([[violation]], [np.nan if violation else 3.0], rows=[row(1, "<=", 2)]))
    assert [tick for tick in ax.get_xticks() if ax.get_xlim()[0] < tick < ax.get_xlim()[1]] == [1]


def test_long_search_is_thinned_but_keeps_the_largest_violation_and_every_corner():
    n = 100_000
    violation = np.where(np.arange(n)[:, None] % 2, 0.001, 0.0)
    violation[77_777] = 5.0
    value = np.where(violation[:, 0] == 0, 10.0, np.nan)
    value[50_002:] -= np.where(np.isnan(value[50_002:]), 0, 4)
    ax = plot_search(result_of(violation, value, rows=[row(1, "<=", 1)]))
    other = line(ax.figure.axes[-1], "violation of the other steps")
    assert len(line(ax, "feasible step").get_xdata()) == 2000
    assert 1900 < len(other.get_xdata()) <= 2000
    assert other.get_ydata().max() == 5.0
    np.testing.assert_array_equal(line(ax, "best so far").get_xydata(), [[1, 10], [50_003, 6], [n, 6]])


# -- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "sense", "bound", "share"),
    [
        (4, "<=", 5, 80),
        (6, "<=", 5, 120),
        (6, ">=", 5, 120),
        (4, ">=", 5, 80),
        (-3, "<=", -2, 50),
        (-1, "<=", -2, 150),
        (-3, ">=", -2, 50),
        (3, "<=", -2, 350),
        (0, "<=", 5, 0),
        (-5, "<=", 5, -100),
        (0, "<=", 0, 100),
        (7, "<=", 0, 200),
        (7, ">=", 0, 200),
        (-7, ">=", 0, 0),
        (7, "<=", np.inf, 0),
        (7, ">=", -np.inf, 0),
        (1e9, "<=", 1, 1e11),
        (-1e9, "<=", 1, -1e11),
    ],
)
def test_budget_share_sides_and_colour(value, sense, bound, share):
    one = row(float(value), sense, float(bound))
    ax = plot_budgets([one])
    (bar,) = ax.patches
    assert bar.get_width() == pytest.approx(np.clip(share, -100, 200))
    assert to_hex(bar.get_facecolor()) == (GOOD if one.satisfied else BAD).lower()
    assert bool(bar.get_hatch()) == (bound == 0)
    if np.isfinite(bound) and bound != 0 and share <= 200:
        # Whatever the sign of the bound: on the allowed side of the line exactly where the constraint holds.
        assert one.satisfied == (bar.get_width() <= 100 if sense == "<=" else bar.get_width() >= 100)
    cut = [each for each in ax.lines if each.get_marker() in ("<", ">")]
    assert len(cut) == (share > 200 or share < -100)


def test_budgets_name_value_bound_and_unit():
    ax = plot_budgets([row(5.5, "<=", 5.0), row(-2.0, ">=", -3.0, "profit", ""), row(1.0, "<=", np.inf, "free")])
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "latency ≤ 5 ms",
        "profit ≥ \N{MINUS SIGN}3",
        "free, no limit",
    ]
    assert words(ax) == ["5.5 ms, violated", "\N{MINUS SIGN}2", "1 ms"]
    assert [
        each.get_xdata()[0] for each in ax.lines if len(set(each.get_xdata())) == 1 and len(each.get_xdata()) == 2
    ] == [100]
    assert {8, 9} <= {each.get_marker() for each in ax.lines}


def test_budgets_of_a_knapsack(found):
    knapsack = mmkp("I07")
    result = maximize(knapsack.value, knapsack.constraints, improvers=[Descent(steps=60, starts=1)])
    ax = plot_budgets(result)
    assert len(ax.patches) == 10
    np.testing.assert_allclose(
        [bar.get_width() for bar in ax.patches], [r.value / r.bound * 100 for r in result.constraints]
    )


def test_budgets_beyond_forty_shows_the_tightest_and_says_so():
    ax = plot_budgets([row(float(value), "<=", 100.0) for value in range(50)] + [row(1.0, "<=", np.inf)])
    assert len(ax.patches) == 40
    assert [bar.get_width() for bar in ax.patches[:2]] == [49, 48]
    assert ax.get_title() == "the 40 tightest of 51 constraints"


def test_budgets_of_the_nearest_selection_say_so():
    ax = plot_budgets(result_of([[1.0]], [np.nan], rows=[row(6, "<=", 5)], status=Status.UNKNOWN))
    assert ax.get_title() == "nearest selection, not feasible"


def test_budgets_without_a_constraint():
    assert words(plot_budgets([])) == ["no constraint"]


def test_dollar_signs_are_no_formulas():
    ax = plot_budgets([row(5.0, "<=", 6.0, r"$\nonsense$", "$")])
    ax.figure.canvas.draw()
    assert ax.get_yticklabels()[0].get_text() == r"\$\nonsense\$ ≤ 6 \$"


# -- choices ----------------------------------------------------------------------------------------------------------


def test_choices_on_edges(nats, found):
    ax = plot_choices(nats.space, found)
    shown = words(ax)
    assert sorted(shown) == sorted([*map(str, range(4)), *found.selection.values()])
    arrows = [text.arrow_patch for text in ax.texts if getattr(text, "arrow_patch", None)]
    colors = {}
    for (edge, option), arrow in zip(found.selection.items(), _by_edge(nats.space.graph, arrows), strict=True):
        assert edge in nats.space.graph.edges
        colors.setdefault(option, set()).add(to_hex(arrow.get_edgecolor()))
    assert all(len(of_option) == 1 for of_option in colors.values())
    assert len(set.union(*colors.values())) == len(colors)


def _by_edge(graph, arrows):
    """Arrows in the order of the decisions."""
    drawn = dict(zip(graph.edges, arrows, strict=True))
    return [drawn[edge] for edge in nats_topology().space.decisions]


def test_long_edges_bow_past_the_nodes_between(nats):
    ax = plot_choices(nats.space, np.zeros(6, int))
    at = {text.get_text(): text.get_position() for text in ax.texts if text.get_text() in set("0123")}
    assert [at[str(node)] for node in range(4)] == [(0, 0), (1, 0), (2, 0), (3, 0)]
    labels = np.array([text.xy for text in ax.texts if text.get_text() == "none"])
    assert len(np.unique(labels.round(2), axis=0)) == 6
    assert np.linalg.norm(labels[:, None] - np.array(list(at.values())), axis=2).min() > 0.3


def test_choices_on_nodes_stand_in_topological_layers():
    data = arf()
    selection = dict.fromkeys(data.space.decisions)
    selection = {d: data.space.option_labels(d)[0] for d in selection}
    ax = plot_choices(data.space, selection)
    shown = {text.get_text().split("\n")[0]: text for text in ax.texts if text.get_text()}
    assert {name: text.get_text() for name, text in shown.items()} == {d: f"{d}\n{o}" for d, o in selection.items()}
    for u, v in data.graph.edges:
        assert shown[u].get_position()[0] < shown[v].get_position()[0]
    assert len({text.get_position() for text in shown.values()}) == 28
    faces = {to_hex(text.get_bbox_patch().get_facecolor()) for text in shown.values()}
    assert len(faces) == len(set(selection.values()))


@pytest.mark.parametrize("make", [nx.cycle_graph, nx.complete_graph, lambda n: nx.cycle_graph(n, nx.DiGraph)])
def test_choices_on_graphs_without_layers(make):
    space = ChoiceSpace.from_graph(make(5), ["a", "b"])
    assert sorted(words(plot_choices(space, [0, 1, 0, 1, 0]))) == [f"{n}\n{'ab'[n % 2]}" for n in range(5)]


def test_choices_on_both_directions_and_a_loop():
    graph = nx.DiGraph([("x", "y"), ("y", "x"), ("y", "y")])
    space = ChoiceSpace.from_graph(graph, ["a", "b"], on="edges")
    assert sorted(words(plot_choices(space, [0, 1, 1]))) == ["a", "b", "b (loop)", "x", "y"]


def test_undecided_nodes_are_white_and_decisions_outside_are_counted():
    graph = nx.DiGraph([("in", "mid"), ("mid", "out")])
    ax = plot_choices(ChoiceSpace({"mid": ["a", "b"], "elsewhere": ["c"]}, graph), [1, 0])
    faces = {
        t.get_text(): to_hex(t.get_bbox_patch().get_facecolor())
        for t in ax.texts
        if t.get_text() and t.get_bbox_patch()
    }
    assert faces["in"] == faces["out"] == "#ffffff" != faces["mid\nb"]
    assert "1 decisions lie outside the graph" in words(ax)


def test_large_graphs_name_colours_in_a_legend():
    space = ChoiceSpace.from_graph(nx.path_graph(100, nx.DiGraph), list("abcdefgh"))
    ax = plot_choices(space, np.arange(100) % 7)
    assert words(ax) == []
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list("abcdefg")
    assert len({to_hex(each.get_markerfacecolor()) for each in ax.lines}) == 7


def test_huge_graphs_become_a_grid():
    space = ChoiceSpace.from_graph(nx.path_graph(1000), ["a", "b"])
    assert plot_choices(space, np.zeros(1000, int)).get_xlabel() == "decision (the first 40; 960 more are left out)"


def test_grid_fills_the_chosen_cells_of_the_first_forty_decisions():
    space = mmkp("I07").space
    selection = np.arange(100) % 10
    ax = plot_choices(space, selection)
    cells = ax.collections[0].get_array().reshape(10, 40)
    np.testing.assert_array_equal(cells.argmax(axis=0), selection[:40])
    assert cells.sum() == 40
    assert ax.get_xlabel() == "decision (the first 40; 60 more are left out)"
    assert [text.get_text() for text in ax.get_yticklabels()] == [str(option) for option in range(10)]


def test_grid_of_ragged_options_names_the_chosen_ones_and_leaves_gaps():
    space = ChoiceSpace({"stem": ["conv3", "conv5"], "pool": ["max", "avg", "none"]})
    ax = plot_choices(space, {"stem": "conv5", "pool": "none"})
    cells = ax.collections[0].get_array().reshape(3, 2)
    np.testing.assert_array_equal(np.ma.getmaskarray(cells), [[False, False], [False, False], [True, False]])
    assert [text.get_text() for text in ax.get_xticklabels()] == ["stem: conv5", "pool: none"]


def test_long_names_are_cut():
    space = ChoiceSpace({"d" * 99: ["o" * 99]})
    assert len(plot_choices(space, [0]).get_xticklabels()[0].get_text()) == 24


def test_choices_of_an_infeasible_result():
    space = ChoiceSpace.from_sizes([2, 2])
    result = result_of([[1.0]], [np.nan], rows=[row(6, "<=", 5)], status=Status.UNKNOWN, nearest={0: 1, 1: 0})
    ax = plot_choices(space, result)
    assert ax.get_title() == "nearest selection, not feasible"
    np.testing.assert_array_equal(ax.collections[0].get_array().reshape(2, 2).argmax(axis=0), [1, 0])
    with pytest.raises(ValueError, match="holds no selection"):
        plot_choices(space, dataclasses.replace(result, nearest=None))


@pytest.mark.parametrize("wrong", [[0], [0, 5], {0: 1}])
def test_choices_checks_the_selection(wrong):
    with pytest.raises(ValueError, match="selection"):
        plot_choices(ChoiceSpace.from_sizes([2, 2]), wrong)


# -- what is traded for what ------------------------------------------------------------------------------------------


def test_tradeoff_splits_all_selections_and_shades_the_feasible_region(nats, found):
    limits = [nats.latency <= 5.31, nats.energy <= 23.95]
    ax = plot_tradeoff(nats.val12, nats.latency, constraints=limits, results=found)
    selections = nats.space.enumerate()
    both = limits[0].satisfied(nats.latency.evaluate(selections)) & limits[1].satisfied(
        nats.energy.evaluate(selections)
    )
    missed, kept = ax.collections
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latency [ms]", "val12 [%]")
    assert kept.get_label() == f"{both.sum()} selections, feasible"
    assert missed.get_label() == f"{(~both).sum()} selections, not feasible"
    assert len(kept.get_offsets()) == both.sum()
    assert len(missed.get_offsets()) == (~both).sum()
    assert kept.get_offsets()[:, 0].max() <= 5.31
    assert set(line(ax, "latency ≤ 5.31 ms").get_xdata()) == {5.31}
    (region,) = (patch for patch in ax.patches if isinstance(patch, Rectangle))
    assert region.get_bbox().x1 == 5.31
    assert region.get_bbox().x0 == ax.get_xlim()[0]
    assert (region.get_bbox().y0, region.get_bbox().y1) == ax.get_ylim()
    star = line(ax, "found")
    np.testing.assert_allclose(star.get_xydata(), [[nats.latency(found.selection), found.value]])


def test_tradeoff_bounds_on_both_axes():
    space = ChoiceSpace.from_sizes([3, 3])
    a, b = Additive(space, range(6), name="a"), Additive(space, range(6, 0, -1), name="b")
    ax = plot_tradeoff(a, b, constraints=[a >= 4, b <= 9, b >= 5, b <= np.inf])
    assert {each.get_label() for each in ax.lines} == {"a ≥ 4", "b ≤ 9", "b ≥ 5"}
    box = ax.patches[0].get_bbox()
    assert (box.x0, box.x1, box.y0) == (5, 9, 4)


def test_tradeoff_of_an_empty_region_is_not_shaded_and_shows_the_bound():
    space = ChoiceSpace.from_sizes([2, 2])
    a, b = Additive(space, [1, 2, 1, 2], name="a"), Additive(space, [1, 2, 3, 4], name="b")
    ax = plot_tradeoff(a, b, constraints=[b <= 1, b >= 9])
    assert not ax.patches
    assert ax.get_xlim()[0] < 1 < 9 < ax.get_xlim()[1]
    assert [each.get_label() for each in ax.collections] == ["4 selections, not feasible"]


def test_tradeoff_samples_large_spaces_and_keeps_the_result_in_view():
    knapsack = mmkp("I07")
    result = maximize(knapsack.value, knapsack.constraints, improvers=[Descent(steps=100, starts=1)])
    plot = [
        plot_tradeoff(
            knapsack.value, knapsack.weights[0], constraints=knapsack.constraints, results=[result] * 2, samples=500
        )
        for _ in range(2)
    ]
    counts = [len(each.get_offsets()) for each in plot[0].collections]
    assert sum(counts) == 500
    assert plot[0].collections[0].get_label() == f"{counts[0]} drawn selections, not feasible"
    np.testing.assert_array_equal(plot[0].collections[0].get_offsets(), plot[1].collections[0].get_offsets())
    assert result.value < plot[0].get_ylim()[1]
    assert len(line(plot[0], "found (2)").get_xdata()) == 2


def test_tradeoff_without_constraints_and_with_an_infeasible_result():
    space = ChoiceSpace.from_sizes([2, 2])
    a, b = Additive(space, [1, 2, 1, 2], name="a"), Additive(space, [1, 2, 3, 4], name="b")
    nearest = result_of([[1.0]], [np.nan], status=Status.UNKNOWN, nearest={0: 1, 1: 0})
    nothing = dataclasses.replace(nearest, nearest=None)
    ax = plot_tradeoff(a, b, results=[nearest, nothing])
    assert [each.get_label() for each in ax.collections] == ["4 selections"]
    np.testing.assert_array_equal(line(ax, "nearest, not feasible").get_xydata(), [[5, 3]])


def test_tradeoff_evaluates_a_metric_no_more_often_than_samples_allow():
    space = ChoiceSpace.from_sizes([10, 10, 10])
    cost = Additive(space, np.arange(30.0))
    slow = Function(space, lambda selection: float(sum(selection.values())), name="slow")
    ax = plot_tradeoff(slow, cost, constraints=slow <= 9, samples=50)
    assert sum(len(each.get_offsets()) for each in ax.collections) == 50


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"samples": 0}, ValueError, "samples must be at least 1, got 0"),
        ({"samples": 2.5}, TypeError, "samples must be a whole number, got 2.5"),
        ({"samples": True}, TypeError, "samples must be a whole number, got True"),
        ({"constraints": [5]}, TypeError, "constraints must hold constraints"),
        ({"constraints": Additive(ChoiceSpace.from_sizes([2]), [1, 2]) <= 1}, ValueError, "another choice space"),
    ],
)
def test_tradeoff_checks_its_arguments(arguments, error, message):
    metric = Additive(ChoiceSpace.from_sizes([2]), [1, 2])
    with pytest.raises(error, match=message):
        plot_tradeoff(metric, metric, **arguments)


def test_tradeoff_of_metrics_of_two_spaces():
    one, other = (Additive(ChoiceSpace.from_sizes([2]), [1, 2], name=name) for name in ("one", "other"))
    with pytest.raises(ValueError, match=r"metric Additive\(other.*objective Additive\(one"):
        plot_tradeoff(one, other)


def test_real_search_in_four_pictures(found, nats):
    """As the demo draws them: one figure, no warning when it is rendered."""
    figure, axes = pyplot.subplots(2, 2, figsize=(12, 8), layout="constrained")
    plot_search(found, ax=axes[0, 0])
    plot_budgets(found, ax=axes[0, 1])
    plot_choices(nats.space, found, ax=axes[1, 0])
    plot_tradeoff(nats.test200, nats.latency, constraints=nats.latency <= 5.31, results=found, ax=axes[1, 1])
    figure.canvas.draw()
    assert len(figure.axes) == 5


def test_minimised_objective_is_named():
    space = ChoiceSpace.from_sizes([2, 2])
    result = minimize(Additive(space, [1, 2, 3, 4], name="price", unit="$"), improvers=[Descent(steps=5, starts=1)])
    assert plot_search(result).get_ylabel() == r"price [\$], minimized"


# -- answers ----------------------------------------------------------------------------------------------------------


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_an_answer_lists_what_was_chosen(nats):
    result = maximize(nats.val12, [nats.latency <= 5.31], answers=2)
    ax = plot_answer(Result.from_json(result.to_json()))
    assert len(texts(ax)) == 6 * 3
    first, second = result.selection, result.alternatives[0].selection
    assert texts(ax)[:3] == ["(0, 1)", first[0, 1], second[0, 1]]
    different = [to_hex(text.get_color()) == BAD.lower() for text in ax.texts]
    assert sum(different) == sum(first[decision] != second[decision] for decision in first)
    assert ax.get_title(loc="left").startswith("optimal: val12 = 84.53, ")


def test_of_many_decisions_those_that_are_not_default_are_listed_first():
    space = ChoiceSpace.from_sizes([2] * 100)
    gain = Additive(space, [0, 1] * 3 + [1, 0] * 97, name="gain")
    ax = plot_answer(maximize(gain, [Additive(space, [0, 1] * 100) <= 3]))
    assert texts(ax)[:6] == ["0", "1", "1", "1", "2", "1"]
    assert texts(ax)[-1] == "and 76 more decisions"
    nothing = plot_answer(maximize(gain, [gain >= 101]))
    assert (texts(nothing), nothing.get_title(loc="left")) == (["no selection"], "infeasible")
