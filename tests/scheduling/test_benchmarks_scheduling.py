import pytest

from benchmarks.scheduling import generated, report
from benchmarks.scheduling.cases import Answer, Case
from benchmarks.scheduling.compare import METHODS, Row, append, main, read, run, run_alone
from benchmarks.scheduling.decode import Decoder
from benchmarks.scheduling.shops import INSTANCES, read_best
from cggd_scheduling import Project, ScheduleError
from cggd_scheduling.hls import DataFlowGraph, FunctionalUnit, Synthesis, UnitLibrary
from cggd_scheduling.jobshop import JobShop, read_shops
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
    case, best = CASES[family]
    if not METHODS[method].takes(case):
        pytest.skip(f"{method} has no model for it")
    pytest.importorskip(METHODS[method].package)
    row = run(case, method, seed=0, seconds=1.0)
    assert row.value is not None
    assert row.value >= best - 1e-9
    if method not in ("priority rule", "genetic"):
        assert row.value == pytest.approx(best)
    if method in ("CP-SAT", "HiGHS", "PyJobShop"):
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
        Row("f", "i", "cggd", 0, 1.0, 4.5, None, False, 4.0, 0.25, 0.25),
        Row("f", "i", "CP-SAT", 0, 1.0, None, 4.0, False, None, 1.0, None),
    ]
    for row in rows:
        append(tmp_path / "rows.csv", row)
    assert read(tmp_path / "rows.csv") == rows
    assert read(tmp_path / "none.csv") == []


def test_a_run_in_a_process_of_its_own_returns_its_row_and_says_where_it_fails():
    case, best = CASES["units"]
    row = run_alone(case, "priority rule", seed=0, seconds=1.0)
    assert (row.family, row.instance, row.method, row.value) == ("units", "u", "priority rule", best)
    broken = Case("units", "broken", case.problem, "sum", None)
    with pytest.raises(RuntimeError, match="priority rule on broken ended without a result"):
        run_alone(broken, "priority rule", seed=0, seconds=1.0)


