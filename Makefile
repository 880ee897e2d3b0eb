# Everything happens in .venv: needs Python 3.11 or newer and pip, no root, nothing installed beside it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.edgert-installed
EXTRAS ?= compiler,dev,media
JOBS ?= auto
# The editable install builds libedgert.so from these, so a change to one installs anew.
NATIVE := $(wildcard edgert/native/*.c edgert/native/*.h) edgert/native/build.py

.PHONY: setup demo test test-fast fuzz lint format bench conformance clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt hatch_build.py $(NATIVE)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "edgert needs Python 3.11 or newer: make PYTHON=..." >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	touch $@

# Fetches a real model, compiles it, and lets it tell what each file of this repository contains.
demo: $(STAMP)
	$(BIN)/python -m examples.demo

test: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) $(ARGS)

test-fast: $(STAMP)
	$(BIN)/python -m pytest -n $(JOBS) -m "not slow and not registry and not apt and not bench" $(ARGS)

# Damaged files for SECONDS, from another seed every time.
fuzz: $(STAMP)
	EDGERT_FUZZ_SECONDS=$(or $(SECONDS),60) $(BIN)/python -m pytest -n $(JOBS) tests/gguf/test_fuzz.py $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# OpenVINO is a peer to compare with and nothing else, so only this target installs it.
bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'openvino>=2025.0' 'ai-edge-litert>=2'
	$(BIN)/python -m benchmarks $(ARGS)

# ONNX's own node cases, end to end; writes the tables of operators and targets of README.md.
conformance: $(STAMP)
	$(BIN)/python -m benchmarks.targets
	$(BIN)/python -m tests.conformance $(or $(ARGS),--update-readme)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
