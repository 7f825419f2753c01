"""Bearing faults on a microcontroller: search, train, quantise, measure; against networks made by hand, and at random.

python -m examples.edge_sensor                # all runs that results/ lacks: hours
python -m examples.edge_sensor --quick        # each kind of run once, tiny, in a folder that is thrown away
python -m examples.edge_sensor --report docs  # tables and pictures of what results/ has
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from examples.edge_sensor.methods import BUDGETS, QUICK, Effort, methods
from examples.edge_sensor.runs import run

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny, one seed, the strictest budget")
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="write edge_sensor.md's tables and pictures there"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--budgets", nargs="+", default=[str(b) for b in BUDGETS], choices=[str(b) for b in BUDGETS])
    parser.add_argument("--methods", nargs="+", default=list(methods()), choices=list(methods()))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    parser.add_argument("--onnx", type=Path, help="folder in which the int8 files stay")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    if asked.report is not None:
        from examples.edge_sensor.report import report

        report(asked.results, asked.report)
        return
    torch.set_num_threads(asked.threads)
    if asked.onnx is not None:
        asked.onnx.mkdir(parents=True, exist_ok=True)
    if asked.quick:
        asked.seeds, asked.budgets = asked.seeds[:1], [str(BUDGETS[-1])]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) if asked.quick else asked.results
        # All methods with one seed before the next seed, so that an interrupted series still compares them.
        for seed in asked.seeds:
            for budget in (b for b in BUDGETS if str(b) in asked.budgets):
                for method in asked.methods:
                    began = time.perf_counter()
                    if run(budget, method, seed, QUICK if asked.quick else Effort(), folder, asked.onnx):
                        took = time.perf_counter() - began
                        print(f"{budget} kB, {method}, seed {seed}: done in {took:.0f} s", flush=True)


if __name__ == "__main__":
    main()
