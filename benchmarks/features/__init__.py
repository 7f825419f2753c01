"""Feature selection under budgets: cggd compared on equal terms with methods that scikit-learn users have."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark; its dependencies are imported only now."""
    from benchmarks.features.compare import main as run

    run(arguments)
