"""Scheduling: cggd and what practitioners would use instead, on the same instances, limits and judge."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark; what it needs is imported then."""
    from benchmarks.scheduling.compare import main as run

    run(arguments)
