"""Measure a look-up table on a device, write it to a file, and find networks that it says are fast.

    python examples/nas_build_lut.py --out table.csv

The device is ONNX Runtime on this machine. For a board of your own, `OnnxRuntime` is what to replace.
"""

import argparse
import tempfile
from pathlib import Path

import torch
from torch import nn

from cggd import find_feasible
from cggd_nas import LookupTable, collect, export_onnx, extract, measure_lookup
from cggd_nas.measure import Measurement, onnx_latency
from cggd_nas.spaces import nats_topology


class OnnxRuntime:
    """Measures parts of networks in ONNX Runtime, each kind of part once."""

    def __init__(self, *, repeats: int = 50) -> None:
        self.repeats, self.known = repeats, dict[str, Measurement]()

    def __call__(self, module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> Measurement:
        """The latency of a part on arguments, in ms."""
        key = f"{module} {[tuple(x.shape) for x in arguments]}"
        if key not in self.known:
            with tempfile.TemporaryDirectory() as folder:
                path = export_onnx(module, arguments, Path(folder, "part.onnx"))
                self.known[key] = onnx_latency(path, arguments, repeats=self.repeats)
        return self.known[key]


def main() -> None:
    """Measure, write, read, use."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="a small network and few repeats")
    parser.add_argument("--out", type=Path, default=Path("nats_onnxruntime.csv"))
    arguments = parser.parse_args()
    size = 8 if arguments.tiny else 32
    example = torch.zeros(1, 3, size, size)
    supernet = collect(nats_topology(C=4 if arguments.tiny else 16, N=1))

    device = OnnxRuntime(repeats=5 if arguments.tiny else 50)
    table = measure_lookup(supernet, example, measure=device)
    table.write(arguments.out)
    print(f"{len(table.entries)} entries from {len(device.known)} measurements, written to {arguments.out}")

    latency = LookupTable.read(arguments.out).metric(supernet, example)
    bound = (latency.minimum() + latency.maximum()) / 2
    found = find_feasible([latency <= bound])
    print(f"latency from {latency.minimum():.3f} to {latency.maximum():.3f} ms; {found.constraints[0]}")
    assert found.selection is not None  # a bound between the least and the greatest value can be met
    with tempfile.TemporaryDirectory() as folder:
        path = export_onnx(extract(supernet, found.selection), example, Path(folder, "network.onnx"))
        print(f"the whole network in one piece: {onnx_latency(path, example)}")


if __name__ == "__main__":
    main()
