"""The command line as a user meets it."""

import csv
import itertools
import json
import os
import pty
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from cggd import (
    ChoiceSpace,
    Descent,
    Diagnosis,
    Feasibility,
    Multipliers,
    Presolve,
    Problem,
    Result,
    SearchError,
    Status,
    Stop,
    commands,
    maximize,
)
from cggd.datasets import mmkp
from cggd.io import read_options, write_problem

TABLE = """decision,option,accuracy [%],latency [ms],weight
stem,conv3,1.0,2.0,10
stem,conv5,2.5,4.0,30
pool,max,0.5,1.0,5
pool,none,0.1,0.0,0
head,small,3.0,1.5,20
head,large,4.5,3.0,60
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "options.csv"
    path.write_text(TABLE)
    return str(path)


def plain(text):
    """Without what a terminal understands and without the boxes that typer draws."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[─│╭╮╰╯]", "", text).split())


def test_solve_without_polish_and_up_to_a_gap(cggd, tmp_path):
    knapsack = mmkp("I02")
    path = tmp_path / "problem.json"
    write_problem(Problem(knapsack.value, knapsack.constraints, "maximize"), path)
    found = {}
    for how in ([], ["--no-polish"], ["--gap", "0.2"]):
        code, out, _ = cggd("solve", path, "--json", *how)
        assert code == 0
        found[" ".join(how)] = json.loads(out)
    assert found[""]["status"] == "OPTIMAL"
    assert found["--no-polish"]["status"] == "FEASIBLE"
    assert found["--gap 0.2"]["stopped"] == "GAP"
    assert found["--gap 0.2"]["gap"] <= 0.2
    code, _, err = cggd("solve", path, "--gap", "-1")
    assert code == 1
    assert "gap must be at least 0, got -1" in plain(err)


def test_solve(cggd, table):
    code, out, _ = cggd("solve", table, "--maximize", "accuracy", "--limit", "latency<=5.3", "--limit", "weight <= 100")
    assert code == 0
    # Best of the eight by hand: conv3, none, large: 5.6 at 5.0 ms.
    for line in (
        "maximize   accuracy = 5.6 %",
        "latency <= 5.3 ms: 5, 0.3 left",
        "stem: conv3",
        "pool: none",
        "head: large",
    ):
        assert line in out


def test_solve_minimize_with_at_least_and_forbid(cggd, table):
    code, out, _ = cggd("solve", table, "--minimize", "latency", "--limit", "accuracy>=5", "--forbid", "head=large")
    assert code == 0
    assert "stem: conv5" in out
    assert "head: small" in out


