"""Fixtures of the server's tests."""

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("msgspec")
pytest.importorskip("openai")

from tests.serve.serving import made

__all__ = ["made"]
