"""Files and arguments that are damaged, doubtful or hostile, as the command line meets them."""

import csv
import gzip
import json
import re
import subprocess
import sys

import pytest

from cggd import Additive, ChoiceSpace, Problem, Result, commands, maximize, minimize, sweep
from cggd.defaults import default_options
from cggd.entries import check_keys, parse_json
from cggd.io import csv_cell, read_gap, read_mmkp, read_options, read_problem, write_options, write_selection
from cggd.io import text as texts
from cggd.io.text import csv_text, read_text, to_number
from cggd.outputs import check_writable
from cggd.printable import on_one_line, printable

HEAD = "decision,option,worth,cost\n"
TABLE = HEAD + "a,x,1,1\na,y,2,2\nb,x,1,1\nb,y,3,2\n"
CALL = ("--maximize", "worth", "--limit", "cost<=3")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(TABLE)
    return path


def column(tmp_path, cells, separator=","):
    """A table with one decision and one column, and what is said where it is refused."""
    path = tmp_path / "column.csv"
    rows = [f"a{separator}o{i}{separator}{cell}" for i, cell in enumerate(cells)]
    path.write_text("\n".join([separator.join(["decision", "option", "m"]), *rows]) + "\n")
    try:
        return read_options(path)[1]["m"].values.tolist()
    except ValueError as error:
        return str(error)


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("cells", "line"), [(["1.000", "900"], 2), (["75", "-3.250", "2"], 3), (["12.500", "0", "4"], 2)]
)
def test_points_that_may_stand_between_thousands_are_refused(tmp_path, cells, line, separator):
    said = column(tmp_path, cells, separator)
    cell = cells[line - 2]
    assert f"line {line}: column 'm': '{cell}' may be {cell.replace('.', '')}, with a point between" in said
    assert f"write {cell.replace('.', '')} or {cell}0" in said


def test_what_the_message_says_is_read(tmp_path):
    assert column(tmp_path, ["1000", "900"]) == [1000, 900]
    assert column(tmp_path, ["1.0000", "900"]) == [1, 900]


@pytest.mark.parametrize(
    "cells",
    [
        ["1.250", "0.900"],
        ["1.250", "2.5", "7"],
        ["1.250", "1250", "7"],
        ["1.250", "1e3", "7"],
        ["1.250", "2.500"],
        ["10.125", "1000.125", "3"],
    ],
)
def test_a_column_that_has_one_meaning_is_read(tmp_path, cells):
    assert column(tmp_path, cells) == [float(cell) for cell in cells]


def test_three_decimals_between_semicolons_are_doubtful_unless_another_number_settles_it(tmp_path):
    assert "may be 1250" in column(tmp_path, ["1.250", "2.500"], ";")
    path = tmp_path / "two.csv"
    path.write_text("decision;option;m;n\na;x;1.250;0.5\na;y;2.500;3\n")
    assert read_options(path)[1]["m"].values.tolist() == [1.25, 2.5]


@pytest.mark.parametrize("word", ["1_000", "1,250", "1.250.000", "١٢", "inf", "nan", "1e999", "0x1f", "1 000", "5_"])
def test_no_number(tmp_path, word):
    said = column(tmp_path, [f'"{word}"'])
    assert "line 2: column 'm': expected a finite number" in said
    assert repr(word) in said
    with pytest.raises(ValueError, match="expected a finite number"):
        to_number(word)


@pytest.mark.parametrize("word", ["2_0", "1e999", "1,5"])
def test_a_bound_reads_numbers_like_a_table(cggd, table, word):
    code, out, err = cggd("solve", table, *CALL, "--limit", f"cost<={word}")
    assert (code, out) == (1, "")
    assert "expected a finite number" in err
    assert word in err


def test_no_underscores_in_options(cggd, table):
    assert "'1_0'" in cggd("solve", table, *CALL, "--gap", "1_0")[2]
    call = ("sweep", table, "--maximize", "worth", "--metric", "cost", "--bounds")
    assert cggd(*call, "2_0,3")[0] == 1
    assert "at most" in cggd(*call, "1:2:1000000000")[2]
    assert "at most" in cggd(*call, "1000000000")[2]


# -- labels -----------------------------------------------------------------------------------------------------------

UGLY = ["\x1b[31mred", "\x1b]0;owned\x07", "\x9b2J", "\u202eabc", "a\rb", "\x7f"]


@pytest.mark.parametrize("label", UGLY)
def test_control_characters_are_escaped(label):
    assert printable(label).isprintable()
    assert on_one_line(label + "\nstatus").isprintable()


