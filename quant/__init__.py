"""Schemes, calibration and rewriting for quantized models: float ONNX in, standard quantized ONNX out."""
