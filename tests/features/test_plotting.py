"""Pictures of a selector: marks, words and the sums that they must show."""

import builtins

import matplotlib as mpl

mpl.use("Agg")

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.colors import to_rgba
from sklearn.exceptions import NotFittedError

from cggd.plotting.axes import GOOD
from cggd_features import BudgetedSelector
from cggd_features.plotting import plot_budget_path, plot_costs

NAMES = ["age", "sex", "chol", "fbs", "ecg"]


def frame(p: int = 5, n: int = 60) -> tuple[pd.DataFrame, np.ndarray]:
    X = np.random.default_rng(0).normal(size=(n, p))
    y = X @ np.arange(1.0, p + 1) + np.random.default_rng(1).normal(size=n)
    return pd.DataFrame(X, columns=NAMES[:p] if p <= len(NAMES) else [f"f{i}" for i in range(p)]), y


@pytest.fixture(scope="module")
def shared():
    """Blood tests share the sample: chol and fbs cost 5 and 4 alone, 3 and 2 after the other."""
    costs = {"age": 1.0, "sex": 1.0, "chol": 5.0, "fbs": 4.0, "ecg": 9.0}
    selector = BudgetedSelector(costs=costs, discounted={"blood": {"chol": 3.0, "fbs": 2.0}}, budget=9.5)
    return selector.fit(*frame())


def bars(ax, *, filled: bool):
    return [p for p in ax.patches if (to_rgba(p.get_facecolor()) == to_rgba(GOOD)) is filled]


def texts(ax) -> str:
    return "\n".join(text.get_text() for text in [*ax.texts, *ax.get_legend().get_texts()])


def test_path_marks_the_selection_and_the_budget(shared):
    ax = plot_budget_path(shared, unit="CAD")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("cost [CAD]", "score")
    by_label = {line.get_label(): line for line in ax.lines}
    assert by_label["budget: 9.5 CAD"].get_xdata() == [9.5, 9.5]
    chosen = by_label[f"selected: {shared.total_cost_:g} CAD"]
    assert list(chosen.get_xdata()) == [shared.total_cost_]
    assert list(chosen.get_ydata()) == [shared.score_]
    points = by_label["best found within a budget"]
    assert list(points.get_xdata()) == [point.cost for point in shared.path_]
    assert list(points.get_ydata()) == [point.score for point in shared.path_]
    stairs = ax.lines[0]
    assert (np.diff(stairs.get_ydata()) >= 0).all()
    assert max(stairs.get_xdata()) > 9.5


def test_notes_say_what_enters_and_leaves(shared):
    ax = plot_budget_path(shared)
    note, *more = [text.get_text() for text in ax.texts]
    assert more
    assert note.startswith("+ ")
    held: set[str] = set()
    for line in "\n".join([note, *more]).splitlines():
        sign, names = line[0], set(line[2:].split(", "))
        assert names <= (set(NAMES) - held if sign == "+" else held)
        held ^= names
    # The last note stands at a point of the path.
    assert held in [{name for name, kept in zip(NAMES, point.support, strict=True) if kept} for point in shared.path_]


def test_notes_of_many_points_do_not_cover_each_other():
    X, y = frame(50, 200)
    selector = BudgetedSelector(costs=1.0, budget=25).fit(X, y)
    ax = plot_budget_path(selector)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) >= 3
    assert not any(a.overlaps(b) for at, a in enumerate(boxes) for b in boxes[:at])


def test_bars_add_up_to_the_cost_of_the_selection(shared):
    ax = plot_costs(shared, unit="CAD")
    full, hollow = bars(ax, filled=True), bars(ax, filled=False)
    assert len(full) == shared.support_.sum()
    assert full[0].get_x() == 0
    assert [bar.get_x() for bar in full[1:]] == pytest.approx([bar.get_x() + bar.get_width() for bar in full[:-1]])
    assert full[-1].get_x() + full[-1].get_width() == pytest.approx(shared.total_cost_)
    assert all(bar.get_x() == shared.total_cost_ for bar in hollow)
    assert sorted(label.get_text() for label in ax.get_yticklabels()) == sorted(NAMES)
    assert "budget: 9.5 CAD" in texts(ax)


