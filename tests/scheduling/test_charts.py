import pytest

from cggd import Status
from cggd_scheduling import (
    Alternative,
    Project,
    Requirements,
    Schedule,
    plot_gantt,
    plot_network,
    plot_usage,
    schedule_project,
)

pyplot = pytest.importorskip("matplotlib.pyplot")

PROJECT = Project(
    {
        "dig": [(4, {"crew": 1, "van": 1}), (2, {"crew": 2})],
        "pipe": [(3, {"crew": 1})],
        "lay": [(2, {"crew": 2})],
        "end": [0],
    },
    [("dig", "lay"), ("lay", "end")],
    {"crew": 2, "van": 3},
    unit="days",
)
FOUND = schedule_project(PROJECT, deadline=9)
EMPTY = schedule_project(Project({}))
NONE = Schedule(Requirements({"a": {1: Alternative(1)}}), {}, {}, status=Status.INFEASIBLE, reason="no")


@pytest.fixture(autouse=True)
def _closed():
    pyplot.switch_backend("Agg")
    yield
    pyplot.close("all")


@pytest.mark.parametrize("draw", [plot_gantt, plot_usage, plot_network])
@pytest.mark.parametrize("schedule", [FOUND, EMPTY, NONE])
def test_everything_can_be_drawn(draw, schedule, tmp_path):
    ax = draw(schedule)
    ax.figure.savefig(tmp_path / "chart.png")
    figure, mine = pyplot.subplots()
    assert draw(schedule, ax=mine) is mine
    assert mine.figure is figure


def test_bars_stand_where_tasks_run():
    ax = plot_gantt(FOUND)
    bars = {(bar.get_x(), bar.get_width()) for bar in ax.patches}
    assert bars == {(FOUND.start[a], FOUND.duration(a)) for a in FOUND.start if FOUND.duration(a)}
    assert [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == "--"] == [9]
    assert "days" in ax.get_xlabel()


def test_a_row_per_machine_in_the_order_that_a_reader_expects():
    tasks = {k: {"m": Alternative(2)} for k in range(3)}
    machines = {0: "unit 10", 1: "unit 2", 2: "unit 2"}
    schedule = Schedule(Requirements(tasks), {0: 0, 1: 0, 2: 2}, dict.fromkeys(tasks, "m"), machines).verify()
    ax = plot_gantt(schedule)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["unit 2", "unit 10"]


def test_use_never_exceeds_the_line_of_the_capacity():
    ax = plot_usage(FOUND, "crew")
    steps, limit = ax.lines
    assert max(steps.get_ydata()) <= limit.get_ydata()[0] == 2
    assert len(plot_usage(FOUND).lines) == 3
    with pytest.raises(ValueError, match="resource must be a renewable one"):
        plot_usage(FOUND, "money")


def test_the_critical_path_is_marked():
    ax = plot_network(FOUND)
    length = sum(FOUND.duration(a) for a in FOUND.critical_path())
    assert f"{length:g} long" in ax.get_title("left")


def overlap(ax, legend):
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in (ax.title, ax._left_title, ax._right_title) if text.get_text()]
    return any(legend.get_window_extent().overlaps(box) for box in boxes)


def test_a_legend_covers_neither_title_nor_bars():
    modes = {f"mode number {k}": (2, {"crew": 1}) for k in range(6)}
    tasks = {f"t{k}": {name: modes[name]} for k, name in enumerate(modes)}
    schedule = schedule_project(Project(tasks, (), {"crew": 2}))
    ax = plot_gantt(schedule)
    assert not overlap(ax, ax.get_legend())
    assert not ax.get_legend().get_window_extent().overlaps(ax.get_window_extent())
    ax = plot_usage(FOUND)
    assert not ax.get_legend().get_window_extent().overlaps(ax.get_window_extent())


@pytest.mark.parametrize("n", [2, 12])
def test_machines_that_serve_one_task_at_a_time_have_a_row_each(n):
    tasks = {k: {f"m{k}": Alternative(k + 1, {f"m{k}": 1})} for k in range(n)}
    schedule = Schedule(
        Requirements(tasks, capacities={f"m{k}": 1 for k in range(n)}),
        dict.fromkeys(tasks, 0),
        {k: f"m{k}" for k in tasks},
    ).verify()
    ax = plot_usage(schedule)
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"m{k}" for k in range(n)]
    ends = [round(max(path.vertices[:, 0])) for shape in ax.collections for path in shape.get_paths()]
    assert max(ends) == n
    assert ax.get_legend() is None
