"""The commands of docs/scheduling.md run as they stand there, on small files with the names used there."""

import json
import re
import shlex
from pathlib import Path

import pytest

from cggd_scheduling import Project, schedule_project, write_project
from tests.scheduling.test_broken_files import GRAPH
from tests.scheduling.test_project import PSPLIB

PAGE = Path(__file__).parents[2] / "docs" / "scheduling.md"
COMMANDS = re.findall(r"^    cggd (schedule .*?)(?:  +# .*)?$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_there_are_commands():
    assert len(COMMANDS) >= 5


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(cggd, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    digging = {"by hand": (4, {"crew": 1}), "digger": (2, {"crew": 1, "money": 2})}
    project = Project({"dig": digging, "lay": [(2, {"crew": 2})]}, [("dig", "lay")], {"crew": 2}, {"money": 3})
    write_project(project, "project.json")
    Path("schedule.json").write_text(schedule_project(project).to_json())
    Path("j1010_1.mm").write_text(PSPLIB)
    Path("filter.json").write_text(json.dumps(GRAPH))
    Path("mk01.fjs").write_text("2 2\n2 1 1 3 2 1 2 2 4\n1 2 1 3 2 1\n")
    Path("ft06").write_text("2 2\n0 3 1 2\n1 4 0 1\n")
    code, out, err = cggd(*shlex.split(command))
    assert (code, err) == (0, "")
    assert "status" in out
    for name in re.findall(r"\S+\.(?:png|csv)", command):
        assert Path(name).stat().st_size > 0
