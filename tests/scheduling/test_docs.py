"""The guide's examples run one after another, and print what it says."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from cggd_scheduling.jobshop import read, schedule_jobs

GUIDE = Path(__file__).parents[2] / "docs" / "scheduling.md"
EXAMPLES = re.findall(r"```python\n(.*?)```\s*```text\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


def without_seconds(text):
    return re.sub(r"[\d.]+ s\b", "... s", text).strip()


def test_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(EXAMPLES) == 11
    names = {}
    for code, output in EXAMPLES:
        with redirect_stdout(StringIO()) as printed:
            exec(code, names)
        assert without_seconds(printed.getvalue()) == without_seconds(output), code


def test_the_job_shop_of_the_page_is_read(tmp_path):
    (example,) = re.findall(r"```json\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "shop.json").write_text(example)
    shop = read(tmp_path / "shop.json")
    assert (shop.name, schedule_jobs(shop).makespan) == ("two jobs", 5)
