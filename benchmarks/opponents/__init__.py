"""What cggd is measured against: one module each, all with the same function `solve`.

``solve(instance, *, seed, seconds, threads, record)`` calls `record` with each better selection that it meets and
returns a `benchmarks.opponents.claim.Claim`. It must not look at what is known of the instance's optimum.
"""