def test_result_file_json_and_plot(cggd, table, tmp_path):
    saved = tmp_path / "r.json"
    code, out, err = cggd("solve", table, "--maximize", "accuracy", "--limit", "latency<=5.3", "--out", saved, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["feasible"] is True
    assert Result.from_json(saved.read_text()).value == pytest.approx(5.6)
    code, out, _ = cggd("plot", saved)
    assert code == 0
    assert (tmp_path / "r.png").stat().st_size > 10_000


@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("top", [1, 3])
def test_csv_has_what_each_option_adds_and_totals(cggd, table, tmp_path, decimal, top):
    saved, given = tmp_path / "r.csv", tmp_path / "options.csv"
    if decimal == ",":
        given.write_text(TABLE.replace(",", ";").replace(".", ","))
    options = ["--limit", "latency<=6", "--csv", saved, "--decimal", decimal, "--top", top, "--json"]
    code, out, _ = cggd("solve", given, "--maximize", "accuracy", *options)
    assert code == 0
    rows = list(csv.DictReader(saved.read_text().splitlines(), delimiter=";" if decimal == "," else ","))
    answers = json.loads(out)
    for number, answer in enumerate([answers, *answers.get("alternatives", [])], start=1):
        own = [row for row in rows if row.get("answer", "1") == str(number)]
        assert [[row["decision"], row["option"]] for row in own[:-1]] == answer["selection"]
        numbers = {name: [float(row[name].replace(",", ".")) for row in own] for name in list(own[0])[-3:]}
        assert list(numbers) == ["accuracy [%]", "latency [ms]", "weight"]
        assert all(sum(column[:-1]) == pytest.approx(column[-1]) for column in numbers.values())
        assert (own[-1]["decision"], numbers["accuracy [%]"][-1]) == ("total", answer["value"])


def test_check_leaves_forbidden_options_out(cggd, table):
    code, out, _ = cggd("check", table, "--limit", "latency<=5.3", "--forbid", "head=small")
    assert code == 0
    assert "all together: 25.00% of all 4 selections" in out
    assert "latency <= 5 ms is the tightest bound that works" in out
    code, out, _ = cggd("check", table, "--limit", "latency<=4", "--forbid", "head=small", "--forbid", "stem=conv3")
    assert code == 2
    assert "no selection has less than 7" in out


def test_infeasible_is_2_and_proved(cggd, table):
    code, out, _ = cggd("solve", table, "--maximize", "accuracy", "--limit", "latency<=1")
    assert code == 2
    assert "infeasible: no selection satisfies the constraints (proved)" in out


def test_ctrl_c(cggd, table, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Presolve, "improve", interrupted)
        code, out, _ = cggd("solve", table, "--maximize", "accuracy", "--limit", "latency<=1")
        assert code == 2
        assert "unknown: no selection" in out
        assert "latency <= 1 ms: 4.5, violated by 3.5" in out  # the first selection
        assert cggd("solve", table, "--maximize", "accuracy", "--limit", "latency<=9")[0] == 0
    monkeypatch.setattr(commands, "read_question", interrupted)
    code, _, err = cggd("solve", table, "--maximize", "accuracy")
    assert code == 130
    assert "interrupted before there was a result" in err


def test_unknown_is_2(cggd, table):
    code, out, _ = cggd("solve", table, "--maximize", "accuracy", "--limit", "latency<=3.6", "--limit", "weight>=70")
    assert code == 2
    assert "infeasible" in out or "unknown" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--maximize METRIC or --minimize METRIC"),
        (["--maximize", "speed"], "no metric 'speed'; it has accuracy, latency, weight"),
        (["--maximize", "accuracy", "--limit", "latency<5"], "<="),
        (["--maximize", "accuracy", "--limit", "power<=5"], "power"),
        (["--maximize", "accuracy", "--forbid", "stem"], "--forbid must be decision=option"),
        (["--maximize", "accuracy", "--forbid", "stem=conv7"], "conv7"),
        (["--maximize", "accuracy", "--time", "-1"], "time_limit must be more than 0"),
        (["--maximize", "accuracy", "--steps", "many"], "steps"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_wrong_input_is_1_with_a_message(cggd, table, arguments, message):
    code, _, err = cggd("solve", table, *arguments)
    assert code == 1
    assert message in err
    assert "Traceback" not in err


def test_sweep(cggd, table, tmp_path):
    files = {"--csv": tmp_path / "f.csv", "--plot": tmp_path / "f.png", "--out": tmp_path / "f.json"}
    code, out, _ = cggd(
        "sweep", table, "--maximize", "accuracy", "--metric", "latency", "--bounds", "3.5:8:4",
        *itertools.chain(*files.items()),
    )  # fmt: skip
    assert code == 0
    assert "maximize   accuracy [%] for each bound on latency [ms]" in out
    rows = list(csv.DictReader(files["--csv"].read_text().splitlines()))
    # By hand: conv3, none, small; conv3, none, large; conv3, max, large; conv5, max, large.
    assert [float(row["bound"]) for row in rows[::3]] == [3.5, 5, 6.5, 8]
    assert [float(row["value"]) for row in rows[::3]] == pytest.approx([4.1, 5.6, 6.0, 7.5])
    assert [float(row["metric_value"]) for row in rows[::3]] == [3.5, 5, 6, 8]
    assert [row["decision"] for row in rows] == ["stem", "pool", "head"] * 4
    chosen = ["conv3 none small", "conv3 none large", "conv3 max large", "conv5 max large"]
    assert [row["option"] for row in rows] == " ".join(chosen).split()
    assert files["--plot"].stat().st_size > 10_000
    assert len(json.loads(files["--out"].read_text())["points"]) == 4


def test_a_sweep_of_a_table_with_decimal_commas_writes_one(cggd, tmp_path):
    given, saved = tmp_path / "options.csv", tmp_path / "f.csv"
    given.write_text(TABLE.replace(",", ";").replace(".", ","))
    ask = ["--maximize", "accuracy", "--metric", "latency", "--bounds", "3.5:8:4", "--decimal", ","]
    assert cggd("sweep", given, *ask, "--csv", saved)[0] == 0
    rows = list(csv.DictReader(saved.read_text().splitlines(), delimiter=";"))
    assert [row["bound"] for row in rows[::3]] == ["3,5", "5,0", "6,5", "8,0"]


def test_sweep_of_spread_bounds_from_below_as_json(cggd, table):
    code, out, err = cggd(
        "sweep", table, "--minimize", "latency", "--metric", "accuracy", "--at-least", "--bounds", "3", "--json"
    )
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert [point["bound"] for point in data["points"]] == pytest.approx([7.5, 5.8, 4.1])
    assert data["metric"]["sense"] == ">="


@pytest.mark.parametrize(
    ("bounds", "expected"), [("4,3.5", [3.5, 4]), ("8,", [8]), ("5.5", [5.5]), ("-1, 4", [-1, 4]), ("4:4:1", [4])]
)
def test_bounds_of_a_sweep(cggd, table, bounds, expected):
    _, out, _ = cggd("sweep", table, "--maximize", "accuracy", "--metric", "latency", "--bounds", bounds, "--json")
    assert [point["bound"] for point in json.loads(out)["points"]] == expected


def test_a_sweep_in_which_a_bound_is_not_met_is_2(cggd, table):
    code, out, _ = cggd("sweep", table, "--maximize", "accuracy", "--metric", "latency", "--bounds", "1,5")
    assert code == 2
    assert "infeasible" in out
    assert "5.6" in out


def test_sweep_takes_limits_and_forbidden_options(cggd, table):
    arguments = ("sweep", table, "--maximize", "accuracy", "--metric", "latency", "--bounds", "8,", "--json")
    _, out, _ = cggd(*arguments, "--limit", "weight<=70", "--forbid", "pool=max")
    # By hand: conv5, none, small, at 50 of weight, has 5.6; conv3, none, large, at 70, too.
    assert json.loads(out)["points"][0]["result"]["value"] == pytest.approx(5.6)


def test_a_sweep_replaces_the_bound_of_a_problem_on_its_metric(cggd, table, tmp_path):
    _, metrics = read_options(table)
    path = tmp_path / "problem.json"
    bounds = [metrics["latency"] <= 5.3, metrics["latency"] >= 2, metrics["weight"] <= 80]
    write_problem(Problem(metrics["accuracy"], bounds, "maximize"), path)
    code, out, _ = cggd("sweep", path, "--metric", "latency", "--bounds", "5,7", "--json")
    assert code == 0
    results = [point["result"] for point in json.loads(out)["points"]]
    # By hand, within 80 of weight: conv3, none, large; conv5, max, small takes 6.5 ms.
    assert [result["value"] for result in results] == pytest.approx([5.6, 6.0])
    rows = [(row["name"], row["sense"], row["bound"]) for row in results[1]["constraints"]]
    assert rows == [("latency", ">=", 2), ("weight", "<=", 80), ("latency", "<=", 7)]


def test_a_sweep_that_is_interrupted_or_fails_delivers_its_points(cggd, table, monkeypatch):
    def interrupted(problem, **options):
        if problem.constraints[-1].bound == 7:
            raise KeyboardInterrupt
        return commands.solve(problem, **options)

    monkeypatch.setattr(sys.modules["cggd.sweep"], "solve", interrupted)
    arguments = ("sweep", table, "--maximize", "accuracy", "--metric", "latency", "--bounds", "5,7")
    code, out, _ = cggd(*arguments)
    assert code == 2
    assert "5.6" in out
    assert "interrupted, after 1 bound" in out

    def fails(problem, **options):
        result = commands.solve(problem, **options)
        run = replace(result.run, note="OSError: device lost")
        raise SearchError("device lost", replace(result, stopped=Stop.FAILED, run=run))

    monkeypatch.setattr(sys.modules["cggd.sweep"], "solve", fails)
    code, out, err = cggd(*arguments)
    assert code == 2
    assert "error: OSError: device lost" in err
    assert "5.6" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bounds", "3,4"], "--metric"),
        (["--metric", "latency"], "--bounds"),
        (["--metric", "speed", "--bounds", "3,4"], "has no metric 'speed'; it has accuracy, latency, weight"),
        (
            ["--metric", "latency", "--bounds", "a,b"],
            "--bounds must be 3,4,5 or 3:8:6 or how many to spread, got 'a,b'",
        ),
        (["--metric", "latency", "--bounds", "3:8"], "got '3:8'"),
        (["--metric", "latency", "--bounds", "3:8:0"], "got '3:8:0'"),
        (["--metric", "latency", "--bounds", "3:8:1.5"], "got '3:8:1.5'"),
        (["--metric", "latency", "--bounds", ""], "got ''"),
        (["--metric", "latency", "--bounds", "1"], "bounds must be at least 2, got 1"),
        (["--metric", "latency", "--bounds", "nan,"], "the bound on 'latency' must be a number"),
        (["--metric", "latency", "--bounds", "3,", "--time", "0"], "time_limit must be more than 0"),
        (["--metric", "latency", "--bounds", "3,", "--csv", "no/f.csv"], "--csv must be a file in a folder that"),
        (["--metric", "latency", "--bounds", "3,", "--plot", "no/f.png"], "--plot must be a file in a folder that"),
        (["--metric", "latency", "--bounds", "3,", "--out", "no/f.json"], "--out must be a file in a folder that"),
    ],
)
def test_sweep_of_wrong_input_is_1_with_a_message(cggd, table, arguments, message):
    code, out, err = cggd("sweep", table, "--maximize", "accuracy", *arguments)
    assert (code, out) == (1, "")
    assert message in plain(err)
    assert "Traceback" not in err


