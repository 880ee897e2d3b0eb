"""TIR to machine code: lower.py (TIR -> object), entry.py (the function that calls the kernels), link.py, jit.py."""
