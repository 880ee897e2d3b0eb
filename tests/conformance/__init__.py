"""ONNX's own node cases, each compiled to an artifact, loaded and run by the runner: `python -m tests.conformance`."""
