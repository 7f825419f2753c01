"""Rules, several answers, explanations and objectives in order on the command line; tables as people have them."""

import json
import subprocess
import sys

import pytest

import cggd
from cggd import Result

TABLE = """decision,option,socket,speed,price [EUR],draw (W),supply (W)
cpu,x,s1,9,30,40,0
cpu,y,s2,5,20,20,0
board,x,s1,3,20,5,0
board,z,s2,4,10,5,0
power,small,,0,5,0,45
power,large,,0,12,0,60
"""


@pytest.fixture
def parts(tmp_path):
    path = tmp_path / "parts.csv"
    path.write_text(TABLE)
    return path


def solved(cggd, table, *arguments):
    code, out, err = cggd("solve", table, "--maximize", "speed", "--json", *arguments)
    assert out, err
    return code, json.loads(out)


def chosen(document):
    return dict(document["selection"])


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ([], 13),
        (["--rule", "cpu=x -> board=x"], 12),
        (["--rule", "same socket: cpu, board"], 12),
        (["--rule", "cpu.socket=s1 -> board.socket=s1"], 12),
        (["--rule", "not (cpu=x and board=z)", "--limit", "price<=50"], 9),
        (["--require", "cpu=y"], 9),
        (["--forbid", "cpu=x"], 9),
        (["--rule", "at most 1 of *.socket=s2", "--rule", "at least 1 of cpu=y"], 8),
        (["--rule", "different: cpu, board"], 13),
        (["--limit", "draw + 5 <= supply"], 13),
        (["--limit", "draw+16<=supply"], 9),
        (["--limit", "40<=price<=44"], 9),
        (["--limit", "price==55"], 12),
        (["--limit", "2*draw<=supply"], 9),
        (["--limit", "draw<=0.5*supply"], 9),
        (["--limit", "20<=supply-draw"], 9),
        (["--limit", "speed + 2 >= 0.25*price - 1.5"], 13),
        (["--limit", "price [EUR]<=46"], 13),
    ],
)
def test_rules_and_bounds_of_the_command_line(cggd, parts, arguments, value):
    code, document = solved(cggd, parts, *arguments)
    assert (code, document["status"], document["value"]) == (0, "OPTIMAL", value), chosen(document)


def test_rules_and_bounds_from_files(cggd, parts, tmp_path):
    rules, limits = tmp_path / "rules.txt", tmp_path / "limits.txt"
    rules.write_text("# sockets\ncpu=x -> board=x\n\n")
    limits.write_text("price<=50\n# no more\n")
    _, document = solved(cggd, parts, "--rules", rules, "--limits", limits)
    assert document["value"] == 9
    assert [row["words"] for row in document["constraints"]] == ["", "cpu=x -> board=x"]
    rules.write_text("cpu=x -> board=x\ncpu=x ->\n")
    code, _, err = cggd("solve", parts, "--maximize", "speed", "--rules", rules)
    assert code == 1
    assert "rules.txt, line 2: rule 'cpu=x ->': expected a decision such as cpu, but it ends there" in err
    limits.write_text("price<50\n")
    code, _, err = cggd("solve", parts, "--maximize", "speed", "--limits", limits)
    assert "limits.txt, line 1: bound 'price<50': use <= or >=" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rule", "cpu=q"], "decision 'cpu' has no option 'q'"),
        (["--rule", "gpu=x"], "unknown decision 'gpu'"),
        (["--rule", "same colour: cpu, board"], "unknown attribute 'colour'; the space has 'socket'"),
        (["--require", "cpu"], "--require must be decision=option"),
        (["--limit", "5<=price>=3"], "both signs must point the same way"),
        (["--limit", "socket<=3"], "line 2: column 'socket'"),
        (["--rule", "at most two of cpu=x"], 'a count reads "at most 2 of cpu=x, board=y", with a whole number'),
        (["--rule", "atmost 2 of cpu=x"], "a count reads"),
        (["--rule", "at mots 2 of cpu=x"], "a count reads"),
        (["--rule", "no more than 2 cpu=x"], "a count reads"),
        (["--rule", "at least cpu=x"], "a count reads"),
        (["--then-minimize", "price", "--slack", "10"], "10 is 1000%; for 10 per cent write 10%, or 0.1"),
        (["--then-minimize", "price", "--slack", "ten%"], "ten"),
        (["--gap", "5"], "for 5 per cent write 5%, or 0.05"),
        (["--then-minimize", "weight"], "has no metric 'weight'"),
        (["--decimal", ";"], '--decimal must be "." or ","'),
        (["--differ", "4", "--top", "2"], "differ must be at most the number of decisions, 3, got 4"),
        (["--initial", "nowhere.json"], "nowhere.json: no such file"),
    ],
)
def test_wrong_wishes_are_told(cggd, parts, arguments, message):
    code, _, err = cggd("solve", parts, "--maximize", "speed", *arguments)
    assert code == 1
    assert message in err
    assert "Traceback" not in err


