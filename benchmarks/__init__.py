"""Benchmarks: every figure in README and docs comes from here."""