def test_the_second_of_a_group_is_drawn_at_its_discount():
    X, y = frame()
    blood = {"blood": {"chol": 3.0, "fbs": 2.0}}
    selector = BudgetedSelector(
        costs=[1.0, 1.0, 5.0, 4.0, 9.0], discounted=blood, budget=7.0, must_include=["chol", "fbs"]
    )
    ax = plot_costs(selector.fit(X, y))
    widths = {label.get_text(): bar.get_width() for label, bar in zip(ax.get_yticklabels(), ax.patches, strict=True)}
    assert widths["chol"] + widths["fbs"] == pytest.approx(7.0)
    assert widths["ecg"] == pytest.approx(9.0)


def test_columns_of_one_variable_get_one_bar():
    X, y = frame()
    selector = BudgetedSelector(costs={"person": 3.0, "chol": 1.0, "fbs": 1.0, "ecg": 1.0}, budget=4.0)
    selector.set_params(groups={"person": ["age", "sex"]}, must_include=["person"])
    ax = plot_costs(selector.fit(X, y))
    assert {label.get_text() for label in ax.get_yticklabels()} == {"person", "chol", "fbs", "ecg"}


def test_several_budgets_are_told_apart():
    X, y = frame()
    selector = BudgetedSelector(costs={"usd": [1, 2, 3, 4, 5], "ms": 1.0}, budget={"usd": 6, "ms": 2, "n": 3}).fit(X, y)
    assert plot_budget_path(selector).get_xlabel() == "usd"
    assert plot_budget_path(selector, budget="ms").get_xlabel() == "ms"
    ax = plot_costs(selector, budget="usd")
    last = bars(ax, filled=True)[-1]
    assert last.get_x() + last.get_width() == pytest.approx(selector.total_cost_["usd"])
    for plot in (plot_budget_path, plot_costs):
        with pytest.raises(ValueError, match="budget must be one of 'usd', 'ms', 'n', got 'eur'"):
            plot(selector, budget="eur")


def test_a_single_budget_has_no_name(shared):
    with pytest.raises(ValueError, match=r"budget must be left out.*got 'usd'"):
        plot_costs(shared, budget="usd")


@pytest.mark.parametrize("plot", [plot_budget_path, plot_costs])
def test_axes_are_used_and_needed_things_said(plot, shared, monkeypatch):
    ax = pyplot.subplots()[1]
    assert plot(shared, ax=ax) is ax
    with pytest.raises(NotFittedError):
        plot(BudgetedSelector(costs=1.0, budget=1.0))
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install cggd\[plot\]"):
        plot(shared)


@pytest.mark.parametrize("plot", [plot_budget_path, plot_costs])
@pytest.mark.parametrize("budget", [0.0, np.inf])
def test_nothing_bought_and_no_limit(plot, budget):
    X, y = frame()
    ax = plot(BudgetedSelector(costs=2.0, budget=budget).fit(X, y))
    ax.figure.canvas.draw()
    assert ("budget" in texts(ax).replace("within a budget", "")) == (budget == 0.0)


def test_of_many_features_thirty_are_drawn():
    X, y = frame(45, 100)
    ax = plot_costs(BudgetedSelector(costs=1.0, budget=4, path=()).fit(X, y))
    assert len(ax.patches) == 30
    assert len(bars(ax, filled=True)) == 4
    assert "30 of 45 features" in ax.get_title(loc="right")


@settings(max_examples=8)
@given(
    st.lists(st.floats(0.0, 10.0).map(lambda x: round(x, 2)), min_size=5, max_size=5),
    st.integers(0, 20),
    st.lists(st.integers(0, 4), min_size=2, max_size=4, unique=True),
)
def test_full_bars_end_at_the_total(costs, budget, sharing):
    X, y = frame()
    discounted = {"shared": {at: costs[at] / 2 for at in sharing}}
    selector = BudgetedSelector(costs=costs, budget=budget, discounted=discounted, path=()).fit(X, y)
    ax = plot_costs(selector)
    full = bars(ax, filled=True)
    assert sum(bar.get_width() for bar in full) == pytest.approx(selector.total_cost_, abs=1e-9)
    hollow = sum(bar.get_x() + bar.get_width() > budget + 1e-6 for bar in bars(ax, filled=False))
    assert hollow <= 5 - selector.support_.sum()
    pyplot.close("all")
