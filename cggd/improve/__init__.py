"""Improvers: what finds selections, bounds and proofs."""
