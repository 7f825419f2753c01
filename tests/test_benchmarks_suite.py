"""The benchmark suite: the harness must not believe its opponents, and each opponent must find something."""

import json
import subprocess
import sys
from dataclasses import fields
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import report
from benchmarks.instances import Instance, catalogue, lp_bound, shared_bounds
from benchmarks.opponents.claim import NeedsStructureError
from benchmarks.opponents.linear_form import linear_form
from benchmarks.opponents.repair import Switches, repair, upgrade
from benchmarks.runner import CLAIM, OPPONENTS, Trace, read_trace, run, solver
from benchmarks.suite import Row, Task, chosen, execute, judge, read
from cggd import Additive, ChoiceSpace, Function, Problem, Table

STRUCTURE = {"CP-SAT", "HiGHS"}


def tiny(sense: Literal["minimize", "maximize"] = "maximize", kind="sums") -> Instance:
    space = ChoiceSpace.from_sizes([3, 2, 3])
    values, weights = [1, 4, 9, 2, 5, 0.5, 3, 6], [1, 3, 7, 1, 4, 0, 2, 5]
    objective, weight = Additive(space, values, 0.5, name="value"), Additive(space, weights, 1.0, name="weight")
    every = space.enumerate()
    kept = weight.evaluate(every) <= 9
    found = objective.evaluate(every)[kept]
    best = float(found.max() if sense == "maximize" else found.min())
    metrics = {
        "sums": (objective, weight),
        "tables": (Table(space, objective.evaluate(every)), Table(space, weight.evaluate(every))),
        "calls": tuple(Function(space, m.evaluate, batch=True, cache=False) for m in (objective, weight)),
    }[kind]
    return Instance("tiny", kind, Problem(metrics[0], [metrics[1] <= 9], sense), best, best, "")


def outcome(instance, opponent, folder, *, seconds=0.1):
    solve = solver(opponent)
    run(solve, instance, folder, seed=0, seconds=seconds, threads=1)
    trace = read_trace(folder, instance.problem.space.n_decisions)
    return judge(instance, Task("tiny", opponent, 0, seconds), trace, json.loads((folder / CLAIM).read_text()))


@pytest.mark.parametrize("kind", ["sums", "tables", "calls"])
@pytest.mark.parametrize("opponent", OPPONENTS)
def test_every_opponent_finds_something_feasible(opponent, kind, tmp_path):
    pytest.importorskip(OPPONENTS[opponent].package, reason=f"{OPPONENTS[opponent].package} is not installed")
    for sense in ("maximize", "minimize"):
        row = outcome(tiny(sense, kind), opponent, tmp_path)
        if kind == "calls" and opponent in STRUCTURE:
            assert (row.note, row.feasible, row.value) == ("needs structure", False, None)
            continue
        assert row.feasible, row.note
        assert "infeasible" not in row.note
        assert row.gap is not None
        assert row.gap >= 0
        if opponent in STRUCTURE:
            assert row.proved
            assert row.gap == 0
            assert row.bound == pytest.approx(row.value)


def trace(*entries):
    times, rows = zip(*entries, strict=True)
    return Trace(np.array(times, dtype=float), np.array(rows, dtype=np.int64))


def test_infeasible_and_late_records_do_not_count():
    # Values 6.5 at weight 5, 20.5 at weight 17, 7 at weight 5, and 10 at weight 8.
    entries = trace((0.1, [0, 0, 1]), (0.2, [2, 1, 2]), (0.3, [1, 0, 0]), (1.2, [1, 1, 0]))
    row = judge(tiny(), Task("tiny", "greedy", 0, 1.0), entries, {"wall": 1.0})
    assert row.feasible
    assert row.value == 7.0
    assert row.first_s == 0.1
    assert "1 of 3 records infeasible" in row.note
    only = judge(tiny(), Task("tiny", "greedy", 0, 1.0), trace((0.2, [2, 1, 2])), {"wall": 1.0, "proved": True})
    assert not only.feasible
    assert not only.proved
    assert only.value is only.gap is only.first_s is None