def test_several_answers(cggd, parts, tmp_path):
    table = tmp_path / "answers.csv"
    _, document = solved(cggd, parts, "--top", "3", "--differ", "2", "--csv", table)
    assert [document["value"], *(a["value"] for a in document["alternatives"])] == [13, 12, 9]
    lines = table.read_text().splitlines()
    assert lines[0] == "answer,decision,option,speed,price [EUR],draw [W],supply [W]"
    assert len(lines) == 1 + 3 * 4
    _, out, _ = cggd("solve", parts, "--maximize", "speed", "--top", "2")
    assert "  2: speed = 13 (proved; a tie with answer 1; differs from answer 1 in power=" in out
    _, document = solved(cggd, parts, "--top", "99", "--alike", "cpu, board")
    assert document["exhausted"]


def test_objectives_in_order(cggd, parts):
    _, document = solved(cggd, parts, "--then-minimize", "price", "--slack", "0.1")
    assert document["objective"]["name"] == "price"
    assert document["value"] == 45
    assert document["constraints"][-1]["name"] == "speed"
    _, percent = solved(cggd, parts, "--then-minimize", "price", "--slack", "10%")
    assert (percent["value"], percent["selection"]) == (document["value"], document["selection"])
    _, document = solved(cggd, parts, "--then-maximize", "supply")
    assert chosen(document)["power"] == "large"


def test_further_objectives_have_the_order_of_the_words(cggd, parts):
    price, supply = ["--then-minimize", "price"], ["--then-maximize=supply"]
    for words, names in (
        (price + supply, ["supply", "speed", "price"]),
        (supply + price, ["price", "speed", "supply"]),
    ):
        _, document = solved(cggd, parts, *words, "--slack", "50%")
        assert [document["objective"]["name"], *(c["name"] for c in document["constraints"][-2:])] == names


def test_explanations(cggd, parts):
    code, out, _ = cggd("solve", parts, "--maximize", "speed", "--rule", "cpu=x -> board=x", "--explain")
    assert code == 0
    assert "  y: 3 less" in out
    assert "cpu=x -> board=x: binds; without it: 13 (1 better)" in out
    _, document = solved(cggd, parts, "--limit", "price<=60", "--explain")
    assert {c["loss"] for c in document["explanation"]["choices"]} == {0, 1, 4}
    assert Result.from_json(json.dumps(document)).value == 13
    code, out, _ = cggd(
        "solve", parts, "--maximize", "speed", "--limit", "price<=40", "--require", "cpu=x", "--explain"
    )
    assert code == 2
    assert "these bounds are infeasible together\n  price <= 40 EUR\n  cpu=x\n" in out


def test_a_search_starts_from_a_former_result(cggd, parts, tmp_path):
    before = tmp_path / "before.json"
    cggd("solve", parts, "--maximize", "speed", "--out", before)
    code, document = solved(cggd, parts, "--initial", before)
    assert (code, document["value"]) == (0, 13)


def test_check_and_sweep_take_rules(cggd, parts):
    code, out, _ = cggd("check", parts, "--rule", "cpu=x -> board=x", "--limit", "price<=50")
    assert code == 0
    assert "cpu=x -> board=x" in out
    arguments = [
        "--maximize",
        "speed",
        "--metric",
        "price",
        "--bounds",
        "45,60",
        "--rule",
        "cpu=x -> board=x",
        "--json",
    ]
    code, out, _ = cggd("sweep", parts, *arguments)
    assert code == 0
    assert [point["result"]["value"] for point in json.loads(out)["points"]] == [9, 12]


