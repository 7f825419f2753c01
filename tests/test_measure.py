"""`cggd measure`, and results of kernel tuners."""

from __future__ import annotations

import json
import os
import select
import sys
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import numpy as np
import pytest

from cggd import ChoiceSpace, Invalid, Measurement, Problem, cli, minimize
from cggd.io import read_t4, write_t4
from cggd.measure import Program, numbered, numbers_of
from cggd.plotting import plot_measurements

TABLE = (
    "decision,option,size\nblock,16,1\nblock,32,2\nblock,64,3\ntile,1,1\ntile,2,2\ntile,4,3\nkind,fast,0\nkind,slow,0\n"
)
SCRIPT = """
import sys
block, tile, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
open("calls", "a").write(f"{block} {tile} {kind}\\n")
if block * tile >= 256:
    print("too many threads", file=sys.stderr)
    sys.exit(3)
print("starting")
print(f"time={300 / block + 5 / tile + (kind == 'slow')}")
print(f"memory = {block * tile}")
"""
COMMAND = f"{sys.executable} run.py {{block}} {{tile}} {{kind}}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.csv").write_text(TABLE)
    (tmp_path / "run.py").write_text(SCRIPT)
    return tmp_path


def run(*words):
    with pytest.raises(SystemExit) as left:
        cli.main(["measure", "space.csv", "--command", COMMAND, *words])
    return left.value.code


def test_a_program_is_measured_from_the_command_line(folder, capsys):
    words = [
        "--minimize",
        "time",
        "--limit",
        "memory<=100",
        "--limit",
        "size<=5",
        "--evaluations",
        "12",
        "--log",
        "log",
    ]
    assert run(*words, "--plot", "p.png", "--out", "r.json", "--csv", "s.csv", "--t4", "t.json") == 0
    _, err = capsys.readouterr()
    assert "best" in err
    calls = (folder / "calls").read_text().splitlines()
    assert len(calls) == len(set(calls)) == 12
    assert not any(c.startswith("64 4") for c in calls)  # the size in the table rules it out
    result = json.loads((folder / "r.json").read_text())
    assert result["value"] == pytest.approx(300 / 64 + 5)
    assert (folder / "p.png").stat().st_size > 1000
    assert len(json.loads((folder / "t.json").read_text())["results"]) == 12
    assert run(*words, "--json") == 0  # the log knows; the rest of the space is measured
    assert json.loads(capsys.readouterr().out)["value"] == result["value"]
    calls = (folder / "calls").read_text().splitlines()
    assert len(calls) == len(set(calls))
    assert run("--minimize", "memory", "--evaluations", "3", "--log", "log") == 0  # was logged too


def test_results_of_a_tuner_count_as_runs(folder):
    assert run("--minimize", "time", "--limit", "memory<=1000", "--evaluations", "18", "--t4", "t.json") == 0
    (folder / "calls").unlink()
    assert run("--minimize", "time", "--limit", "memory<=100", "--known", "t.json") == 0
    assert not (folder / "calls").exists()


def test_programs_run_in_parallel(folder):
    assert run("--minimize", "time", "--evaluations", "9", "--parallel", "3") == 0
    assert len((folder / "calls").read_text().splitlines()) == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minimize", "time", "--maximize", "time"], "give either --maximize NAME or --minimize NAME"),
        (["--minimize", "size"], "there is nothing to measure"),
        (["--minimize", "time", "--command", "run {block} {tile}"], "does not use decision 'kind'"),
        (["--minimize", "time", "--command", "run '"], "cannot be split into words"),
        (["--minimize", "time", "--timeout", "0"], "--timeout must be more than 0"),
        (["--minimize", "time", "--limit", "memory"], "must read like"),
        (["--minimize", "power", "--evaluations", "2"], "printed no number 'power', as power=1.5"),
        (["--minimize", "time", "--limit", "memory<=q0.5"], "a quantile of 'memory' would measure every selection"),
        (["--minimize", "time", "--rule", "block=17 -> tile=1"], "17"),
        (["--minimize", "time", "--decimal", ";"], '--decimal must be "." or ","'),
    ],
)
def test_mistakes_are_told(folder, capsys, words, message):
    assert run(*words) != 0
    assert message in capsys.readouterr().err