def test_missing_file_is_1(cggd, tmp_path):
    code, _, err = cggd("solve", tmp_path / "no.csv", "--maximize", "x")
    assert code == 1
    assert "no.csv" in err


def test_check(cggd, table):
    code, out, _ = cggd("check", table, "--limit", "latency<=5.3", "--limit", "weight>=0")
    assert code == 0
    assert "feasible" in out
    assert "always holds" in out
    assert "all 8 selections" in out
    assert cggd("check", table)[0] == 1


def test_check_says_how_tight_each_bound_could_be_given_the_others(cggd, table):
    code, out, _ = cggd("check", table, "--limit", "latency<=5.3", "--limit", "accuracy>=5.5")
    assert code == 0
    assert "\nfeasible: the selection satisfies every constraint\n" in out
    assert "optimal" not in out
    # By hand: accuracy of at least 5.5 takes conv3, none, large (5.6 at 5 ms) or more; 5.6 is the most within 5.3 ms.
    assert "latency <= 5 ms is the tightest bound that works" in out
    assert "accuracy >= 5.6 % is the tightest bound that works" in out


def test_check_names_what_conflicts_and_what_would_work(cggd, table):
    bounds = ("--limit", "latency<=3.6", "--limit", "weight>=70", "--limit", "accuracy>=0")
    code, out, _ = cggd("check", table, *bounds, "--time", "5")
    assert code == 2
    report = out[out.index("infeasible: no selection satisfies the constraints (proved)") :]
    conflict, remedies = report.split("what would work")
    assert "latency <= 3.6 ms" in conflict
    assert "weight >= 70" in conflict
    assert "accuracy" not in conflict
    # By hand: 70 of weight takes conv3, none, large, at 5 ms; within 3.6 ms the heaviest is conv3, none, small.
    assert "latency <= 5 ms is the tightest bound that works" in remedies
    assert "weight >= 30 is the tightest bound that works" in remedies
    code, out, _ = cggd("check", table, "--limit", "latency<=1")
    assert code == 2
    assert "infeasible" in out
    assert "latency <= 3.5 ms is the tightest bound that works" in out


