"""The guide's examples run, and print what it says."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from cggd.datasets import data_folder

GUIDE = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```(?:\s*```text\n(.*?)```)?", GUIDE, re.DOTALL)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_guide(monkeypatch):
    folder = data_folder()
    if folder is None or not (folder / "features" / "heart_cleveland.csv").is_file():
        pytest.skip("needs features/heart_cleveland.csv in the folder named by CGGD_DATA")
    assert len(BLOCKS) == 5
    names = {}
    for code, output in BLOCKS:
        with redirect_stdout(StringIO()) as printed:
            if output.startswith("ValueError: "):
                with pytest.raises(ValueError, match=re.escape(output.removeprefix("ValueError: ").strip())):
                    exec(code, names)
                continue
            exec(code, names)
        assert printed.getvalue().split() == output.split()