@pytest.mark.parametrize("arguments", [("--maximize", "worth", "--limit", "cost<=6"), CALL])
def test_labels_do_not_reach_the_terminal_as_commands(cggd, tmp_path, arguments):
    path = tmp_path / "labels.csv"
    rows = [f'"{label}","{label} {option}",{option},{option}' for label in UGLY[:4] for option in (1, 2)]
    path.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8", newline="")
    for call in (("solve", path, *arguments), ("solve", path, *arguments, "--forbid", "\x1b[1m=q")):
        code, out, err = cggd(*call)
        assert code in (0, 1, 2)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", out + err)
    code, out, _ = cggd("solve", path, *arguments, "--json")
    selection = json.loads(out)["selection"]
    assert code == (2 if arguments is CALL else 0)
    assert selection is None if code else [d for d, _ in selection] == UGLY[:4]


@pytest.mark.parametrize(
    "arguments",
    [
        ("so\x1b[1mlve",),
        ("solve", "no\x1b[1m.csv", *CALL),
        ("solve", "TABLE", "--\x1b[1m"),
        ("solve", "TABLE", "--maximize", "\x1b[1m"),
        ("solve", "TABLE", *CALL, "--out", "no\x1b[1m/f"),
    ],
)
def test_errors_do_not_reach_the_terminal_as_commands(cggd, table, arguments):
    code, out, err = cggd(*(table if a == "TABLE" else a for a in arguments))
    assert (code, out) == (1, "")
    assert "error" in err
    assert "\x1b[1m" not in err
    assert "x1b" in err


def test_markup_is_printed_as_it_is(cggd, tmp_path):
    path = tmp_path / "markup.csv"
    path.write_text(HEAD + "[bold]a[/bold],:smile: [/x],1,1\n")
    assert "[bold]a[/bold]: :smile: [/x]" in cggd("solve", path, *CALL)[1]


def test_a_label_of_two_lines_is_one_line_of_the_report():
    space = ChoiceSpace({"a\nstatus     optimal": ["x\ty"]})
    assert "  a\\nstatus     optimal: x\\ty" in minimize(Additive(space, [1.0], name="m")).summary().split("\n")


@pytest.mark.parametrize(
    "label", ["=1+1", "+1", "-3", "@x", "\tx", "\rx", "\nx", "'=x", "''-y", "plain", "'tis", "", "a=b"]
)
def test_cells_are_no_formulas_and_come_back(label):
    cell = csv_cell(label)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert csv_text(cell) == label


def test_every_csv_of_the_core_holds_no_formula_and_tables_come_back(tmp_path):
    space = ChoiceSpace({"=a": ["-1", "+2"], "@b": ["'=x", "y"]})
    worth = Additive(space, [1.0, 2, 3, 4], name="=worth")
    path = tmp_path / "out.csv"
    write_options(space, [worth], path)
    found, metrics = read_options(path)
    assert {d: list(found.option_labels(d)) for d in found.decisions} == {"=a": ["-1", "+2"], "@b": ["'=x", "y"]}
    assert list(metrics) == ["=worth"]
    written = [path.read_text(), sweep(worth, [], worth, [6]).to_csv(selections=True)]
    write_selection(minimize(worth).selection, path)
    written.append(path.read_text())
    for text in written:
        assert not [cell for row in csv.reader(text.splitlines()) for cell in row if cell.startswith(("=", "@", "+"))]
    assert list(csv.reader(written[2].splitlines()))[1:] == [["'=a", "'-1"], ["'@b", "''=x"]]


# -- what was chosen --------------------------------------------------------------------------------------------------


def crew(n=40, chosen=(3, 17, 29), *, first="no"):
    """Whom to take on board: three are worth their berth."""
    order = ("no", "yes") if first == "no" else ("yes", "no")
    space = ChoiceSpace({f"sailor {i:02}": order for i in range(n)})
    columns = []
    for yes in ([10 if i in chosen else 1 for i in range(n)], [1 if i in chosen else 5 for i in range(n)]):
        columns.append([v for y in yes for v in ((0, y) if first == "no" else (y, 0))])
    return space, Additive(space, columns[0], name="skill"), Additive(space, columns[1], name="berths")


@pytest.mark.parametrize("first", ["no", "yes"])
def test_a_report_lists_what_is_chosen_beyond_the_defaults(first):
    _, skill, berths = crew(first=first)
    result = maximize(skill, [berths <= 3])
    for text in (result.summary(), Result.from_json(result.to_json()).summary()):
        listed = [line.strip() for line in text.splitlines() if line.startswith("  sailor")]
        assert listed == ["sailor 03: yes", "sailor 17: yes", "sailor 29: yes"]
        assert "3 of 40 decisions" in text
        assert "default of the other 37" in text
    assert "... and 1 more" in result.summary(listed=2)
    assert result.summary(decisions=40).count("sailor") == 40


