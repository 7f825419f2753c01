import csv
import io
import json

import pytest

from cggd import cli
from cggd_scheduling import Project, Schedule, write_project
from cggd_scheduling.cli import app

PROJECT = Project(
    {
        "dig": {"by hand": (4, {"crew": 1}), "digger": (2, {"crew": 1, "money": 2})},
        "pipe": [(3, {"crew": 1})],
        "lay": [(2, {"crew": 2})],
    },
    [("dig", "lay")],
    {"crew": 2},
    {"money": 3},
    unit="days",
)


class Point:
    name = "schedule"

    def load(self):
        return app


@pytest.fixture
def cggd(cggd, monkeypatch):
    monkeypatch.setattr(cli, "entry_points", lambda group: [Point()])
    monkeypatch.setattr(cli.app, "registered_groups", [])
    return lambda *arguments: cggd("schedule", *arguments)


@pytest.fixture
def file(tmp_path):
    write_project(PROJECT, tmp_path / "project.json")
    return tmp_path / "project.json"


def test_a_project(cggd, file):
    code, out, _ = cggd(file)
    assert code == 0
    assert "makespan   5 days (bound 5, gap 0.00%)" in out
    assert "dig, mode digger" in out


def test_options_may_stand_before_and_after_the_file(cggd, file):
    for arguments in ((file, "--deadline", 9), ("--deadline", 9, file)):
        assert cggd(*arguments)[0] == 0


def test_pictures_and_files(cggd, file, tmp_path):
    pytest.importorskip("matplotlib")
    names = {"--gantt": "g.png", "--usage": "u.svg", "--network": "n.pdf", "--csv": "s.csv", "--out": "s.json"}
    code, out, _ = cggd(file, "--json", *(x for option, name in names.items() for x in (option, tmp_path / name)))
    assert code == 0
    assert all((tmp_path / name).stat().st_size > 100 for name in names.values())
    assert Schedule.from_json(out).verify().makespan == 5
    assert Schedule.from_json((tmp_path / "s.json").read_text()).modes["dig"] == "digger"


def test_cost_under_a_deadline_and_modes_alone(cggd, file):
    code, out, _ = cggd(file, "--minimize", "money", "--deadline", 6)
    assert code == 0
    assert "money      0 (bound 0" in out
    assert "capacity   crew: at most 2 of 2 at once" in out
    code, out, _ = cggd(file, "--minimize", "money", "--deadline", 6, "--modes-only")
    assert code == 0
    assert "left out   capacities of 'crew'" in out
    code, out, _ = cggd(file, "--modes-only")
    assert "makespan   4 days" in out


def test_out_of_reach(cggd, file):
    code, out, _ = cggd(file, "--deadline", 4)
    assert code == 2
    assert "the deadline is 4" in out


GRAPH = {
    "nodes": {"p": "MUL", "q": "MUL", "s": "ADD"},
    "edges": [["p", "s"], ["q", "s"]],
    "library": [
        {"op": "MUL", "area": 100, "delay": 10, "power": 46},
        {"op": "MUL", "area": 41, "delay": 20, "power": 23},
        {"op": "ADD", "area": 10, "delay": 1, "power": 15},
    ],
}
PLACEMENT = {
    "format": "cggd-placement-1",
    "devices": [{"name": "gpu0", "kind": "gpu"}, {"name": "gpu1", "kind": "gpu"}],
    "operators": [{"name": name, "times": {"gpu": 3.0}, "memory": 1, "transfer": 0.5} for name in "abcd"],
    "edges": [["a", "b"], ["b", "c"], ["c", "d"]],
}


@pytest.mark.parametrize(
    ("name", "text", "arguments", "words"),
    [
        ("dot.json", json.dumps(GRAPH), ("--deadline", 21), "area       92 (bound 92"),
        ("dot.json", json.dumps(GRAPH), ("--minimize", "power", "--deadline", 21), "power      61"),
        ("shop.fjs", "2 2 1.5\n2 2 1 3 2 2 1 2 2\n2 1 2 2 1 1 1\n", (), "makespan   5 (bound 5"),
        ("work.json", json.dumps(PLACEMENT), (), "load       6.5"),
    ],
)
def test_other_families(cggd, tmp_path, name, text, arguments, words):
    path = tmp_path / name
    path.write_text(text)
    code, out, _ = cggd(path, *arguments)
    assert code == 0
    assert words in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.mm",), "none.mm: no such file"),
        (("{file}", "--minimize", "time"), "minimize must be a non-renewable resource"),
        (("{file}", "--library", "x.json"), "--library says nothing of"),
        (("{file}", "--gantt", "/no/such/folder/g.png"), "--gantt must be a file in a folder that exists"),
        (("{file}", "--time", "0"), "time_limit must be more than 0"),
    ],
)
def test_wrong_input(cggd, file, arguments, words):
    code, _, err = cggd(*(str(a).format(file=file) for a in arguments))
    assert code == 1
    assert words in err


