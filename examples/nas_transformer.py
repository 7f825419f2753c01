"""Heads, widths and feed-forward ratios of a transformer encoder under bounds on its size, memory and operations.

    python examples/nas_transformer.py

The task: does the second half of a sequence repeat the first one?
"""

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from cggd_nas import Costs, collect, evaluate, export_onnx, extract, retrain, search, verify
from cggd_nas.spaces import transformer_encoder

LENGTH, FEATURES = 8, 4


def sequences(n: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Sequences (n, 8, 4) of one-hot symbols, half of which repeat themselves, and whether they do."""
    labels = torch.randint(2, (n,), generator=generator)
    first, other = torch.randint(FEATURES, (2, n, LENGTH // 2), generator=generator)
    second = torch.where(labels[:, None] == 1, first, other)
    return torch.nn.functional.one_hot(torch.cat([first, second], dim=1), FEATURES).float(), labels


def main() -> None:
    """Search, retrain, export, measure anew."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="little data, few epochs")
    tiny = parser.parse_args().tiny
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    train, val = sequences(256 if tiny else 8192, generator), sequences(256 if tiny else 2048, generator)

    model = transformer_encoder(
        layers=2, model_width=32, widths=[8, 16, 32], in_features=FEATURES, length=LENGTH, num_classes=2
    )
    supernet = collect(model)
    costs = Costs(supernet, torch.zeros(1, LENGTH, FEATURES))
    bounds = [costs.size_kb(bits=8) <= 20.0, costs.macs() <= 0.12, costs.peak_memory(bits=8) <= 1.5]
    result = search(
        supernet,
        train,
        val,
        bounds,
        epochs=3 if tiny else 20,
        weight_optimizer=partial(torch.optim.AdamW, lr=2e-3),
        architecture_optimizer=partial(torch.optim.Adam, lr=0.02, betas=(0.5, 0.999)),
        progress=False,
    )
    print(result.summary())

    network = extract(supernet, result.selection)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*train), batch_size=64, shuffle=True)
    retrain(network, loader, [val], 1 if tiny else 15, learning_rate=0.02)
    print(f"trained alone: accuracy {evaluate(network, [val]).accuracy:.1%}")
    for row in verify(network, bounds, costs.measures):
        print(row)
    with TemporaryDirectory() as folder:
        path = export_onnx(network, costs.example, Path(folder, "transformer.onnx"))
        print(f"{path.name}: {path.stat().st_size / 1024:.0f} kB, its outputs are those of the network")


if __name__ == "__main__":
    main()
