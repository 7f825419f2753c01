"""A guided search loop on several processes: every rank takes the same step, whatever it measured.

    torchrun --nproc-per-node=2 examples/nas_ddp.py

The latency here is measured on the machine itself, so that two ranks would not agree on it: `TorchGuide` measures on
rank 0 and sends the step to the others.
"""

import argparse

import torch
from nas_own_loop import stripes
from torch import distributed, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from cggd_nas import Choice, Costs, Darts, TorchGuide, collect


def network() -> nn.Module:
    """Two layers to be chosen."""

    def layer(decision: str) -> Choice:
        convs = {f"conv{k}": nn.Conv2d(8, 8, k, padding=k // 2) for k in (7, 3)}
        return Choice({**convs, "none": nn.Identity()}, decision=decision)

    first, last = nn.Conv2d(1, 8, 1), nn.Linear(8, 2)
    return nn.Sequential(
        first, layer("a"), nn.ReLU(), layer("b"), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), last
    )


def main() -> None:
    """Train on all ranks, then compare their logits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="a few steps")
    steps = 5 if parser.parse_args().tiny else 100
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    torch.set_num_threads(1)
    torch.manual_seed(0)  # the same first weights, and the same drawn paths, on every rank

    model = network()
    supernet = collect(model)  # before the model is wrapped
    supernet.relax(Darts())
    latency = Costs(supernet, torch.zeros(1, 1, 8, 8)).latency(evaluations=2, warmup=2, repeats=10)
    guide = TorchGuide(supernet, [latency <= latency({"a": "conv3", "b": "none"})])
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    generator = torch.Generator().manual_seed(rank)  # each rank has data of its own
    for _ in range(steps):
        images, labels = stripes(16, generator)
        optimizer.zero_grad()
        cross_entropy(parallel(images), labels).backward()
        guide.update(optimizer)
    guide.settle()

    logits = torch.as_tensor(supernet.logits())
    gathered = [torch.empty_like(logits) for _ in range(distributed.get_world_size())]
    distributed.all_gather(gathered, logits)
    if rank == 0:
        apart = max((other - logits).abs().max().item() for other in gathered)
        print(f"{len(gathered)} ranks, logits apart by {apart}")
        print("found", supernet.selection())
        print(guide.guide.constraints[0].report(supernet.selection()))
    del parallel  # before the group: the last owner of a gloo group must not be DDP, whose end can wait for itself
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