@pytest.mark.parametrize("option", ["--csv", "--out", "--gantt", "--usage", "--network"])
def test_outputs_are_looked_at_before_the_search(cggd, file, tmp_path, monkeypatch, option):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("cggd_scheduling.cli.schedule_project", lambda *a, **k: pytest.fail("searched first"))
    before, text = sorted(tmp_path.iterdir()), file.read_text()
    for path, words in ((tmp_path, "got the folder"), (tmp_path / ("x" * 300), "can be written"), (file, "the input")):
        code, out, err = cggd(file, option, path)
        assert (code, out) == (1, "")
        assert f"{option} must be a file" in err
        assert words in err
    if option not in ("--csv", "--out"):
        assert f"{option} must end in" in cggd(file, option, tmp_path / "g.xyz")[2]
    other = "--out" if option == "--csv" else "--csv"
    assert "a file of its own" in cggd(file, option, tmp_path / "f", other, tmp_path / "." / "f")[2]
    assert (sorted(tmp_path.iterdir()), file.read_text()) == (before, text)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({"format": "other"})])
def test_files_of_no_kind(cggd, tmp_path, text):
    path = tmp_path / "strange.json"
    path.write_text(text)
    code, _, err = cggd(path)
    assert code == 1
    assert "strange.json" in err


def test_labels_are_no_formulas_in_a_table_and_no_commands_in_a_terminal(cggd, tmp_path):
    path, table = tmp_path / "p.json", tmp_path / "t.csv"
    for label in ("=1+1", "+1", "-1", "@x", "\tx", "\rx", "a\x1b[31mb\x9bc\u202ed"):
        project = Project({label: {label: (3, {label: 1})}}, renewable={label: 2})
        write_project(project, path)
        code, out, _ = cggd(path, "--csv", table)
        assert code == 0
        assert not set(out) & set("\x1b\x9b\u202e\r\t")
        for row in csv.reader(io.StringIO(table.read_bytes().decode(), newline="")):
            assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)


FT02 = "two jobs, two machines\n2 2\n0 3 1 2\n1 4 0 1\n"
RCP = "4 1\n2\n0 0 2 2 3\n3 1 1 4\n4 2 1 4\n0 0 0\n"


@pytest.mark.parametrize("name", ["ft02", "ft02.txt", "ft02.jsp"])
def test_classical_job_shops_are_read(cggd, tmp_path, name):
    (tmp_path / name).write_text(FT02)
    code, out, _ = cggd(tmp_path / name)
    assert code == 0
    assert "makespan   6 (bound 6, gap 0.00%)" in out
    several = tmp_path / "several"
    several.write_text(f"instance a\n{FT02}\ninstance b\n{FT02}")
    assert "say which: 'a', 'b'" in cggd(several)[2]
    assert cggd(several, "--instance", "b")[0] == 0


def test_a_project_in_the_form_of_patterson_is_read(cggd, tmp_path):
    pytest.importorskip("psplib")
    (tmp_path / "p.rcp").write_text(RCP)
    code, out, _ = cggd(tmp_path / "p.rcp")
    assert code == 0
    assert "makespan   7 (bound 7, gap 0.00%)" in out
    for text, message in ((RCP + "9", "make 19 numbers, and there are 20"), (RCP[:20], "ends before its last")):
        (tmp_path / "p.rcp").write_text(text)
        assert message in cggd(tmp_path / "p.rcp")[2]


def test_every_json_that_is_written_is_read(cggd, file, tmp_path):
    again, shop = tmp_path / "again.json", tmp_path / "shop.json"
    assert cggd(file, "--out", again)[0] == 0
    code, out, _ = cggd(again, "--json")
    assert code == 0
    assert Schedule.from_json(out).value == 5
    shop.write_text(json.dumps({"jobs": [[[["a", 2]], [["b", 1], ["a", 4]]]]}))
    code, out, _ = cggd(shop, "--objective", "makespan", "--workers", 1)
    assert code == 0
    assert "makespan   3" in out
    assert "--minimize says nothing of" in cggd(shop, "--minimize", "a")[2]