def test_a_wrong_bound_is_no_proof():
    instance = tiny()
    best = trace((0.1, [1, 0, 0]))
    row = judge(instance, Task("tiny", "x", 0, 1.0), best, {"wall": 0.5, "proved": True, "bound": 1.0})
    assert not row.proved
    assert "beaten by its value" in row.note
    late = judge(instance, Task("tiny", "x", 0, 1.0), best, {"wall": 2.0, "proved": True, "bound": 99.0})
    assert not late.proved


@given(
    st.sampled_from(["minimize", "maximize"]), st.floats(-1e6, 1e6).filter(lambda x: abs(x) > 1e-3), st.floats(0, 50)
)
def test_gaps_are_positive_where_worse(sense, reference, percent):
    space = ChoiceSpace.from_sizes([2])
    problem = Problem(Additive(space, [0, 1]), (), sense)
    value = reference + problem.sign * percent / 100 * abs(reference)
    assert Instance("x", "x", problem, reference, None, "").gap(value) == pytest.approx(percent, abs=1e-6)
    assert Instance("x", "x", problem, None, reference, "").gap(value) == pytest.approx(percent, abs=1e-6)


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 3))
def test_repair_and_upgrade_agree_with_evaluation(seed, n, m):
    rng = np.random.default_rng(seed)
    space = ChoiceSpace.from_sizes(rng.integers(1, 5, n))
    weights = [Additive(space, rng.integers(0, 9, space.n_options)) for _ in range(m)]
    constraints = [w <= w.minimum() + 0.6 * (w.maximum() - w.minimum()) for w in weights]
    problem = Problem(Additive(space, rng.integers(0, 9, space.n_options)), constraints, "maximize")
    selection = space.sample(1, rng)[0]
    switches = Switches(problem)
    slow = Switches(Problem(2 * problem.objective / 2, constraints, "maximize"))
    for fast, general in zip(switches.at(selection), slow.at(selection), strict=True):
        np.testing.assert_allclose(fast, general)
    feasible = repair(switches, selection)
    assert feasible == all(c.report(selection).satisfied for c in constraints)
    if feasible:
        before = problem.objective(selection)
        upgrade(switches, selection)
        assert all(c.report(selection).satisfied for c in constraints)
        assert problem.objective(selection) >= before
        objective, values = switches.at(selection)
        fits = (values <= switches.limits[:, None]).all(axis=0)
        assert objective[fits].min() >= -problem.objective(selection) - 1e-6


@given(st.integers(0, 10_000))
def test_the_linear_form_says_what_the_metrics_say(seed):
    rng = np.random.default_rng(seed)
    for sense in ("minimize", "maximize"):
        for kind in ("sums", "tables"):
            problem = tiny(sense, kind).problem
            form, selection = linear_form(problem), problem.space.sample(1, rng)[0]
            x = np.zeros(len(form.costs))
            if form.rows is None:
                x[problem.space.layout.flat(selection)] = 1
            else:
                x[(form.rows == selection).all(axis=1)] = 1
            np.testing.assert_array_equal(form.selection(x), selection)
            assert form.objective(float(form.costs @ x)) == pytest.approx(problem.objective(selection))
            (constraint,) = problem.constraints
            assert (form.weights @ x <= form.limits).all() == constraint.report(selection).satisfied
    with pytest.raises(NeedsStructureError):
        linear_form(tiny("minimize", "calls").problem)


def test_integers_are_exact_or_conservative():
    cp_sat = pytest.importorskip("benchmarks.opponents.cp_sat", reason="ortools is not installed", exc_type=ImportError)
    row = np.array([4.2, 3.75, 0.0])
    assert cp_sat.decimal_scale(np.append(row, 9.0)) == 100
    weights, capacity = cp_sat.as_integers(row, 9.0, 100)
    assert weights.tolist() == [420, 375, 0]
    assert capacity == 900
    awkward = np.array([np.pi, -np.e, 1 / 3])
    assert cp_sat.decimal_scale(awkward) is None
    weights, capacity = cp_sat.as_integers(awkward, np.sqrt(2), None)
    scale = cp_sat.LARGEST / np.pi
    assert (weights >= awkward * scale).all()
    assert capacity <= np.sqrt(2) * scale


