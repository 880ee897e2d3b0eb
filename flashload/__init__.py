"""Layout and streaming of weights larger than memory. Empty until streaming is built."""
