"""The benchmark of the engine: instances against enumeration, comparisons by hand, a quick run of each part."""

import json
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.engine import command, own, report, supernet
from benchmarks.engine.command import BEFORE, PAPER, PARTS, TITLES
from benchmarks.engine.linear import KINDS, Linear
from benchmarks.engine.paper import compared, descend, digest
from benchmarks.engine.report import WANTED, grouped
from benchmarks.engine.rows import MAXIMISED, MINIMISED, SKIPPED, Row, Size, read, skipped, taking_turns, write
from benchmarks.instances import Instance, catalogue, further
from benchmarks.opponents.ranked import ranked
from benchmarks.runner import CLAIM, SIMPLE, read_trace, run, solver
from benchmarks.suite import Task, judge
from cggd import Additive, ChoiceSpace, Function, Problem, Status, solve
from cggd.datasets import data_folder

NEEDED = {"gap": ("ortools", "highspy"), "blackbox": ("pymoo",)}


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_a_quick_run_of_each_part(part, tmp_path, capsys):
    for package in NEEDED.get(part, ()):
        pytest.importorskip(package, reason=f"{package} is not installed")
    if data_folder() is None and part in ("bert", "blackbox"):
        pytest.skip("no data: set CGGD_DATA")
    out = tmp_path / "engine.csv"
    command.main([part, "--quick", "--out", str(out)])
    rows = read(out)
    assert {row.part for row in rows} == {part}
    measured = [row for row in rows if row.status != SKIPPED]
    assert measured
    assert all(row.seconds is not None and row.status not in ("", "failed") for row in measured), measured
    assert len({row.method for row in measured}) > 1 or part == "descent"
    text = out.with_suffix(".md").read_text()
    assert TITLES[part] in text
    assert text.split("cores.")[1].strip() in capsys.readouterr().out


def test_parts_that_were_not_asked_for_are_kept(tmp_path):
    out = tmp_path / "engine.csv"
    old = Row("import", "process", "python", seconds=0.5, status="ended")
    write(out, [old])
    command.main(["supernet", "--quick", "--out", str(out)])
    rows = read(out)
    assert rows[-1] == old
    assert {row.part for row in rows} == {"supernet", "import"}
    write(out, [replace(old, seconds=0.25)])
    command.main(["--tables", "--out", str(out), "--before", str(tmp_path / "none.csv")])
    assert "| process | python | 1 | ended | 0.250 |" in out.with_suffix(".md").read_text()


def test_wrong_arguments_are_errors(capsys):
    for arguments, message in ((["squat"], "no part 'squat'"), (["--runs", "0"], "at least 1")):
        with pytest.raises(SystemExit):
            command.main(arguments)
        assert message in capsys.readouterr().err


def test_the_recorded_results_can_be_read():
    before, paper = read(BEFORE), read(PAPER)
    assert {row.part for row in before} == set(PARTS)
    assert len({(row.instance, row.seed) for row in paper}) == len(paper)
    assert all(compared(row.digest, row.digest) == "identical" for row in paper)


# -- instances --------------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([MINIMISED, MAXIMISED]), st.booleans())
def test_linear_problems_mean_the_same_to_all(seed, sign, timed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, 4).tolist()
    n = sum(sizes)
    at_once = (rng.random((3, n)) < 0.3).astype(float) if timed else None
    linear = Linear(sizes, rng.integers(0, 20, n).astype(float), sign, at_once=at_once)
    linear.between(rng.integers(0, 9, n), 5, 18)
    linear.between(rng.integers(0, 9, n), high=20)
    starts, feasible = np.cumsum([0, *sizes[:-1]]), []
    for choice in product(*map(range, sizes)):
        at = starts + choice
        kept = all(low <= row[at].sum() <= high for row, low, high in linear.rows)
        if kept and (at_once is None or at_once[:, at].sum(axis=1).max() <= 1):
            feasible.append(linear.value[at].sum())
            linear.check(np.array(choice), linear.value[at].sum())
        else:
            with pytest.raises(AssertionError):
                linear.check(np.array(choice), linear.value[at].sum())
    exact, ours = linear.milp(), solve(linear.problem())
    if not feasible:
        assert exact["status"] == "INFEASIBLE"
        assert ours.status is Status.INFEASIBLE
        return
    best = min(feasible) if sign == MINIMISED else max(feasible)
    assert exact["value"] == pytest.approx(best)
    assert (ours.value, ours.status) == (best, Status.OPTIMAL)