def test_check_calls_nothing_infeasible_that_it_did_not_prove(cggd, table, monkeypatch):
    unknown = Feasibility(Status.UNKNOWN, None, None, [], "")
    monkeypatch.setattr(commands, "diagnose", lambda constraints, **settings: Diagnosis(unknown, [], False, []))
    code, out, _ = cggd("check", table, "--limit", "latency<=5.3")
    assert code == 2
    assert "unknown: " in out
    assert "infeasible" not in out


def test_check_draws_a_chunk_at_a_time(cggd, table, monkeypatch):
    drawn = []

    def sample(space, n, rng):
        drawn.append(n)
        return sampled(space, n, rng)

    sampled = ChoiceSpace.sample
    monkeypatch.setattr(ChoiceSpace, "sample", sample)
    monkeypatch.setattr(commands, "CHUNK", 6)  # two selections of three decisions
    code, out, _ = cggd("check", table, "--limit", "latency<=5.3", "--samples", "7")
    assert code == 0
    assert drawn == [2, 2, 2, 1]
    assert "of 7 selections drawn at random" in out
    drawn.clear()
    # More than a chunk is drawn rather than listed, even where there are fewer than were asked for.
    assert "of 50 selections drawn" in cggd("check", table, "--limit", "latency<=5.3", "--samples", "50")[1]
    assert drawn == [2] * 25


