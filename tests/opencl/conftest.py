"""What all tests of OpenCL devices need."""

from __future__ import annotations

import os

import pytest

from edgert.opencl.device import device_count

# PoCL would compile each kernel twice: for any group of work items (what its binary needs), and for the launch's
os.environ.setdefault("POCL_WORK_GROUP_SPECIALIZATION", "0")


@pytest.fixture(scope="package", autouse=True)
def device() -> None:
    """Skips where there is none. Not when tests are collected: a driver is a large library."""
    if not device_count():
        pytest.skip("no OpenCL device (pip: pyopencl[pocl])")
