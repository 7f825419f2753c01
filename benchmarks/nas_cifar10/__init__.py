"""Searches on CIFAR-10 under bounds, by cggd and by the methods that it is compared with; see `main`."""

from benchmarks.nas_cifar10.command import main

__all__ = ["main"]
