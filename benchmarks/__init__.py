"""Measurements beside other runtimes; `python -m benchmarks` runs all and writes the README's tables."""
