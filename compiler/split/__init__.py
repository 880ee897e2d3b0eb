"""Rewrites a graph for a budget of memory: runs of operators done band of rows by band of rows.

After MCUNetV2 (Lin et al., Memory-efficient Patch-based Inference for Tiny Deep Learning, 2021): no whole intermediate
of a run ever exists; what two bands both need at their border is computed twice. rules.py says which rows of its inputs
an operator needs, regions.py which runs can be split, estimate.py what a split takes, search.py which splits are the
cheapest, rewrite.py makes them, fit.py confirms by lowering.
"""

from compiler.split.fit import Fit, fit

__all__ = ["Fit", "fit"]
