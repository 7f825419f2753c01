"""A metric of your own: anything that can be computed or measured for a selection can be bounded.

    python examples/nas_custom_metric.py

Here it is the energy of one inference on a microcontroller: so much per multiply-accumulate, and so much per byte that
does not fit into its memory and has to be fetched from outside. No derivative of it is ever needed.
"""

import argparse
from functools import partial

import torch
from nas_own_loop import stripes

from cggd import Function
from cggd_nas import Costs, collect, search
from cggd_nas.spaces import mobile_stack

# 45 nm, 0.9 V: an 8-bit multiplication with its addition, and a byte of DRAM (Horowitz, "Computing's energy problem",
# ISSCC 2014: 0.23 pJ, and about 1.3 nJ for 8 bytes).
PICOJOULES_PER_MAC, PICOJOULES_PER_BYTE = 0.23, 160.0
MEMORY_KB = 2.0


def main() -> None:
    """Search under a bound on energy."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tiny", action="store_true", help="little data, few epochs")
    tiny = parser.parse_args().tiny
    torch.manual_seed(0)
    model = mobile_stack(stages=[(8, 2, 1), (16, 2, 2)], kernels=[3, 5], stem=8, num_classes=2, in_channels=1)
    supernet = collect(model)
    costs = Costs(supernet, torch.zeros(1, 1, 8, 8))
    macs, memory = costs.macs(), costs.peak_memory(bits=8)

    def microjoules(selection: dict) -> float:
        spilled = max(0.0, memory(selection) - MEMORY_KB) * 1024
        return macs(selection) * PICOJOULES_PER_MAC + 2 * spilled * PICOJOULES_PER_BYTE / 1e6

    energy = Function(supernet.space, microjoules, name="energy", unit="uJ")
    bound = energy <= energy.quantile(0.2, samples=200)  # what a fifth of all networks keep

    generator = torch.Generator().manual_seed(0)
    train, val = (stripes(256 if tiny else 2048, generator) for _ in range(2))
    result = search(
        supernet,
        train,
        val,
        [bound],
        epochs=3 if tiny else 12,
        architecture_optimizer=partial(torch.optim.Adam, lr=0.05, betas=(0.5, 0.999)),
        progress=False,
    )
    print(result.summary())


if __name__ == "__main__":
    main()
