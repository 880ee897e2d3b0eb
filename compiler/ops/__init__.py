"""What ONNX's operators compute, one family a file; see registry.py."""
