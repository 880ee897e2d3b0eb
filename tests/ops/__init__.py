"""Operators against ONNX Runtime, through artifact and runner."""
