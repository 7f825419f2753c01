"""CIFAR-10 on a device with four bounds, from images to ONNX files, for several seeds.

    python examples/nas_tutorial.py

It needs the package ``pillow``, and ``nas/cifar10_jpeg.npz`` in the folder named by the environment variable CGGD_DATA.
Images are halved to 16 x 16, so that two CPU cores need about three minutes for a seed.
"""

import argparse
import io
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from nas_build_lut import OnnxRuntime
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from cggd import Constraint
from cggd.datasets import data_folder
from cggd_nas import Costs, collect, evaluate, export_onnx, extract, measure_lookup, retrain, search, verify
from cggd_nas.measure import onnx_latency
from cggd_nas.spaces import cell_graph, nats_topology

FILE = "nas/cifar10_jpeg.npz"


def decoded(split: str, number: int, size: int) -> tuple[Tensor, Tensor]:
    """Images (number, 3, size, size) as bytes, the same number of each class in random order, and their classes."""
    from PIL import Image

    folder = data_folder()
    if folder is None or not (folder / FILE).is_file():
        raise SystemExit(f"set CGGD_DATA to a folder with {FILE}")
    with np.load(folder / FILE) as stored:
        jpeg, offsets, labels = (stored[f"{split}_{name}"] for name in ("jpeg", "offsets", "labels"))
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = [order[labels[order] == c][: number // 10] for c in range(10)]
    chosen = np.random.default_rng(1).permutation(np.concatenate(by_class))
    images = np.empty((len(chosen), size, size, 3), dtype=np.uint8)
    for place, i in enumerate(chosen):
        image = Image.open(io.BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes()))
        images[place] = np.asarray(image.resize((size, size), Image.Resampling.BOX))
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels[chosen].astype(np.int64))


def normalised(images: Tensor, like: Tensor) -> Tensor:
    """Bytes as numbers with the mean 0 and the deviation 1 that each channel of `like` gets."""
    values = like.float()
    return (images.float() - values.mean((0, 2, 3), keepdim=True)) / values.std((0, 2, 3), keepdim=True)


def main() -> None:
    """Run all seeds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="few images, few epochs, one seed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("."), help="folder of the ONNX files")
    arguments = parser.parse_args()
    tiny = arguments.tiny
    began = time.perf_counter()
    size, C = (8, 4) if tiny else (16, 16)
    images, labels = decoded("train", 200 if tiny else 15_000, size)
    test_images, test_labels = decoded("test", 100 if tiny else 10_000, size)
    x, test_x = normalised(images, images), normalised(test_images, images)
    parts = [len(x) * 2 // 3, len(x) - len(x) * 2 // 3]
    (train_x, val_x), (train_y, val_y) = x.split(parts), labels.split(parts)
    train, val, test = (train_x, train_y), (val_x, val_y), (test_x, test_labels)
    print(f"{len(train_x)} images to learn from, {len(val_x)} to choose by, {len(test_x)} to test with")

    example = torch.zeros(1, 3, size, size)
    # Shapes are those of every supernet below, so that one table serves all seeds.
    device = OnnxRuntime(repeats=5 if tiny else 50)
    table = measure_lookup(collect(nats_topology(C=C, N=1)), example, measure=device)
    print(f"look-up table of {len(table.entries)} entries after {time.perf_counter() - began:.0f} s")

    for seed in arguments.seeds[:1] if tiny else arguments.seeds:
        torch.manual_seed(seed)
        supernet = collect(nats_topology(C=C, N=1), cell_graph())
        costs = Costs(supernet, example)
        latency = costs.looked_up(table)
        # Medians of the space; half of all networks keep each of them.
        bounds = [metric <= metric.quantile(0.5) for metric in (costs.macs(), costs.size_kb(bits=8), latency)]
        bounds.append(costs.peak_memory(bits=8) <= 5 * C * size * size / 1024)
        result = search(
            supernet,
            train,
            val,
            bounds,
            epochs=3 if tiny else 10,
            warmup=1 if tiny else 6,
            every=2,
            weight_optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True),
            seed=seed,
            progress=False,
        )
        path = arguments.out / f"cifar10_seed{seed}.onnx"
        finalists = [extract(supernet, c.selection) for c in result.candidates[: 2 if tiny else 10]]
        batches = DataLoader(TensorDataset(*train), batch_size=64, shuffle=True, drop_last=True)
        network = best_alone(finalists, batches, val, epochs=1 if tiny else 3)
        retrain(network, batches, [val], epochs=1 if tiny else 10, seed=seed)
        export_onnx(network, example, path)
        again = costs.measures | {latency: lambda _, path=path: onnx_latency(path, example).median}
        accuracy = evaluate(network, [test]).accuracy
        print(f"seed {seed}: test accuracy {accuracy:.1%} after {time.perf_counter() - began:.0f} s, {path}")
        report(network, bounds, again)
    print(f"{time.perf_counter() - began:.0f} s")


def best_alone(networks: list[nn.Module], batches: DataLoader, val: tuple[Tensor, Tensor], *, epochs: int) -> nn.Module:
    """The network that does best on validation data once each is trained alone for a short time.

    Shared weights tell architectures apart only roughly: in this space Kendall's tau with their true accuracy is 0.2
    after a few epochs, and they favour skip connections. Six epochs alone reach 0.7.
    """
    accuracies = [retrain(network, batches, [val], epochs).final.accuracy for network in networks]
    print("  alone, in the order of shared weights:", " ".join(f"{accuracy:.1%}" for accuracy in accuracies))
    return networks[int(np.argmax(accuracies))]


def report(network: nn.Module, bounds: list[Constraint], measures: dict) -> None:
    """Measure every bound anew, and fail where one is missed."""
    for row in verify(network, bounds, measures):
        print(f"  {row}")
        assert row.satisfied


if __name__ == "__main__":
    main()