def test_text_columns_are_named_once(cggd, parts):
    _, _, err = cggd("solve", parts, "--maximize", "speed")
    assert err.count("note: ") == 1
    assert "columns without numbers describe options only: 'socket' (line 2: 's1')" in " ".join(err.split())


@pytest.mark.slow
def test_standard_input_version_and_help():
    def run(*arguments, text=""):
        call = [sys.executable, "-m", "cggd.cli", *arguments]
        return subprocess.run(call, input=text, capture_output=True, text=True, timeout=60, check=False)

    done = run("solve", "-", "--maximize", "speed", "--json", text=TABLE)
    assert json.loads(done.stdout)["value"] == 13
    assert run("--version").stdout == f"cggd {cggd.__version__}\n"
    assert "--rule" in run("solve", "-h").stdout


FORMS = {
    "semicolons and decimal commas": (TABLE.replace(",", ";").replace("9;30", "9,5;30"), ["--decimal", ","], 13.5),
    "vertical bars": (TABLE.replace(",", "|"), [], 13),
    "tabs": (TABLE.replace(",", "\t"), [], 13),
    "capitals": (TABLE.replace("decision,option", "Decision,OPTION").replace("speed", "Speed"), [], 13),
    "a separator at the end of every line": (TABLE.replace("\n", ",\n"), [], 13),
    "another heading": (TABLE.replace("decision", "part"), ["--decision-column", "part"], 13),
    "a missing number that nobody asks for": (TABLE.replace("40,0", ",0"), [], 13),
}


@pytest.mark.parametrize("form", list(FORMS))
def test_tables_as_people_have_them(cggd, tmp_path, form):
    text, arguments, value = FORMS[form]
    path = tmp_path / "parts.csv"
    path.write_text(text)
    code, document = solved(cggd, path, *arguments)
    assert (code, document["value"]) == (0, value)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252", "utf-8-sig"])
def test_tables_in_other_encodings(cggd, tmp_path, encoding):
    path = tmp_path / "parts.csv"
    path.write_bytes(TABLE.replace("cpu", "Küche").encode(encoding))
    code, out, err = cggd("solve", path, "--maximize", "speed", "--require", "Küche=y", "--json")
    assert (code, json.loads(out)["value"]) == (0, 9)
    assert ("was read as" in " ".join(err.split())) == (encoding != "utf-8-sig")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("40,0", "40 W,0", "line 2: column 'draw': expected a finite number, got '40 W'"),
        ("9,30", '"9,5",30', "line 2: column 'speed'"),
        ("9,30", '"9,5",30', "--decimal ,"),
        ("decision", "group", "--decision-column"),
    ],
)
def test_what_may_be_meant_otherwise_is_refused(cggd, tmp_path, old, new, message):
    path = tmp_path / "parts.csv"
    path.write_text(TABLE.replace(old, new))
    code, _, err = cggd("solve", path, "--maximize", "speed")
    assert code == 1
    assert message in " ".join(err.split())


def test_sheets_are_read(cggd, tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("openpyxl")
    rows = [line.split(",") for line in TABLE.splitlines()]
    frame = pandas.DataFrame([[*row[:3], *map(int, row[3:])] for row in rows[1:]], columns=rows[0])
    path = tmp_path / "parts.xlsx"
    frame.to_excel(path, index=False)
    assert solved(cggd, path)[1]["value"] == 13
    frame.iloc[1, 0] = None
    frame.to_excel(path, index=False)
    code, _, err = cggd("solve", path, "--maximize", "speed")
    assert code == 1
    assert "line 3: the cell of column 'decision' is empty" in " ".join(err.split())
    frame.iloc[1, 0] = "cpu"
    titled = pandas.DataFrame(
        [["My parts", *[None] * (len(frame.columns) - 1)], frame.columns.tolist(), *frame.values.tolist()]
    )
    titled.to_excel(path, index=False, header=False)
    code, _, err = cggd("solve", path, "--maximize", "speed")
    assert code == 1
    assert "line 2 has these headings, so delete the lines above it" in " ".join(err.split())
    polars = pytest.importorskip("polars")
    polars.DataFrame(frame.to_dict("list")).write_parquet(tmp_path / "parts.parquet")
    assert solved(cggd, tmp_path / "parts.parquet")[1]["value"] == 13
