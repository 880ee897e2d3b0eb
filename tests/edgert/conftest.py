"""Compiled fake models, made once per test process."""

from tests.edgert.fake_fixtures import fake_code, fake_path

__all__ = ["fake_code", "fake_path"]
