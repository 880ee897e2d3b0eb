"""Schemes, calibration and rewriting for quantized models. Empty until quantization is built."""
