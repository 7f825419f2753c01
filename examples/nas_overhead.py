"""What the guide costs: its share of a training step, for several sizes of the batch.

    python examples/nas_overhead.py

The supernet is that of NATS-Bench (15 cells, 16 channels) on images of 32 x 32, each step on the paths of one drawn
network. The bounds are such that nine of ten networks violate each, and logits are drawn anew before each step.
"""

import argparse
import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from cggd_nas import Costs, TorchGuide, collect
from cggd_nas.spaces import cell_graph, nats_topology


def main() -> None:
    """Time steps and the guide's part of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="a small network, few steps")
    tiny = parser.parse_args().tiny
    size, channels, cells, steps = (8, 4, 1, 2) if tiny else (32, 16, 5, 10)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)

    supernet = collect(nats_topology(C=channels, N=cells), cell_graph())
    costs = Costs(supernet, torch.zeros(1, 3, size, size))
    guide = TorchGuide(supernet, [metric <= metric.quantile(0.1) for metric in (costs.macs(), costs.size_kb())])
    optimizer = torch.optim.SGD(supernet.model.parameters(), lr=0.01)

    for batch in (16, 64):
        images, labels = torch.randn(batch, 3, size, size), torch.randint(10, (batch,))
        whole, guided = [], []
        for _ in range(1 + steps):
            supernet.set_logits(rng.standard_normal(supernet.space.n_options))
            began = time.perf_counter()
            optimizer.zero_grad()
            cross_entropy(supernet.model(images), labels).backward()
            before = time.perf_counter()
            guide.modify_gradients()
            after = time.perf_counter()
            optimizer.step()
            whole.append(time.perf_counter() - began)
            guided.append(after - before)
        step, part = (1e3 * float(np.median(times[1:])) for times in (whole, guided))  # the first one loads code
        print(f"batch {batch}: {step:.0f} ms a step, of which the guide takes {part:.2f} ms ({part / step:.2%})")


if __name__ == "__main__":
    main()