def test_a_run_that_hangs_is_stopped_and_invalid():
    space = ChoiceSpace({"seconds": [0, 60]})
    program = Program(f"{sys.executable} -c 'import time; time.sleep({{seconds}}); print(\"x=1\")'", space, 2.0)
    assert program({"seconds": 0}) == {"x": 1.0}
    with pytest.raises(Invalid, match="no answer within 2 s"):
        program({"seconds": 60})


def test_options_are_put_in_as_words_and_once():
    space = ChoiceSpace({"a": ["x; rm y", "{b}"], "b": ["1", "2"]})
    program = Program(
        f"{sys.executable} -c 'import sys, json; print(json.dumps(dict(n=len(sys.argv))))' {{a}} {{b}}", space
    )
    assert program({"a": "x; rm y", "b": "1"}) == {"n": 3.0}
    assert program({"a": "{b}", "b": "1"}) == {"n": 3.0}


def test_output_is_read_as_json_or_lines():
    assert numbers_of("a=1\nb=fast\nc = 1e-3\n=3\n") == {"a": 1.0, "c": 1e-3}
    assert numbers_of('{"a": 1, "b": "x", "c": true}') == {"a": 1.0}
    assert numbers_of("[1, 2]") == {}


def test_labels_that_read_like_numbers_become_numbers():
    space, _ = numbered(ChoiceSpace({"a": ["1", "2.5"], "b": ["1", "x"], "c": ["08", "9"], "d": ["1e5", "2"]}), {})
    assert {d: list(space.option_labels(d)) for d in space.decisions} == {
        "a": [1, 2.5], "b": ["1", "x"], "c": ["08", "9"], "d": ["1e5", "2"],
    }  # fmt: skip


# -- files of kernel tuners -------------------------------------------------------------------------------------------


def test_t4_comes_back(tmp_path):
    space = ChoiceSpace({"block": [16, 32, 64], "tile": [1, 2, 4], "kind": ["a", "b"]})

    def device(s):
        if s["block"] * s["tile"] > 100:
            raise Invalid("no")
        return {"time": 1 / s["block"], "power": float(s["tile"])}

    bench = Measurement(space, device, {"time": "ms", "power": "W"})
    bench["time"].evaluate(space.enumerate())
    write_t4(bench, tmp_path / "t.json.gz")
    again, units, results = read_t4(tmp_path / "t.json.gz")
    assert units == {"time": "ms", "power": "W"}
    assert dict(again.options) == dict(space.options)
    other = Measurement(again, None, units)
    for configuration, values in results:
        other.record(again.indices(configuration), values)
    np.testing.assert_array_equal(other["time"].evaluate(space.enumerate()), bench["time"].evaluate(space.enumerate()))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "expected an object with results"),
        ({"results": [3]}, "result 1: expected an object with a configuration"),
        (
            {"results": [{"configuration": {"a": 1}, "invalidity": "good"}]},
            "invalidity must be one of correct, timeout",
        ),
        ({"results": [{"configuration": {"a": 1}, "invalidity": "compile"}]}, "no measurement is a number"),
        (
            {"results": [{"configuration": {"a": 1}, "invalidity": "correct", "measurements": {"t": 1}}]},
            "result 1: measurements must be a list",
        ),
        (
            {"results": [{"configuration": {"a": 1}, "invalidity": "correct", "measurements": [{"value": 1}]}]},
            "result 1: a measurement must be an object with a name",
        ),
    ],
)
def test_wrong_t4_files(tmp_path, data, message):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        read_t4(path)