def test_bounds_leave_their_share():
    space = ChoiceSpace.from_sizes([10, 10])
    rng = np.random.default_rng(0)
    metrics = [Table(space, rng.random(100)), Table(space, rng.random(100))]
    for share in (0.5, 0.1, 0.02):
        bounds = shared_bounds(metrics, share)
        kept = np.all([m.values <= b for m, b in zip(metrics, bounds, strict=True)], axis=0)
        assert round(100 * share) <= kept.sum() <= round(100 * share) + 1


def test_known_bounds_are_those_of_the_linear_relaxation():
    names = catalogue()
    for name in ("I03", "random-1000"):
        instance = names[name]()
        assert instance.bound is not None
        assert lp_bound(instance.problem) >= instance.bound - 0.01
    assert lp_bound(names["random-1000"]().problem) == pytest.approx(names["random-1000"]().bound, abs=0.01)


@pytest.mark.slow
def test_a_process_of_its_own_and_one_that_fails(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
    claim = execute(Task("I01", "greedy", 0, 0.5), first)
    row = judge(catalogue()["I01"](), Task("I01", "greedy", 0, 0.5), read_trace(first, 5), claim)
    assert row.feasible
    failed = execute(Task("I01", "nobody", 0, 0.5), second)
    assert failed["note"].startswith("failed")
    assert len(read_trace(second, 5).seconds) == 0


def test_names_that_match_nothing_are_errors():
    assert chosen(["I01", "I02", "c_24"], ["I*"], "instance") == ["I01", "I02"]
    with pytest.raises(SystemExit, match="no instance 'x'"):
        chosen(["I01"], ["x"], "instance")


def csv_of(path, *runs):
    header = ",".join(field.name for field in fields(Row))
    path.write_text("\n".join([header, *runs]) + "\n")


def test_report_of_a_small_file(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    source, out = tmp_path / "runs.csv", tmp_path / "docs"
    csv_of(
        source,
        "GAP,a,cggd,0,1.0,101,True,1.0,0.1,0.5,,False,99,1.0,",
        "GAP,a,cggd,1,1.0,,False,,,,,False,99,1.0,",
        "GAP,a,cggd,2,1.0,102,True,2.0,0.3,,,False,99,1.0,",
        "GAP,a,HiGHS,0,1.0,100,True,0.0,0.1,0.1,0.2,True,100,0.4,Optimal",
        "GAP,a,greedy,0,1.0,103,True,3.0,0.1,,,False,,0.4,",
        "black box,b,cggd,0,1.0,100,True,0.0,0.1,0.2,0.3,False,,1.0,",
        "black box,b,HiGHS,0,1.0,,False,,,,,False,,0.0,needs structure",
    )
    runs = report.runs_of(read(source))
    ours = "| 1 s | cggd | 2 of 3 | 2.000 % | 1.500 % to none | 0.30 s | never (1 of 3) |"
    assert ours in report.family_table(runs[:3])
    wins = report.wins_table(runs)
    assert "| 1 s | GAP | a | HiGHS | 0.000 % | 2.000 % | 2.000 points |" in wins
    assert "greedy" not in wins
    assert "| b |" not in wins
    report.main([str(source), "--out", str(out)])
    page = out / "benchmarks.md"
    text = page.read_text()
    assert "needs structure" in text
    assert (out / "suite_gap.png").stat().st_size > 0
    page.write_text("before\n" + text + "after\n")
    report.main([str(source), "--out", str(out)])
    again = page.read_text()
    assert again.startswith("before\n")
    assert again.endswith("after\n")
    assert again.count("<!-- suite:begin -->") == 1


@pytest.mark.slow
def test_the_suite_goes_on_where_it_was_stopped(tmp_path):
    out = tmp_path / "suite.csv"
    command = [sys.executable, "-m", "benchmarks.suite", "--out", str(out), "--limits", "0.2", "--seeds", "0"]
    command += ["--opponents", "greedy", "random"]
    for instances, expected in ((["I01"], 2), (["I01", "I02"], 4)):
        subprocess.run([*command, "--instances", *instances], check=True, capture_output=True)
        assert len(read(out)) == expected
    assert {row["feasible"] for row in read(out)} == {"True"}
