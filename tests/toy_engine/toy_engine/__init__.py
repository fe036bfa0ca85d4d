"""A toy engine for the tests: a small interpreter over NumPy, as a package outside of `latency_nas`."""
