"""The compiler: an ONNX model in, plain data out (code, weights, plan). See pipeline.py for the phases."""
