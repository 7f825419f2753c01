"""Feature selection under budgets: cggd and what users of scikit-learn would use instead, on equal terms."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark; what it needs is imported then."""
    from benchmarks.features.compare import main as run

    run(arguments)
