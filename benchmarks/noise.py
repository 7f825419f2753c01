"""Bounds on a noisy metric: how often a returned selection truly satisfies them, over 20 seeds.

The latency of the NATS topology space is measured with multiplicative normal noise. Every rule may make the same number
of measurements, and every returned selection is measured afresh before it is called feasible; the noiseless table
judges. "Returned" counts the runs that returned a selection at all.
"""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from cggd import Constraint, Descent, Function, Start, maximize
from cggd.datasets import nats_topology

SEEDS = 20
MEASUREMENTS = 4000
NOISES = (0.05, 0.10, 0.20)

# name: repeats of each measurement, confidence of the bound, pair weights
RULES = {
    "plain": (1, None, "unit"),
    "repeats": (4, None, "unit"),
    "confident weights": (4, None, "confidence"),
    "bound at 95%": (4, 0.95, "unit"),
    "bound at 95%, confident weights": (4, 0.95, "confidence"),
}


def measured(noise: float, repeats: int, seed: int) -> Function:
    """Latency as a device with noise would give it."""
    latency, rng = nats_topology().latency, np.random.default_rng(seed)

    def measure(rows: np.ndarray) -> np.ndarray:
        return latency.evaluate(rows) * (1 + noise * rng.standard_normal(len(rows)))

    return Function(latency.space, measure, batch=True, repeats=repeats, name="latency", unit="ms")


def main() -> None:
    import warnings

    warnings.simplefilter("ignore", UserWarning)  # one measurement a selection: of course the answer changes
    nats = nats_topology()
    everything = nats.space.enumerate()
    console = Console(width=120)
    for bound in (5.31, float(nats.latency.quantile(0.1))):
        truth = nats.latency <= bound
        best = nats.val12.evaluate(everything)[truth.satisfied(nats.latency.evaluate(everything))].max()
        table = Table("noise", "rule", "returned", "truly satisfied", "satisfied of returned", "loss of objective")
        for noise in NOISES:
            for name, (repeats, confidence, weights) in RULES.items():
                held, values = [], []
                for seed in range(SEEDS):
                    limit = Constraint(measured(noise, repeats, seed), bound, "<=", confidence)
                    result = maximize(
                        nats.val12,
                        [limit],
                        improvers=[Descent(starts=[Start(weights=weights)] * 2)],
                        seed=seed,
                        max_evaluations=MEASUREMENTS,
                    )
                    if result.indices is not None:
                        held.append(bool(truth.satisfied(nats.latency(result.indices))))
                        values.append(nats.val12(result.indices))
                share = f"{np.mean(held):.0%}" if held else "-"
                loss = f"{1 - np.mean(values) / best:.2%}" if values else "-"
                table.add_row(f"{noise:.0%}", name, f"{len(held)} of {SEEDS}", f"{sum(held)} of {SEEDS}", share, loss)
        console.print(f"latency <= {bound:.2f} ms, {MEASUREMENTS} measurements a run")
        console.print(table)
