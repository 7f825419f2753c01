"""Improvers: methods that search for selections, bounds and proofs."""
