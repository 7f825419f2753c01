"""The command line as a user meets it."""

import json
import os
import pty
import subprocess
import sys

import pytest

from cggd import Result, cli

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


@pytest.fixture
def cggd(capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            cli.main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return left.value.code, captured.out, captured.err

    return run


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


def test_infeasible_is_2_and_proved(cggd, table):
    code, out, _ = cggd("solve", table, "--maximize", "accuracy", "--limit", "latency<=1")
    assert code == 2
    assert "infeasible: no selection satisfies the constraints (proved)" in out


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


def test_missing_file_is_1(cggd, tmp_path):
    code, _, err = cggd("solve", tmp_path / "no.csv", "--maximize", "x")
    assert code == 1
    assert "no.csv" in err


def test_check(cggd, table):
    code, out, _ = cggd("check", table, "--limit", "latency<=5.3", "--limit", "weight>=0")
    assert code == 0
    assert "can be met" in out
    assert "always met" in out
    code, out, _ = cggd("check", table, "--limit", "latency<=1")
    assert code == 2
    assert "cannot be met" in out
    assert cggd("check", table)[0] == 1


def test_problem_as_json(cggd, table, tmp_path):
    from cggd import Problem
    from cggd.io import read_options, write_problem

    _, metrics = read_options(table)
    path = tmp_path / "problem.json"
    write_problem(Problem(metrics["accuracy"], [metrics["latency"] <= 5.3], "maximize"), path)
    code, out, _ = cggd("solve", path)
    assert code == 0
    assert "accuracy = 5.6" in out
    assert cggd("check", path)[0] == 0
    assert cggd("solve", path, "--maximize", "accuracy")[0] == 1


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


def test_demo(cggd, tmp_path):
    code, out, _ = cggd("demo", "--out", tmp_path)
    assert code == 0
    assert out.count("10 of 10") == 4
    assert (tmp_path / "demo.png").stat().st_size > 50_000
