"""The tutorial's code and every script in examples/ run, on tiny inputs."""

import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from cggd.datasets import data_folder

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "nas_tutorial.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```(?:\s*```text\n(.*?)```)?", TUTORIAL, re.DOTALL)
SCRIPTS = sorted(path.name for path in (ROOT / "examples").glob("nas_*.py"))


def same_on_every_machine(text):
    """Lines without what depends on a machine's time or rounding."""
    return [line.rstrip() for line in text.splitlines() if not re.search(r"accuracy| ms |skips taken| s\)", line)]


@pytest.mark.slow
def test_the_tutorial(tmp_path, monkeypatch):
    for needed in ("sklearn", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    assert len(BLOCKS) == 6
    names = {}
    for number, (code, output) in enumerate(BLOCKS):
        # Proofs take longer where the machine is busy.
        patient = code.replace("epochs=30", "epochs=3").replace("show=False)", "show=False, time_limit=60)")
        with redirect_stdout(StringIO()) as printed:
            exec(patient, names)
        if number < 3:  # what follows depends on the training
            assert same_on_every_machine(printed.getvalue()) == same_on_every_machine(output)
    assert (tmp_path / "digits.onnx").is_file()


def test_the_loop_of_the_tutorial():
    """It is run apart from the other code, of which it needs the data and imports."""
    pytest.importorskip("sklearn")
    ((loop, printed),) = re.findall(
        r"```py\n(from torch.nn import functional.*?)```\s*```text\n(.*?)```", TUTORIAL, re.DOTALL
    )
    imports = "from torch import nn\nfrom torch.utils.data import DataLoader, TensorDataset\n"
    names = {}
    exec(BLOCKS[0][0] + imports + "from cggd_nas import Choice, Costs, collect, extract\n", names)
    with redirect_stdout(StringIO()) as output:
        exec(loop, names)
    assert output.getvalue() == printed


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_examples(script, tmp_path):
    if script in ("nas_build_lut.py", "nas_transformer.py", "nas_tutorial.py"):
        for needed in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(needed)
    if script == "nas_tutorial.py":
        pytest.importorskip("PIL")
        folder = data_folder()
        if folder is None or not (folder / "nas" / "cifar10_jpeg.npz").is_file():
            pytest.skip("needs nas/cifar10_jpeg.npz in the folder named by CGGD_DATA")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"] if script == "nas_ddp.py" else []
    done = subprocess.run(
        [sys.executable, *launcher, ROOT / "examples" / script, "--tiny"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {
        "nas_own_loop.py": "macs <= 0.25",
        "nas_ddp.py": "2 ranks, logits apart by 0.0",
        "nas_build_lut.py": "94 entries",
        "nas_custom_metric.py": "feasible: every bound is met",
        "nas_overhead.py": "batch 64, macs, size: ",
        "nas_blocks.py": "at most 25%, the same in every block: ",
        "nas_transformer.py": "its outputs are those of the network",
        "nas_tutorial.py": "latency <=",
    }[script] in done.stdout


def test_every_use_has_its_script():
    assert SCRIPTS == [
        "nas_blocks.py",
        "nas_build_lut.py",
        "nas_custom_metric.py",
        "nas_ddp.py",
        "nas_overhead.py",
        "nas_own_loop.py",
        "nas_transformer.py",
        "nas_tutorial.py",
    ]
