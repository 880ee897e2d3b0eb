"""Lossless coding of weights in flash: bytes of an element apart, and Huffman codes where they save something."""