def test_a_comparison_goes_on_where_it_was_cut_off(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pymoo", reason="the genetic algorithm is pymoo's, of the extra bench")
    case, _ = CASES["units"]
    monkeypatch.setattr("benchmarks.scheduling.compare.cases", lambda quick=False: {"units": lambda: iter([case])})
    options = ["--methods", "priority rule", "genetic", "--seconds", "0.1", "--out", str(tmp_path)]
    main([*options, "--seeds", "1"])
    first = read(tmp_path / "scheduling.csv")
    main([*options, "--seeds", "2"])
    rows = read(tmp_path / "scheduling.csv")
    assert rows[: len(first)] == first
    assert [(row.method, row.seed) for row in rows] == [("priority rule", 0), ("genetic", 0), ("genetic", 1)]
    assert "**units**: 1 instance, 0.1 s each" in capsys.readouterr().out


ROWS = [
    Row("f", "i", "cggd", 0, 1.0, 12.0, None, False, 10.0, 1.0, 1.0),
    Row("f", "i", "cggd", 1, 1.0, 13.0, None, False, 10.0, 1.0, 1.0),
    Row("f", "i", "cggd", 2, 1.0, 12.0, None, False, 10.0, 1.0, 1.0),
    Row("f", "i", "CP-SAT", 0, 1.0, 11.0, 11.0, True, 10.0, 0.5, 0.5),
    Row("f", "i", "CP-SAT", 1, 1.0, 11.0, 11.0, True, 10.0, 0.6, 0.6),
    Row("f", "i", "genetic", 0, 1.0, 14.0, None, False, 10.0, 1.0, None),
    Row("f", "k", "cggd", 0, 1.0, 5.0, 5.0, True, None, 1.0, 1.0),
    Row("f", "k", "cggd", 1, 1.0, 5.0, 5.0, True, None, 1.0, 1.0),
    Row("f", "k", "cggd", 2, 1.0, 5.0, 5.0, True, None, 1.0, 1.0),
    Row("f", "k", "CP-SAT", 0, 1.0, None, None, False, None, 1.0, 1.0),
    Row("f", "k", "CP-SAT", 1, 1.0, 5.0, None, False, None, 1.0, 1.0),
    Row("f", "k", "genetic", 0, 1.0, 5.00001, None, False, None, 1.0, None),
]


def test_the_report_shows_medians_spread_and_proofs(tmp_path):
    best = report.references(ROWS)
    assert best == {("f", "i"): 11.0, ("f", "k"): 5.0}  # 10 is ruled out by a proof
    assert report.gap(ROWS[0], best) == pytest.approx(1 / 11)
    table = report.text(ROWS)
    # Medians of 12 and 5; means over instances of 1/11, 2/11 and 1/11, halved.
    assert "| cggd | 3 | 6 of 6 | 1 | 4.55% (4.55 to 9.09%) | 9.1% | 1 | 1.00 |" in table
    assert "| CP-SAT | 2 | 3 of 4 | 1 | 0.00% (0.00 to 0.00%) | 0.0% | 1 | 0.80 |" in table
    assert "| genetic | 1 | 2 of 2 | 1 | 13.64% | 27.3% | 0 | - |" in table
    report.draw(ROWS, tmp_path / "gaps.png")
    assert (tmp_path / "gaps.png").stat().st_size > 1000


def test_the_report_lists_losses_as_it_lists_wins():
    assert report.losses(ROWS).splitlines()[2:] == ["| f, 1 s | i | 11 | 12 (12 to 13) | CP-SAT 11 |"]
    assert report.unproved(ROWS) == "- f, 1 s, CP-SAT: i"
    wins = report.versus(ROWS).splitlines()[2:]
    assert wins == ["| f, 1 s | CP-SAT | 1 | 0 | 1 | 1 | 1 |", "| f, 1 s | genetic | 1 | 1 | 0 | 1 | 0 |"]
    assert report.losses(ROWS[6:]) == "None."
    assert report.unproved(ROWS[6:]) == "None."


def test_an_instance_without_any_schedule_of_ours_is_a_loss():
    nothing = Row("f", "j", "cggd", 0, 1.0, None, None, False, None, 1.0, 1.0)
    found = Row("f", "j", "CP-SAT", 0, 1.0, 7.0, None, False, None, 1.0, 1.0)
    assert "| f, 1 s | j | 7 | nothing | CP-SAT 7 |" in report.losses([nothing, found])
    assert report.losses([nothing, Row("f", "j", "CP-SAT", 0, 1.0, None, None, False, None, 1.0, 1.0)]) == "None."


# -- the models of the others -----------------------------------------------------------------------------------------


def test_pyjobshop_gets_machines_where_one_task_is_served_at_a_time():
    pytest.importorskip("pyjobshop")
    from benchmarks.scheduling.pyjobshop import build, solve

    jobs = [[{m: 1 + (3 * j + 2 * i + m) % 7 for m in range(i % 2, 4)} for i in range(3)] for j in range(4)]
    shop = JobShop(jobs)
    case = Case("job shop", "j", shop, "makespan", shop.requirements())
    model, labels = build(shop.requirements())
    data = model.data()
    assert data.num_machines == len(shop.machines)
    assert not data.renewable_idcs
    assert [data.modes[n].duration for n in range(data.num_modes)] == [
        duration for machines in shop.operations.values() for duration in machines.values()
    ]
    assert labels == [machine for machines in shop.operations.values() for machine in machines]
    answer = solve(case, seed=1, seconds=2.0)
    assert answer is not None
    assert case.value(answer) == pytest.approx(answer.bound)  # the judge checks machines and order


def test_pyjobshop_gets_renewables_where_amounts_are_shared():
    pytest.importorskip("pyjobshop")
    from benchmarks.scheduling.pyjobshop import build, solve

    project = Project(
        {"a": [(4, {"crew": 1, "crane": 1})], "b": [(3, {"crew": 2, "crane": 1}), (5, {"crew": 1, "money": 2})]},
        renewable={"crew": 2, "crane": 1},
        nonrenewable={"money": 2},
    )
    data = build(project.requirements())[0].data()
    assert (data.num_machines, len(data.renewable_idcs), len(data.consumable_idcs)) == (1, 1, 1)
    case = Case("projects", "p", project, "makespan", project.requirements())
    answer = solve(case, seed=0, seconds=2.0)
    assert answer is not None
    assert case.value(answer) == answer.bound == 5.0


# -- instances --------------------------------------------------------------------------------------------------------

TWO = "instance x1\nby somebody\n2 3\n0 3 1 2 2 2\n0 2 2 1 1 4\n\ninstance x2\n1 1\n0 5\n"


def test_the_reader_of_shops_reads_files_of_one_and_of_several(tmp_path):
    file = tmp_path / "several.txt"
    file.write_text(TWO)
    shops = read_shops(file)
    assert list(shops) == ["x1", "x2"]
    assert shops["x1"].jobs == (({0: 3}, {1: 2}, {2: 2}), ({0: 2}, {2: 1}, {1: 4}))
    alone = tmp_path / "x3"
    alone.write_text("#+++++\n# instance x3\n#+++++\n# 2 x 1\n2 1\n 0  4\n 0  1\n")
    (shop,) = read_shops(alone).values()
    assert (shop.name, shop.jobs) == ("x3", (({0: 4},), ({0: 1},)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("0 3 1 2 2 2\n", "", "instance x1: expected 2 lines of jobs, got 1"),
        ("0 5", "0 5\n0 6", "instance x2: expected 1 lines of jobs, got 2"),
        ("0 3 1 2 2 2", "0 3 1 2 2", "instance x1, job 1: expected 3 pairs of machine and duration, got 5 numbers"),
        ("0 2 2 1 1 4", "0 2 2 1 1 4.5", "instance x1, job 2: expected whole numbers of at least 0, got '4.5'"),
        ("0 2 2 1 1 4", "0 2 2 1 1 -4", "instance x1, job 2: expected whole numbers of at least 0, got '-4'"),
        ("0 2 2 1 1 4", "0 2 3 1 1 4", r"instance x1, job 2: expected each machine of 0 to 2 once, got \[0, 3, 1\]"),
        ("0 2 2 1 1 4", "0 2 0 1 1 4", r"instance x1, job 2: expected each machine of 0 to 2 once, got \[0, 0, 1\]"),
        ("1 1\n0 5", "nothing", "instance x2: expected a line with the numbers of jobs and machines, and found none"),
        ("instance x2", "instance x1", "instance x1 is there twice"),
        (TWO, "", "instance shops: expected a line with the numbers of jobs and machines"),
    ],
)
def test_wrong_files_of_shops_are_errors_that_say_where(tmp_path, old, new, message):
    file = tmp_path / "shops.txt"
    assert old in TWO
    file.write_text(TWO.replace(old, new))
    with pytest.raises(ValueError, match=f"shops.txt: {message}"):
        read_shops(file)


HEAD = "instance,jobs,machines,lower,upper,source\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{HEAD}x,2,3,10,9,here\n", "instance x: the lower bound 10 is above the makespan 9"),
        (f"{HEAD}x,2,3,9,9,\n", "instance x: the source is missing"),
        (f"{HEAD}x,2,3,9,9,here\nx,2,3,9,9,there\n", "instance x is there twice"),
        (f"{HEAD}x,2,3,nine,9,here\n", "nine"),
        ("instance,jobs,machines,lower\nx,2,3,9\n", "upper"),
    ],
)
def test_wrong_files_of_best_makespans_are_errors(tmp_path, text, message):
    file = tmp_path / "best.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=f"best.csv.*{message}"):
        read_best(file)