def test_files_as_kernel_tuner_writes_them(tmp_path):
    """With lists and texts among the measurements, NaN, no unit, and parameters in another order."""

    def entry(configuration, invalidity="correct", **measured):
        one = [{"name": name, "value": value, "unit": None} for name, value in measured.items()]
        times = {"compilation": 1.0, "runtimes": [1.0, 1.1]}
        return {"configuration": configuration, "times": times, "invalidity": invalidity, "correctness": 1,
                "timestamp": "2023-01-01 10:00:00+00:00", "measurements": one, "objectives": ["time"]}  # fmt: skip

    results = [
        entry({"x": 32, "y": True}, time=1.5, clocks=[1, 2], name="NaN, 2"),
        entry({"y": False, "x": 64}, time=2.5, name="b"),
        entry({"x": 64, "y": True}, "compile", time="CompilationFailedConfig"),
        entry({"x": 32, "y": False}, time=float("nan")),
    ]
    (tmp_path / "t.json").write_text(json.dumps({"schema_version": "1.0.0", "results": results}))
    space, units, found = read_t4(tmp_path / "t.json")
    assert units == {"time": ""}
    assert [values for _, values in found] == [{"time": 1.5}, {"time": 2.5}, None, None]
    assert [space.indices(c).tolist() for c, _ in found] == [[0, 1], [1, 0], [1, 1], [0, 0]]


def test_the_picture_shows_what_was_measured():
    space = ChoiceSpace({"block": [16, 32, 64], "tile": [1, 2, 4]})

    def device(s):
        if s["block"] * s["tile"] > 200:
            raise Invalid("no")
        return {"time": 100 / s["block"] - s["tile"], "power": float(s["tile"])}

    bench = Measurement(space, device, {"time": "ms", "power": "W"})
    problem = Problem(bench["time"], [bench["power"] <= 2])
    assert plot_measurements(problem).texts[0].get_text() == "nothing was measured"
    best = minimize(problem.objective, problem.constraints, max_evaluations=9).value
    ax = plot_measurements(problem)
    lines = {line.get_label(): line for line in ax.lines}
    assert lines["best so far"].get_ydata()[-1] == best
    assert sum(len(lines[k].get_xdata()) for k in ("feasible", "violates a bound", "invalid")) == len(bench)
    plt.close("all")


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("./none.sh {block} {tile} {kind}", "'./none.sh' is not a program that can be run"),
        (f"{sys.executable} run.py {{block}} {{tiles}} {{kind}}", "write {tile} where it belongs, not {tiles}"),
    ],
)
def test_a_wrong_command_is_wrong_input(folder, capsys, command, said):
    with pytest.raises(SystemExit) as left:
        cli.main(["measure", "space.csv", "--command", command, "--minimize", "time"])
    assert left.value.code == 1
    assert said in capsys.readouterr().err


def test_failed_runs_are_counted_and_the_last_reason_is_told(folder, capsys):
    (folder / "run.py").write_text("import sys\nsys.exit('no board connected')\n")
    assert run("--minimize", "time", "--evaluations", "3") == 2
    assert "note: 3 runs failed" in (err := capsys.readouterr().err)
    assert "exit status 1: no board connected" in err


@pytest.mark.parametrize(
    ("words", "allowed"),
    [
        (["--rule", "block=64 -> kind=slow"], lambda b, t, k: b != 64 or k == "slow"),
        (["--require", "kind=slow", "--forbid", "tile=1"], lambda b, t, k: k == "slow" and t != 1),
        (["--limit", "2<=size<=4"], lambda b, t, k: 2 <= {16: 1, 32: 2, 64: 3}[b] + {1: 1, 2: 2, 4: 3}[t] <= 4),
        (["--rules", "rules.txt"], lambda b, t, k: (b == 16) == (t == 1)),
    ],
)
def test_rules_and_cheap_bounds_gate_every_run(folder, words, allowed):
    (folder / "rules.txt").write_text("# a rule\nblock=16 <-> tile=1\n")
    assert run("--minimize", "time", "--evaluations", "8", *words) == 0
    calls = [line.split() for line in (folder / "calls").read_text().splitlines()]
    assert calls
    assert all(allowed(int(b), int(t), k) for b, t, k in calls)