@pytest.mark.parametrize("kind", KINDS)
def test_instances_have_solutions_and_limits_that_bind(kind):
    make, _, small, numbers = KINDS[kind]
    for number in (small, numbers[0]):
        linear = make(number, 1)
        assert linear.milp()["status"] == "OPTIMAL"
        free = Linear(linear.sizes, linear.value, linear.sign)
        assert linear.sign * linear.milp()["value"] > linear.sign * free.milp()["value"]


def test_assignments_of_type_e():
    instance = further()["e10x100-1"]()
    problem = instance.problem
    assert problem.space.sizes.tolist() == [10] * 100
    assert instance.best_known is None
    assert instance.reference == instance.bound
    costs, weights = problem.objective.values, sum(c.metric.values for c in problem.constraints)
    # Large loads cost little: a cost is 1000 divided by the load, less at most 10.
    assert (np.abs(costs - 1000 / weights + 5) <= 5.5).all()
    assert not set(further()) & set(catalogue())


def test_a_file_of_type_e_is_named_by_a_variable(tmp_path, monkeypatch):
    import gzip

    file = tmp_path / "e.json.gz"
    data = {"m": 2, "n": 3, "cost": [[3, 1, 2], [1, 2, 9]], "weight": [[1, 1, 1], [2, 2, 2]], "cap": [2, 4]}
    with gzip.open(file, "wt") as stream:
        json.dump({"yagiura2004/e05100": data}, stream)
    monkeypatch.setenv("CGGD_GAP_E", str(file))
    assert solve(further()["e05100"]().problem).value == 4.0
    monkeypatch.setenv("CGGD_GAP_E", str(tmp_path / "none"))
    assert "e05100" not in further()


def test_a_third_of_all_selections_meets_the_bounds():
    macs, memory, counters = supernet.plain()
    limits = supernet.third([macs, memory], np.random.default_rng(1))
    drawn = macs.space.sample(500, np.random.default_rng(2))
    kept = np.all([limit.holds(drawn) for limit in limits], axis=0).mean()
    assert 0.2 < kept < 0.45
    assert all(len(counter.seen) <= counter.calls for counter in counters)


def test_metrics_of_a_user_have_the_values_of_the_built_in_one():
    kinds = [Additive, own.Mine, own.Alone]
    problems = [own.knapsack(kind, 3, groups=6) for kind in kinds]
    rows = problems[0].space.sample(50, np.random.default_rng(0))
    for problem in problems[1:]:
        for mine, built in zip(problem.constraints, problems[0].constraints, strict=True):
            np.testing.assert_array_equal(mine.values(rows), built.values(rows))
            assert mine.bound == built.bound


# -- opponents --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from(["minimize", "maximize"]))
def test_ranks_are_those_of_a_sort(seed, sense):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes([3, 3])
    value, weight, length = (Additive(space, rng.integers(0, 5, 6)) for _ in range(3))
    problem = Problem(value, [weight <= 4, length >= 3], sense)
    rows = space.sample(6, rng)

    def rank(row):
        reports = [constraint.report(row) for constraint in problem.constraints]
        missed = max(weight(row) - 4, 0) / 4 + max(3 - length(row), 0) / 3
        return (missed if not all(r.satisfied for r in reports) else 0.0, problem.sign * value(row))

    first, violation, best = ranked(problem, rows)
    assert (violation, best) == pytest.approx(min(map(rank, rows)))
    assert (violation, best) == pytest.approx(rank(rows[first]))
    assert (violation == 0) == all(c.report(rows[first]).satisfied for c in problem.constraints)


@pytest.mark.parametrize("opponent", SIMPLE)
def test_simple_searches_find_the_optimum_of_a_small_black_box(opponent, tmp_path):
    space = ChoiceSpace.from_sizes([3, 2, 3])
    value, weight = (Additive(space, v) for v in ([1, 4, 9, 2, 5, 0.5, 3, 6], [1, 3, 7, 1, 4, 0, 2, 5]))
    hidden = [Function(space, metric.evaluate, batch=True, cache=False) for metric in (value, weight)]
    problem = Problem(hidden[0], [hidden[1] <= 9], "maximize")
    best = solve(Problem(value, [weight <= 9], "maximize")).value
    run(solver(opponent), Instance("tiny", "x", problem, best, best, ""), tmp_path, seed=0, seconds=0.2, threads=1)
    instance, claim = Instance("tiny", "x", problem, best, best, ""), json.loads((tmp_path / CLAIM).read_text())
    row = judge(instance, Task("tiny", opponent, 0, 0.2), read_trace(tmp_path, 3), claim)
    assert row.value == best
    assert "infeasible" not in row.note