def test_shares_do_not_depend_on_the_chunk(cggd, table, monkeypatch):
    lines = []
    for chunk in (commands.CHUNK, 9):
        monkeypatch.setattr(commands, "CHUNK", chunk)
        lines.append(cggd("check", table, "--limit", "latency<=5.3", "--samples", "5")[1])
    assert lines[0] == lines[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--samples", "0"], "--samples"),
        (["--samples", "-3"], "--samples"),
        (["--seed", "-1"], "--seed"),
        (["--time", "0"], "--time must be more than 0 seconds, got 0"),
        (["--time", "nan"], "--time must be more than 0 seconds, got nan"),
        (["--limit", "speed<=1"], "unknown metric 'speed'"),
    ],
)
def test_check_of_wrong_input_is_1_with_a_message(cggd, table, arguments, message):
    code, out, err = cggd("check", table, "--limit", "latency<=5.3", *arguments)
    assert code == 1
    assert out == ""
    assert message in plain(err)


@pytest.mark.parametrize("name", ["problem.json", "problem.json.gz", "a.problem.JSON"])
def test_problem_as_json(cggd, table, tmp_path, name):
    _, metrics = read_options(table)
    path = tmp_path / name
    write_problem(Problem(metrics["accuracy"], [metrics["latency"] <= 5.3], "maximize"), path)
    code, out, _ = cggd("solve", path)
    assert code == 0
    assert "accuracy = 5.6" in out
    assert cggd("check", path)[0] == 0
    assert cggd("solve", path, "--maximize", "accuracy")[0] == 1


def test_metrics_that_a_problem_does_not_use_can_be_bounded(cggd, table, tmp_path):
    _, metrics = read_options(table)
    path = tmp_path / "problem.json"
    write_problem(Problem(metrics["accuracy"], (), "maximize"), path, metrics=metrics.values())
    for command in (["solve", path], ["check", path], ["sweep", path, "--metric", "latency", "--bounds", "9"]):
        code, _, err = cggd(*command, "--limit", "weight<=100", "--limit", "latency + 1 <= 6.3")
        assert (code, err) == (0, "")
    assert "accuracy = 5.6 %" in cggd("solve", path, "--limit", "latency<=5.3")[1]
    code, _, err = cggd("solve", path, "--limit", "power<=5")
    assert code == 1
    assert "known are 'accuracy', 'latency', 'weight'" in plain(err)


def test_check_bounds_the_objective_of_a_problem_too(cggd, table, tmp_path):
    _, metrics = read_options(table)
    path = tmp_path / "problem.json"
    write_problem(Problem(metrics["accuracy"], [metrics["latency"] <= 5.3], "maximize"), path)
    assert cggd("check", path, "--limit", "accuracy>=5.6")[0] == 0
    code, out, _ = cggd("check", path, "--limit", "accuracy>=5.7")
    assert code == 2
    assert "accuracy >= 5.6 % is the tightest bound that works" in out


def test_results_may_be_packed(cggd, table, tmp_path):
    saved = tmp_path / "r.json.gz"
    assert cggd("solve", table, "--maximize", "accuracy", "--limit", "latency<=5.3", "--out", saved)[0] == 0
    assert saved.read_bytes().startswith(b"\x1f\x8b")
    assert cggd("plot", saved)[0] == 0
    assert (tmp_path / "r.png").is_file()