@pytest.mark.parametrize(
    ("limit", "holds"),
    [
        ("40<=memory<=70", lambda time, memory: 40 <= memory <= 70),
        ("memory>=100", lambda time, memory: memory >= 100),
        ("time + 0.5*memory <= 40", lambda time, memory: time + 0.5 * memory <= 40),
        ("memory<=2*size + 60", lambda time, memory: memory <= 70),
    ],
)
def test_bounds_on_what_is_printed_are_read_as_solve_reads_them(folder, limit, holds):
    assert run("--minimize", "time", "--limit", limit, "--evaluations", "18", "--out", "r.json") == 0
    found = dict(json.loads((folder / "r.json").read_text())["selection"])
    block, tile = found["block"], found["tile"]
    assert holds(300 / block + 5 / tile + (found["kind"] == "slow"), block * tile)
    assert len((folder / "calls").read_text().splitlines()) <= 18


AWKWARD = r"""import sys
sys.stdout.buffer.write(b"caf\xe9 \xff\xfe\nbefore {\n{broken}\n")
sys.stdout.buffer.write(b'{"t": 9, "list": [1]}\n')
print('  {\n  "t": %s,\n "big": 1%s}  and more' % (sys.argv[1], "0" * 400))
print("done, t unknown")
"""


def test_output_with_other_bytes_and_text_around_json_is_read(folder):
    (folder / "awkward.py").write_text(AWKWARD)
    program = Program(f"{sys.executable} awkward.py {{x}}", ChoiceSpace({"x": [3, 4]}), names=["t"])
    assert program({"x": 3}) == {"t": 3.0, "big": np.inf}
    silent = Program(f"{sys.executable} -c 'print(\"t=\\xb2 ms\")' {{x}}", ChoiceSpace({"x": [3, 4]}), names=["t"])
    with pytest.raises(ValueError, match=r"printed no number 't', as t=1.5 or in a JSON object; it printed"):
        silent({"x": 3})


def test_names_with_blanks_quotes_and_other_letters_are_words_of_the_command():
    space = ChoiceSpace({"unroll factor": ["a b; rm *", "$(x)"], "it's": ['"', "ü"], "größe": ["\\", "1"]})
    code = "import sys, json; print(json.dumps({str(i): len(a) for i, a in enumerate(sys.argv)}))"
    program = Program(f"{sys.executable} -c '{code}' {{unroll factor}} x{{it's}} \"{{gro\u0308ße}}\"", space)
    for row in space.enumerate():
        chosen = space.labels(row)
        assert list(program(chosen).values())[1:] == [len(chosen[d]) + (d == "it's") for d in space.decisions]


def test_what_a_hanging_program_started_is_ended_too(folder):
    """The child keeps the output open, and outlives its parent unless the whole group is ended."""
    (folder / "hang.sh").write_text("sleep 60 & echo $! > child\nwait\n")
    program = Program("sh hang.sh {x}", ChoiceSpace({"x": [1, 2]}), timeout=0.5)
    with pytest.raises(Invalid, match=r"no answer within 0\.5 s"):
        program({"x": 1})
    child = (folder / "child").read_text().strip()
    ended = os.pidfd_open(int(child))
    select.select([ended], [], [], 10.0)  # a signal takes effect a moment after it was sent
    os.close(ended)
    with open(f"/proc/{child}/stat") as file:  # gone, or not yet waited for
        assert file.read().split()[2] == "Z"


def test_a_program_that_leaves_a_child_behind_has_answered(folder):
    (folder / "leave.sh").write_text("sleep 2 &\necho t=1\n")
    assert Program("sh leave.sh {x}", ChoiceSpace({"x": [1, 2]}))({"x": 1}) == {"t": 1.0}


def test_a_program_that_was_stopped_is_not_remembered_as_invalid(folder):
    program = Program("sleep {x}", ChoiceSpace({"x": [20, 30]}))
    with ThreadPoolExecutor(1) as pool:
        with program:
            future = pool.submit(program, {"x": 20})
            while not program._running:
                pass
        with pytest.raises(RuntimeError, match="the search was stopped"):
            future.result()
    with pytest.raises(Invalid, match="ended by signal 11"):
        Program("sh -c 'kill -11 $$' {x}", ChoiceSpace({"x": [1, 2]}))({"x": 1})
