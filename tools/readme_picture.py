"""Draw docs/readme.png, what the README's example found among all selections: `python tools/readme_picture.py`."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from cggd.plotting import plot_tradeoff

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Run the first example of the README, and draw its problem and its result."""
    example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[0]
    names = {}
    with redirect_stdout(StringIO()):
        exec(example, names)
    nats, result = names["nats"], names["result"]
    figure, ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    bounds = [nats.latency <= 5.31, nats.energy <= 23.95]
    plot_tradeoff(nats.val12, nats.latency, constraints=bounds, results=result, ax=ax)
    ax.set_ylim(60, 88)
    figure.savefig(ROOT / "docs" / "readme.png", dpi=100)


if __name__ == "__main__":
    main()
