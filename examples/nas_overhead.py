"""What the guide costs: its share of a training step.

    python examples/nas_overhead.py

Two supernets: that of NATS-Bench (15 cells, 16 channels) on images of 32 x 32, in batches of 16 and 64, and MobileNetV2
on images of 96 x 96, in batches of 4. Each step runs the paths of one drawn network. The bounds are such that nine of
ten networks violate each, and logits are drawn anew before each step, so that nothing that the guide knows of a
selection helps it with the next. Peak memory is no sum: it takes the traces of all switches of a selection.
"""

import argparse
import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from cggd_nas import Costs, Supernet, TorchGuide, collect
from cggd_nas.spaces import cell_graph, mobile_stack, nats_topology

# Channels, blocks and stride of MobileNetV2's stages (Sandler et al., CVPR 2018, table 2).
MOBILENET = ((24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))


def main() -> None:
    """Time steps and the guide's part of them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="small networks, few steps")
    tiny = parser.parse_args().tiny
    torch.manual_seed(0)
    torch.set_num_threads(1)
    side, wide, steps = (8, 32, 2) if tiny else (32, 96, 10)
    nats = nats_topology(C=4, N=1) if tiny else nats_topology(C=16, N=5)
    timed("NATS-Bench", collect(nats, cell_graph()), side, (16, 64), steps)
    timed("MobileNetV2", collect(mobile_stack(stages=MOBILENET[:2] if tiny else MOBILENET, stem=32)), wide, (4,), steps)


def timed(name: str, supernet: Supernet, side: int, batches: tuple[int, ...], steps: int) -> None:
    """Print the guide's share of a step, with bounds on sums and with one on the peak memory as well."""
    rng = np.random.default_rng(0)
    costs = Costs(supernet, torch.zeros(1, 3, side, side))
    sums = [costs.macs(), costs.size_kb()]
    for batch, metrics in [(n, sums) for n in batches] + [(batches[0], [*sums, costs.peak_memory()])]:
        guide = TorchGuide(supernet, [metric <= metric.quantile(0.1, samples=100) for metric in metrics])
        optimizer = torch.optim.SGD(supernet.model.parameters(), lr=0.01)
        images, labels = torch.randn(batch, 3, side, side), torch.randint(10, (batch,))
        whole, guided = [], []
        for _ in range(1 + steps):
            supernet.set_logits(rng.standard_normal(supernet.space.n_options))
            began = time.process_time()
            optimizer.zero_grad()
            cross_entropy(supernet.model(images), labels).backward()
            before = time.process_time()
            guide.modify_gradients()
            after = time.process_time()
            optimizer.step()
            whole.append(time.process_time() - began)
            guided.append(after - before)
        # The first one loads code. A step without the guide's own part is what that is a share of.
        step = 1e3 * float(np.median(np.subtract(whole, guided)[1:]))
        part = 1e3 * float(np.median(guided[1:]))
        bounds = ", ".join(metric.name for metric in metrics)
        print(f"{name}, batch {batch}, {bounds}: {step:.0f} ms a step, the guide {part:.2f} ms ({part / step:.2%})")


if __name__ == "__main__":
    main()