# -- comparisons ------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_digest():
    problem = catalogue()["topology latency"]().problem
    (_, one), (_, again), (_, other) = descend(problem, 3), descend(problem, 3), descend(problem, 4)
    assert digest(one) == digest(again) != digest(other)
    assert len(one) == 600


@given(st.integers(8, 60), st.data())
def test_digests_tell_where_trajectories_begin_to_differ(steps, data):
    rows = np.zeros((steps, 3), dtype=np.int64)
    at, other = data.draw(st.integers(0, steps - 1)), rows.copy()
    other[at:] += 1
    words = compared(digest(other), digest(rows)).split()
    assert int(words[3]) <= at + 1 <= int(words[5])
    assert compared(digest(rows), digest(rows.copy())) == "identical"
    assert compared(digest(rows[1:]), digest(rows)) == f"{steps - 1} steps, not {steps}"


numbers = st.none() | st.floats(allow_nan=False)
words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=9)


ROWS = st.builds(Row, words, words, words, numbers, st.integers(0, 9), seconds=numbers, value=numbers, note=words)


@settings(max_examples=30)
@given(st.lists(ROWS, max_size=5))
def test_rows_survive_a_file(tmp_path_factory, rows):
    file = tmp_path_factory.mktemp("rows") / "a" / "rows.csv"
    write(file, rows)
    assert read(file) == rows
    assert read(file.with_name("none.csv")) == []


def test_methods_take_turns():
    seen = []
    methods = {name: lambda name=name: seen.append(name) or {"value": 1.0} for name in "ab"}
    found = list(taking_turns(methods, 2))
    assert seen == ["a", "b", "a", "b"]
    assert [(name, number) for name, number, _, _ in found] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def made(method, seconds, value, status="OPTIMAL", part="squad", **rest) -> Row:
    return Row(part, "x", method, None, seconds=seconds, sign=MAXIMISED, value=value, status=status, **rest)


def test_what_is_wanted_is_told_apart():
    before = [made("default", 9.0, 95.0, "FEASIBLE")]
    for seconds, status, verdict in ((0.9, "OPTIMAL", "yes"), (1.3, "OPTIMAL", "no"), (0.9, "FEASIBLE", "no")):
        rows = [made("milp", 0.3, 100.0), made("default", seconds, 100.0, status)]
        text = report.section("squad", rows, before, [], "Title.")
        line = next(line for line in text.splitlines() if "| default |" in line)
        assert f"| {verdict} | FEASIBLE | 9.000 | 5 % |" in line
        assert f"| {seconds / 0.3:.2f} |" in line
    assert "Left out: no torch." in report.section("squad", [skipped("squad", "no torch")], [], [], "Title.")


def test_gaps_are_to_what_is_known_or_else_to_the_best_seen():
    rows = [
        made("a", 1.0, 90.0),
        made("b", 1.0, 100.0),
        made("c", 1.0, None, "UNKNOWN"),
        made("d", 1.0, 80.0, known=160.0),
    ]
    groups = list(grouped(rows).values())
    assert [group.gaps for group in groups] == [[10.0], [0.0], [float("inf")], [50.0]]
    earlier = [made("a", 1.0, 125.0)]
    gaps = [group.gaps[0] for group in grouped(rows, earlier).values()]
    assert gaps == pytest.approx([28.0, 20.0, float("inf"), 50.0])


def test_nothing_found_is_never_as_wanted():
    groups = list(grouped([made(name, 1.0, None, "UNKNOWN", "gap") for name in ("cggd", "HiGHS")]).values())
    assert not WANTED["gap"].test(groups[0], None, groups[1:])
    groups = list(grouped([made(name, 1.0, 5.0, "FEASIBLE", "gap") for name in ("cggd", "HiGHS")]).values())
    assert WANTED["gap"].test(groups[0], None, groups[1:])


def test_a_bound_close_to_the_value_is_wanted_of_a_load():
    beside = next(iter(grouped([made("HiGHS", 1.0, 10.0, part="bert")]).values()))
    for bound, seconds, verdict in (
        (10.00001, 3.0, True),
        (10.0001, 3.0, False),
        (10.0, 3.2, False),
        (None, 1.0, False),
    ):
        (group,) = grouped([made("default", seconds, 10.0, "FEASIBLE", "bert", bound=bound)]).values()
        assert WANTED["bert"].test(group, beside, []) == verdict


def test_sizes():
    assert list(Size().several(5)) == [0, 1, 2, 3, 4]
    assert list(Size(seeds=2).several(5)) == [0, 1]
    assert list(Size(quick=True, seeds=2).several(5)) == [0]
