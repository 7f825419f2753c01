"""The guide in a training loop of your own: one line between ``backward()`` and ``step()``.

    python examples/nas_own_loop.py

The task: are the stripes of an image upright or level? The bound: 0.25 million multiply-accumulates.
"""

import argparse

import torch
from torch.nn import functional

from cggd_nas import Costs, GumbelSoftmax, TorchGuide, collect, extract
from cggd_nas.spaces import cell_graph, nats_topology


def stripes(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, 1, 8, 8) of stripes under noise, and whether they lie level."""
    labels = torch.randint(2, (n,), generator=generator)
    upright = (torch.arange(8) % 2).float().expand(n, 1, 8, 8)
    images = torch.where(labels.view(-1, 1, 1, 1) == 1, upright.mT, upright)
    return images + torch.randn(images.shape, generator=generator), labels


def main() -> None:
    """Train, and print how the architecture moves into the bound."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="a few steps")
    steps = 20 if parser.parse_args().tiny else 400
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)

    supernet = collect(nats_topology(C=8, N=1, num_classes=2, in_channels=1), cell_graph())
    macs = Costs(supernet, torch.zeros(1, 1, 8, 8)).macs()
    guide = TorchGuide(supernet, [macs <= 0.25])
    weights = torch.optim.SGD(supernet.weights(), lr=0.05, momentum=0.9)
    architecture = torch.optim.SGD(supernet.architecture(), lr=0.1)

    for step in range(steps):
        supernet.relax(GumbelSoftmax(temperature=10 * 0.01 ** (step / steps)), generator=generator)
        for optimizer in (weights, architecture):  # each learns from images of its own
            images, labels = stripes(32, generator)
            optimizer.zero_grad()
            loss = functional.cross_entropy(supernet.model(images), labels)
            loss.backward()
            if optimizer is architecture:
                seen = guide.modify_gradients().seen  # the one line
                if step % (steps // 10) == 0:
                    print(f"step {step:3d}: loss {loss.item():.3f}, {macs.name} {seen.values[0]:.3f} {macs.unit}")
            optimizer.step()

    guide.settle()  # where the last step left the bound, back to the last selection within it
    print(f"found {supernet.selection()}")
    print(macs.name, "of the extracted network:", (macs <= 0.25).report(supernet.selection()))
    network = extract(supernet, supernet.selection()).eval()
    images, labels = stripes(256, generator)
    with torch.no_grad():
        right = (network(images).argmax(1) == labels).float().mean()
    print(f"accuracy with the supernet's weights {right:.1%}")


if __name__ == "__main__":
    main()
