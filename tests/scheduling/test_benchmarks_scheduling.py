import math

import pytest

from benchmarks.scheduling import report
from benchmarks.scheduling.cases import Answer, Case
from benchmarks.scheduling.compare import METHODS, Row, append, read, run
from benchmarks.scheduling.decode import Decoder
from cggd_scheduling import Project, ScheduleError
from cggd_scheduling.hls import DataFlowGraph, FunctionalUnit, Synthesis, UnitLibrary
from cggd_scheduling.jobshop import JobShop
from cggd_scheduling.placement import Device, Operator, Placement


def small_cases():
    project = Project(
        {"a": [(4, {"crew": 1}), (2, {"crew": 2, "money": 3})], "b": [(3, {"crew": 1})], "c": [(2, {"crew": 2})]},
        [("a", "c")],
        renewable={"crew": 2},
        nonrenewable={"money": 3},
    )
    graph = DataFlowGraph({"p": "MUL", "q": "MUL", "s": "ADD"}, [("p", "s"), ("q", "s")])
    units = [FunctionalUnit("MUL", 100, 2, 46), FunctionalUnit("MUL", 41, 4, 23), FunctionalUnit("ADD", 10, 1, 15)]
    synthesis = Synthesis(graph, UnitLibrary(units))
    shop = JobShop([[{0: 3, 1: 2}, {1: 2}], [{1: 2}, {0: 1}]])
    work = {n: Operator({"x": 2.0 + n}, 1.0, 0.5) for n in range(4)}
    placement = Placement(work, [(0, 1), (1, 2), (2, 3)], [Device("d", "x", 3.0), Device("e", "x", 3.0)])
    cost = {"MUL@2": 100, "MUL@4": 41, "ADD@1": 10}
    needs = synthesis.requirements({}, 9)
    return {
        "modes": (Case("modes", "m", project, "makespan", project.requirements(renewable=False)), 4.0),
        "projects": (Case("projects", "p", project, "makespan", project.requirements()), 6.0),
        "units": (Case("units", "u", synthesis, "sum", needs, cost, objective="area"), 92.0),
        "shared units": (Case("shared units", "s", synthesis, "copies", needs, cost, objective="area"), 51.0),
        "placement": (Case("placement", "b", placement, "load", None, objective="load"), 8.0),
        "job shop": (Case("job shop", "j", shop, "makespan", shop.requirements()), 5.0),
    }


CASES = small_cases()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", CASES)
def test_each_method_answers_small_cases_and_the_exact_ones_agree(method, family):
    module, families, package = METHODS[method]
    if families is not None and family not in families:
        pytest.skip(f"{method} has no model for it")
    pytest.importorskip(package)
    case, best = CASES[family]
    row = run(case, method, seed=0, seconds=1.0 if method != "genetic" else 0.4)
    assert row.value is not None
    assert row.value >= best - 1e-9
    if method not in ("priority rule", "genetic"):
        assert row.value == pytest.approx(best)
    if module in ("cp_sat", "highs", "pyjobshop"):
        assert row.proved


def test_the_judge_rejects_what_breaks_the_instance():
    case, _ = CASES["projects"]
    with pytest.raises(ScheduleError, match="crew"):
        case.value(Answer({"a": 2, "b": 1, "c": 1}, {"a": 0, "b": 0, "c": 2}))
    placement, _ = CASES["placement"]
    with pytest.raises(AssertionError, match="too little memory"):
        placement.value(Answer(dict.fromkeys(range(4), "d")))


def test_copies_are_counted_by_what_runs_at_once():
    case, _ = CASES["shared units"]
    together = Answer({"p": "MUL@4", "q": "MUL@4", "s": "ADD@1"}, {"p": 0, "q": 0, "s": 4})
    after = Answer(together.modes, {"p": 0, "q": 4, "s": 8})
    assert (case.value(together), case.value(after)) == (92.0, 51.0)


def test_the_decoder_starts_each_task_as_early_as_it_fits_in():
    case, _ = CASES["projects"]
    decoder = Decoder(case)
    modes = {"a": 1, "b": 1, "c": 1}
    assert decoder.schedule(modes, {"a": 0, "b": 1, "c": 2}) == {"a": 0, "b": 0, "c": 4}
    assert decoder.excess(modes) == 0
    assert decoder.tails(modes) == {"c": 2, "b": 3, "a": 6}


def test_rows_are_written_and_read_back(tmp_path):
    rows = [
        Row("f", "i", "cggd", 0, 1.0, 4.5, None, False, 4.0, 0.25),
        Row("f", "i", "CP-SAT", 0, 1.0, None, 4.0, False, None, 1.0),
    ]
    for row in rows:
        append(tmp_path / "rows.csv", row)
    assert read(tmp_path / "rows.csv") == rows
    assert read(tmp_path / "none.csv") == []


def test_the_report_shows_gaps_proofs_and_losses(tmp_path):
    rows = [
        Row("f", "i", "cggd", 0, 1.0, 12.0, None, False, 10.0, 1.0),
        Row("f", "i", "CP-SAT", 0, 1.0, 11.0, 11.0, True, 10.0, 0.5),
        Row("f", "k", "cggd", 0, 1.0, 5.0, 5.0, True, None, 1.0),
        Row("f", "k", "CP-SAT", 0, 1.0, None, None, False, None, 1.0),
    ]
    best = report.references(rows)
    assert best == {("f", "i"): 11.0, ("f", "k"): 5.0}  # 10 is ruled out by a proof
    assert report.gap(rows[0], best) == pytest.approx(1 / 11)
    assert "| cggd | 2 of 2 | 1 | 4.55% | 9.1% | 1 | 1.00 |" in report.text(rows)
    assert "| CP-SAT | 1 of 2 | 1 | 0.00% | 0.0% | 1 | 0.75 |" in report.text(rows)
    assert report.losses(rows) == "- f, i, 1 s: cggd 12, CP-SAT 11"
    assert not math.isnan(report.gap(rows[2], best) or 0.0)
    report.draw(rows, tmp_path / "gaps.png")
    assert (tmp_path / "gaps.png").stat().st_size > 1000
