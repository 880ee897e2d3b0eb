"""What all tests of OpenCL devices need."""

from __future__ import annotations

import pytest

from edgert.opencl.device import device_count


@pytest.fixture(scope="package", autouse=True)
def device() -> None:
    """Skips where there is none. Not when tests are collected: a driver is a large library."""
    if not device_count():
        pytest.skip("no OpenCL device (pip: pyopencl[pocl])")