SHOPS = read_shops(INSTANCES / "job_shops.txt")
BEST = read_best(INSTANCES / "job_shops.csv")


def test_each_classical_shop_has_a_best_makespan_that_is_possible():
    assert list(SHOPS) == list(BEST)
    assert {"ft06", "ft10", *(f"la{n:02}" for n in range(1, 41)), *(f"abz{n}" for n in range(5, 10))} <= set(SHOPS)
    for name, shop in SHOPS.items():
        best = BEST[name]
        assert (len(shop.jobs), len(shop.machines)) == (best.jobs, best.machines)
        load = dict.fromkeys(shop.machines, 0)
        for machines in shop.operations.values():
            for machine, duration in machines.items():
                load[machine] += duration
        longest = max(sum(duration for machines in job for duration in machines.values()) for job in shop.jobs)
        assert max(longest, *load.values()) <= best.lower <= best.upper <= sum(load.values())


@pytest.mark.parametrize("name", ["ft06", "la01", "la05", "la11", "la14"])
def test_the_best_makespans_of_easy_classical_shops_are_reached(name):
    pytest.importorskip("ortools")
    from benchmarks.scheduling.cp_sat import solve

    case = Case("job shop", name, SHOPS[name], "makespan", SHOPS[name].requirements())
    answer = solve(case, seed=0, seconds=30.0)
    assert answer is not None
    assert case.value(answer) == answer.bound == BEST[name].upper == BEST[name].lower


@pytest.mark.parametrize(("modes", "strength"), [(1, 0.0), (1, 1.0), (3, 0.3)])
def test_drawn_projects_have_a_schedule_and_depend_on_the_seed_alone(modes, strength):
    pytest.importorskip("ortools")
    from benchmarks.scheduling.cp_sat import solve

    for seed in range(4):
        project = generated.project(9, modes, strength, seed=seed)
        again = generated.project(9, modes, strength, seed=seed)
        assert repr(project.requirements()) == repr(again.requirements())
        case = Case("projects", project.name, project, "makespan", project.requirements())
        answer = solve(case, seed=0, seconds=30.0)
        assert answer is not None
        assert case.value(answer) == answer.bound
    others = [repr(generated.project(9, modes, strength, seed=seed).requirements()) for seed in range(4)]
    assert all(a != b for n, a in enumerate(others) for b in others[:n])
