"""Builds the C runtime into the wheel (and into the tree, for an editable install) with zig from pip."""

import importlib.util
import platform
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

TAGS = {
    "x86_64": "manylinux_2_17_x86_64.manylinux2014_x86_64",
    "aarch64": "manylinux_2_17_aarch64.manylinux2014_aarch64",
}


class NativeRuntimeHook(BuildHookInterface):
    """Compiles edgert/native/*.c and tags the wheel for the machine, for any Python 3."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build before files are collected; `version` is "standard" or "editable"."""
        path = Path(self.root) / "edgert" / "native" / "build.py"
        spec = importlib.util.spec_from_file_location("edgert_native_build", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.build_library()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{TAGS[platform.machine()]}"
