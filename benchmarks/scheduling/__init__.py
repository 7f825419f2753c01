"""Scheduling: cggd and other usual methods, with the same instances, limits and checks."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark; its optional packages are imported here."""
    from benchmarks.scheduling.compare import main as run

    run(arguments)
