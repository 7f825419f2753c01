"""Compressed networks: cggd compared with uniform formats, greedy, sums alone and ONNX Runtime's defaults."""

from benchmarks.compress.command import main

__all__ = ["main"]
