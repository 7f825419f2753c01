"""The measures of the engine beside those of its opponents: ``python -m benchmarks engine --help``."""

from benchmarks.engine.command import main

__all__ = ["main"]
