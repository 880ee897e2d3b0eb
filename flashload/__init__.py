"""Weights larger than memory: their layout in flash, the plan of what stays, profiles of devices."""
