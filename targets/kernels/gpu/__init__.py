"""Kernels of graphics processors: one work item a result, or a few results of one vector."""
