"""The page on measurements: its code runs and prints what the page says."""

import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import matplotlib.pyplot as plt

from cggd.io import read_options

TEXT = (Path(__file__).parents[1] / "docs" / "device.md").read_text(encoding="utf-8")


def test_the_code_prints_what_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, printed = {}, StringIO()
    with redirect_stdout(printed):
        for code in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
            exec(code, names)
    plt.close("all")
    table, *said = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    assert printed.getvalue() == "".join(said)
    Path("space.csv").write_text(table)
    assert list(read_options("space.csv")[1]) == ["registers"]
    every = [s for s in map(names["space"].labels, names["space"].enumerate()) if s["block"] * s["tile"] <= 1024]
    for bound, result in ((48, names["result"]), (15, names["tight"])):
        best = min(names["run"](s)["time"] for s in every if names["run"](s)["memory"] <= bound)
        assert result.value == best


def test_the_options_it_names_exist():
    folder = Path(__file__).parents[1] / "cggd"
    source = "".join((folder / name).read_text(encoding="utf-8") for name in ("measure.py", "arguments.py"))
    for option in re.findall(r"`?--(\w+)", TEXT):
        assert f"--{option}" in source or f"    {option}:" in source, option


def test_the_command_runs_as_it_stands_there(cggd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("space.csv").write_text(re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)[0])
    script, command = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    command = command.replace("--evaluations 100", "--evaluations 12")  # processes take their time
    build = '#!/bin/sh\necho "$1 $2" > made\ntest "$1" != 256 || { echo "does not compile" >&2; exit 1; }\n'
    bench = '#!/bin/sh\nread block tile < made\necho "{\\"time\\": $((4096 / block / tile)), \\"memory\\": $block}"\n'
    for name, text in (("run.sh", script), ("build.sh", build), ("bench", bench)):
        Path(name).write_text(text)
        Path(name).chmod(0o755)
    code, out, err = cggd(*shlex.split(command.replace("\\\n", " "))[1:])
    assert code == 0
    assert "block: 64" in out
    assert Path("runs.png").stat().st_size > 0
    assert 1 <= len(Path("runs.jsonl").read_text().splitlines()) <= 13
    if "does not compile" in Path("runs.jsonl").read_text():
        assert "runs failed" in err
        assert "does not compile" in err
