"""Two processes: the same direction on every rank, also where measurements differ between them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]

WORKER = """
import os
import sys
import numpy as np
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from cggd import Additive, Function
from cggd_nas import Choice, GumbelSoftmax, TorchGuide, collect

folder, metric = sys.argv[1:]
distributed.init_process_group("gloo")
rank = distributed.get_rank()
rng = np.random.default_rng(rank)  # another stream on every rank
asked = 0

def measured(selection):
    global asked
    asked += 1
    return sum(option == "wide" for option in selection.values()) + rng.normal(0, 0.5)

def broken(selection):
    raise OSError("device is gone")

def choice():
    return Choice({"wide": nn.Linear(4, 4), "tanh": nn.Tanh(), "skip": nn.Identity()})

kept = {}
for step in ("gradients", "update"):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), choice(), choice(), choice(), nn.Linear(4, 2))
    net = collect(model)
    if metric == "table":
        latency = Additive(net.space, [1.0, 0.1, 0.0] * 3, name="latency")
    else:
        latency = Function(net.space, measured, name="latency", repeats=2, cache=False)
    witness = [2, 2, 2] if metric == "table" else None
    net.set_logits([1.0, 0.0, 0.5] * 3)
    net.relax(GumbelSoftmax(), generator=torch.Generator().manual_seed(rank))  # every rank draws paths of its own
    parallel = DistributedDataParallel(model, find_unused_parameters=True)
    guide = TorchGuide(parallel, [latency <= 1.5], patience=3, witness=witness, broadcast=metric != "alone")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    data = torch.Generator().manual_seed(100 + rank)
    feasible, logits = [], []
    for _ in range(20):
        optimizer.zero_grad()
        x = torch.randn(8, 4, generator=data)
        nn.functional.cross_entropy(parallel(x), (x.sum(1) > 0).long()).backward()
        if step == "gradients":
            feasible.append(guide.modify_gradients().feasible)
            optimizer.step()
        else:
            feasible.append(guide.update(optimizer).feasible)
        logits.append(net.logits())
    kept |= {f"{step} logits": logits, f"{step} feasible": feasible}
np.savez(f"{folder}/{rank}.npz", asked=asked, **kept)
if metric == "noise":
    try:
        TorchGuide(net, [Function(net.space, broken, name="broken") <= 1.0]).modify_gradients()
    except RuntimeError as error:
        with open(f"{folder}/{rank}.txt", "w") as file:
            file.write(str(error))
distributed.barrier()
distributed.destroy_process_group()
os._exit(0)  # threads of gloo that still run would abort an orderly exit now and then
"""


def run(tmp_path, metric):
    """What two processes kept."""
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "adapters")])
    done = subprocess.run(
        [*command, str(tmp_path / "worker.py"), str(tmp_path), metric],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "0.npz") as first, np.load(tmp_path / "1.npz") as second:
        return dict(first), dict(second)


@pytest.mark.slow
def test_ranks_stay_together_with_a_table(tmp_path):
    first, second = run(tmp_path, "table")
    for name in ("gradients logits", "gradients feasible", "update logits", "update feasible"):
        np.testing.assert_array_equal(first[name], second[name])
    assert not first["update feasible"][0]
    assert first["update feasible"].any()


@pytest.mark.slow
def test_ranks_stay_together_with_noise_that_rank_0_alone_measures(tmp_path):
    first, second = run(tmp_path, "noise")
    for name in ("gradients logits", "gradients feasible", "update logits", "update feasible"):
        np.testing.assert_array_equal(first[name], second[name])
    assert first["asked"] > 0
    assert second["asked"] == 0
    # A failure on rank 0 reaches every rank, and none waits for ever.
    message = "metric 'broken' raised OSError: device is gone"
    assert (tmp_path / "0.txt").read_text().startswith(message)
    assert (tmp_path / "1.txt").read_text().startswith(f"MetricError on rank 0: {message}")


@pytest.mark.slow
def test_without_broadcast_noise_moves_ranks_apart(tmp_path):
    first, second = run(tmp_path, "alone")
    assert not np.array_equal(first["gradients logits"], second["gradients logits"])
    assert second["asked"] > 0