@pytest.mark.parametrize("command", ["solve", "plot", "demo"])
def test_where_to_write_is_checked_before_any_work(cggd, table, tmp_path, monkeypatch, command):
    def work(*arguments, **keywords):
        raise AssertionError("--out should have been looked at first")

    monkeypatch.setattr(commands, "solve", work)
    monkeypatch.setattr(commands.demonstration, "run", work)
    monkeypatch.setattr(Result, "from_json", work)
    taken = tmp_path / "taken"
    taken.write_text("")
    source = {"solve": [table, "--maximize", "accuracy"], "plot": [taken], "demo": []}[command]
    cases = {
        "solve": [(tmp_path, "must be a file, got the folder"), (tmp_path / "no" / "r.json", "a folder that exists")],
        "plot": [(tmp_path, "must be a file, got the folder"), (tmp_path / "no" / "r.png", "a folder that exists")],
        "demo": [(taken, "must be a folder"), (taken / "out", "must be a folder")],
    }[command]
    for path, message in cases:
        code, out, err = cggd(command, *source, "--out", path)
        assert (code, out) == (1, "")
        assert message in err
        assert str(path) in err
    assert taken.read_text() == ""
    assert not (tmp_path / "no").exists()


def test_a_file_that_is_a_folder_beside_the_result_is_not_drawn_over(cggd, table, tmp_path):
    saved = tmp_path / "r.json"
    assert cggd("solve", table, "--maximize", "accuracy", "--out", saved)[0] == 0
    (tmp_path / "r.png").mkdir()
    code, _, err = cggd("plot", saved)
    assert code == 1
    assert "r.png" in err


def test_demo_makes_its_folder(cggd, tmp_path, monkeypatch):
    monkeypatch.setattr(commands.demonstration, "run", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert cggd("demo", "--out", tmp_path / "a" / "b")[0] == commands.INTERRUPTED
    assert (tmp_path / "a" / "b").is_dir()


def test_checkpoint_continues(cggd, table, tmp_path):
    state = tmp_path / "state.npz"
    arguments = ("solve", table, "--maximize", "accuracy", "--limit", "latency<=5.3", "--checkpoint", state)
    first, second = cggd(*arguments), cggd(*arguments)
    assert first[0] == second[0] == 0
    assert "5.6" in second[1]


def test_version_and_help(cggd):
    assert cggd("version")[1].startswith("cggd ")
    assert "solve" in cggd("--help")[1]


def command(table):
    return [sys.executable, "-m", "cggd.cli", "solve", table, "--maximize", "accuracy", "--limit", "latency<=5.3"]


@pytest.mark.slow
def test_a_terminal_sees_a_bar_and_a_pipe_does_not(table):
    piped = subprocess.run(command(table), capture_output=True, text=True, timeout=60, check=True)
    assert piped.stderr == ""
    assert "\x1b" not in piped.stdout
    main, other = pty.openpty()
    process = subprocess.Popen(
        command(table), stdout=subprocess.PIPE, stderr=other, env={**os.environ, "TERM": "xterm"}
    )
    os.close(other)
    seen = b""
    try:
        while chunk := os.read(main, 4096):
            seen += chunk
    except OSError:
        pass  # the terminal is closed when the program ends
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert "━".encode() in seen


@pytest.mark.slow
def test_demo(cggd, tmp_path):
    code, out, _ = cggd("demo", "--out", tmp_path)
    assert code == 0
    assert out.count("10 of 10") == 4
    assert (tmp_path / "demo.png").stat().st_size > 50_000


def test_progress_says_that_the_best_selection_is_polished():
    seen = []
    knapsack = mmkp("I03")
    how = {"improvers": [Descent(steps=5, starts=1), Multipliers()]}
    maximize(knapsack.value, knapsack.constraints, callback=lambda p: seen.append(commands._words(p)), **how)
    assert seen[0].startswith("start 1/1, ")
    assert seen[-1].startswith("polish, best 1")
    assert ", bound 1" in seen[-1]


def test_commands_of_the_core_do_not_import_adapters(cggd, monkeypatch):
    asked = []
    monkeypatch.setattr("cggd.commands.entry_points", lambda group: asked.append(group) or [])
    assert cggd("version")[0] == 0
    assert asked == []
    cggd("--help")
    assert asked == ["cggd.commands"]
