"""A trained network made cheaper block by block, without training it again.

    python examples/nas_blocks.py

A network of residual blocks learns to read digits. Its blocks are replaced by narrower ones, each of which learns from
the features of its block, or left out, so that half and a quarter of the multiply-accumulates are kept. Beside it
stands what is lost if blocks are only left out, or are replaced in the same way everywhere.
"""

import argparse
import itertools

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cggd_nas import Costs, evaluate, measure, replace_blocks, retrain

EXAMPLE = torch.zeros(1, 1, 8, 8)


class Block(nn.Module):
    """A residual block with so many channels inside."""

    def __init__(self, inside: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(16, inside, 3, padding=1), nn.BatchNorm2d(inside), nn.ReLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(inside, 16, 3, padding=1), nn.BatchNorm2d(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.body(x))


def main() -> None:
    """Train, replace, and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="few epochs")
    epochs, passes = (1, 1) if parser.parse_args().tiny else (20, 20)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    inputs, targets = load_digits(return_X_y=True)
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    x = torch.tensor(inputs, dtype=torch.float32).view(-1, 1, 8, 8)[order] / 16
    y = torch.tensor(targets)[order]
    train = DataLoader(TensorDataset(x[:900], y[:900]), batch_size=32, shuffle=True)
    val, test = [(x[900:1350], y[900:1350])], [(x[1350:], y[1350:])]

    stem, head = nn.Conv2d(1, 16, 3, padding=1), [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)]
    network = nn.Sequential(stem, *[Block(32) for _ in range(4)], *head)
    retrain(network, train, val, epochs=epochs)
    whole = measure.macs(network, EXAMPLE) / 1e6
    print(f"the network: {whole:.2f} MMAC, test accuracy {evaluate(network, test).accuracy:.1%}")

    paths = ["1", "2", "3", "4"]
    for share in (0.5, 0.25):
        bound = share * whole
        blocks = {path: {"16": Block(16), "8": Block(8), "4": Block(4), "none": nn.Identity()} for path in paths}
        found = replace_blocks(
            network, blocks, train, val, lambda supernet, at=bound: Costs(supernet, EXAMPLE).macs() <= at, epochs=passes
        )
        space = found.supernet.space
        options = space.option_labels(paths[0])
        alike = [space.indices(dict.fromkeys(paths, option)) for option in options]
        kept = itertools.product(("original", "none"), repeat=len(paths))
        without = [space.indices(dict(zip(paths, some, strict=True))) for some in kept]
        macs = Costs(found.supernet, EXAMPLE).macs()
        for name, selections in (("the same in every block", alike), ("blocks left out", without)):
            scores = []
            for selection in (one for one in selections if macs(one) <= bound):
                with found.supernet.selected(selection) as model:
                    scores.append((evaluate(model, val).loss, evaluate(model, test).accuracy))
            loss, accuracy = min(scores)
            print(f"at most {share:.0%}, {name}: validation loss {loss:.3f}, test accuracy {accuracy:.1%}")
        accuracy, chosen = evaluate(found.network(), test).accuracy, ", ".join(map(str, found.selection.values()))
        print(f"at most {share:.0%}, {chosen}: validation loss {found.loss:.3f}, test accuracy {accuracy:.1%}")


if __name__ == "__main__":
    main()