def test_defaults_take_the_least_of_every_limited_sum_or_are_the_first():
    space = ChoiceSpace.from_sizes([3, 3, 2])
    one = Additive(space, [2, 1, 1, 5, 1, 9, 4, 4], name="one")
    two = Additive(space, [2, 3, 1, 1, 5, 9, 4, 4], name="two")
    assert default_options(Problem(one, [one <= 9, two <= 9])).tolist() == [2, 0, 0]
    assert default_options(Problem(one, [one >= 9, two >= 9])).tolist() == [0, 0, 0]


def test_selections_as_csv(cggd, table, tmp_path):
    path = tmp_path / "chosen.csv"
    assert cggd("solve", table, *CALL, "--csv", path)[0] == 0
    assert path.read_text() == "decision,option,worth,cost\na,x,1,1\nb,y,3,2\ntotal,,4,3\n"
    assert cggd("solve", table, "--maximize", "worth", "--limit", "cost<=1", "--csv", path)[0] == 2
    assert path.read_text() == "decision,option,worth,cost\n"
    assert cggd("sweep", table, "--maximize", "worth", "--metric", "cost", "--bounds", "1,4", "--csv", path)[0] == 2
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(r["bound"], r["decision"], r["option"]) for r in rows] == [
        ("1.0", "", ""),
        ("4.0", "a", "y"),
        ("4.0", "b", "y"),
    ]


# -- output files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--csv", "--out", "--checkpoint"])
def test_what_cannot_be_written_is_said_before_the_search(cggd, table, tmp_path, monkeypatch, option):
    monkeypatch.setattr(commands, "solve", lambda *a, **k: pytest.fail("searched first"))
    (tmp_path / "round").symlink_to(tmp_path / "round")
    before = sorted(tmp_path.iterdir())
    for path in (tmp_path, tmp_path / "no" / "f", tmp_path / "round", tmp_path / ("x" * 300), table / "f"):
        code, out, err = cggd("solve", table, *CALL, option, path)
        assert (code, out) == (1, "")
        assert option in err
        assert str(path) in err
    code, out, err = cggd("solve", table, *CALL, option, table)
    assert (code, out) == (1, "")
    assert "the input already" in err
    assert sorted(tmp_path.iterdir()) == before
    assert table.read_text() == TABLE


@pytest.mark.parametrize("option", ["--csv", "--out", "--plot"])
def test_a_sweep_says_so_too(cggd, table, tmp_path, monkeypatch, option):
    monkeypatch.setattr(commands, "sweep", lambda *a, **k: pytest.fail("searched first"))
    call = ("sweep", table, "--maximize", "worth", "--metric", "cost", "--bounds", "2,3", option)
    for path in (tmp_path, tmp_path / "no" / "f.png", table):
        code, out, err = cggd(*call, path)
        assert (code, out) == (1, "")
        assert str(path) in err
    if option == "--plot":
        assert "must end in" in cggd(*call, tmp_path / "f.xyz")[2]
        assert not (tmp_path / "f.xyz").exists()


def test_two_outputs_are_two_files(cggd, table, tmp_path):
    code, out, err = cggd("solve", table, *CALL, "--out", tmp_path / "f", "--csv", tmp_path / "." / "f")
    assert (code, out) == (1, "")
    assert "a file of its own" in err


def test_a_look_at_a_file_leaves_it_as_it_is(tmp_path):
    path, link = tmp_path / "kept", tmp_path / "link"
    path.write_text("kept")
    stamp = path.stat().st_mtime_ns
    link.symlink_to(tmp_path / "later")
    check_writable(path, "out")
    check_writable(link, "out")
    check_writable(tmp_path / "new", "out")
    assert (path.read_text(), path.stat().st_mtime_ns) == ("kept", stamp)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "link"]


def test_the_answer_is_printed_even_if_its_file_fails(cggd, table, tmp_path, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left", str(path))

    monkeypatch.setattr(commands, "write_text", full)
    code, out, err = cggd("solve", table, *CALL, "--out", tmp_path / "f")
    assert code == 1
    assert "worth = 4" in out
    assert str(tmp_path / "f") in err


def test_a_closed_pipe_ends_quietly_and_the_file_is_written(table, tmp_path):
    path = tmp_path / "result.json"
    command = [sys.executable, "-m", "cggd.cli", "solve", table, *CALL, "--json", "--out", path]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert said == b""
    assert Result.from_json(path.read_text()).value == 4


# -- files that promise or hold too much ------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["2000000000 3 1", "2000000000 2000000000 1", "2000000000 1", "1 1 2000000000"])
def test_a_knapsack_that_promises_too_much(tmp_path, header):
    path = tmp_path / "knapsack.txt"
    path.write_text(f"{header}\n7\n2 3\n")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_mmkp(path, "maximize")


@pytest.mark.parametrize("text", ["1 2000000000 2000000000 1", "2000000000 1 1 1 1 1", "1 1e200 1e200 5", "1 1 3e9 4"])
def test_an_assignment_that_promises_too_much(tmp_path, text):
    path = tmp_path / "gap.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_gap(path, "minimize")


@pytest.mark.parametrize("usage", [(3 * 10**9, [0, 0, 1]), (2, [2, 0, 1]), (2, [0, 1e200, 1]), (True, [0, 0, 1])])
def test_stages_that_promise_too_much(tmp_path, usage):
    path = tmp_path / "problem.json"
    data = {
        "format": "cggd-problem-1",
        "decisions": [{"decision": "a", "options": ["x", "y"]}],
        "metrics": [{"name": "m", "kind": "peak", "usage": {"n_stages": usage[0], "entries": [usage[1]]}}],
        "objective": {"sense": "minimize", "metric": "m"},
    }
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"problem\.json: metric 'm': (n_stages must|entries: (stage|option))"):
        read_problem(path)


def test_no_more_is_unpacked_than_there_is_room_for(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "most_bytes", lambda: 10_000)
    bomb, fine = tmp_path / "bomb.csv.gz", tmp_path / "fine.csv.gz"
    bomb.write_bytes(gzip.compress(b" " * 4000) * 3)
    fine.write_bytes(gzip.compress(b" " * 4000) * 2)
    with pytest.raises(ValueError, match=r"bomb\.csv\.gz: holds more than"):
        read_text(bomb)
    assert read_text(fine) == " " * 8000


def test_a_zero_byte_is_no_text(tmp_path):
    path = tmp_path / "zero.csv"
    path.write_bytes(TABLE.replace("y,2", "y\0,2").encode())
    with pytest.raises(ValueError, match="line 3: expected text, got a zero byte"):
        read_options(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{" + ",".join(f'"k{i}":1' for i in range(60_000)) + ',"k7":2}', "'k7' twice"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "nested too deeply"),
        ("[NaN]", "NaN is not a number"),
        ("[-Infinity]", "-Infinity is not a number"),
        ("[1e999]", "'1e999' is more than"),
        ('["\\ud800"]', "half of a surrogate pair"),
        ("", "line 1"),
    ],
)
def test_json_is_read_strictly(text, said):
    with pytest.raises(ValueError, match=said) as error:
        parse_json(text, "some.json")
    assert str(error.value).startswith("some.json")


def test_unknown_keys_name_what_was_meant():
    known = ("duration", "demands", "after")
    check_keys({"after": 1}, known, "row 3")
    for key, meant in (("demand", "demands"), ("afer", "after"), ("Duration", "duration")):
        with pytest.raises(ValueError, match=f"row 3 has the unknown key '{key}'; .* did you mean '{meant}'"):
            check_keys({key: 1}, known, "row 3")
    with pytest.raises(ValueError, match=r"'zzz'; known are 'duration', 'demands', 'after'$"):
        check_keys({"zzz": 1}, known, "row 3")
    with pytest.raises(ValueError, match="must be an object"):
        check_keys([], known, "row 3")


def test_unknown_keys_of_a_result():
    data = json.loads(minimize(Additive(ChoiceSpace({"a": [1]}), [1.0])).to_json())
    with pytest.raises(ValueError, match="unknown key 'valeu'"):
        Result.from_json(json.dumps(data | {"valeu": 1}))
    with pytest.raises(ValueError, match="unknown key 'units'"):
        Result.from_json(json.dumps(data | {"objective": data["objective"] | {"units": "s"}}))
    with pytest.raises(ValueError, match="value must be a number, got '1_0'"):
        Result.from_json(json.dumps(data | {"value": "1_0"}))


def test_reports_have_the_digits_that_make_them_true():
    space = ChoiceSpace({"a": ["x", "y"]})
    size = Additive(space, [12345678901, 12345678907], name="size")
    cost = Additive(space, [7_000_000_001, 1], name="cost")
    text = minimize(cost, [size <= 12345678903]).summary()
    assert "cost = 7000000001 " in text
    assert "12345678903: 12345678901" in text
    front = sweep(cost, [], size, [12345678903]).summary()
    for number in ("12345678903", "12345678901", "7000000001"):
        assert number in front
