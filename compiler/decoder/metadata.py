"""Reads a model's numbers out of GGUF metadata, collecting what is missing or senseless instead of stopping at it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_MOST = 1 << 24  # of any count: far above every model, far below what would exhaust memory


@dataclass
class Numbers:
    """The keys under `architecture.`; faults gather in `faults`, and a read that fails gives the default or 1."""

    metadata: Mapping[str, Any]
    architecture: str
    faults: list[str] = field(default_factory=list)

    def value(self, key: str) -> Any:
        """The key as it is, None where it is missing."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def given(self, key: str) -> bool:
        """Whether the key is there and neither 0 nor false, which turn a feature off."""
        value = self.value(key)
        return value is not None and not (isinstance(value, int | float) and not value)

    def count(self, key: str, default: int | None = None) -> int:
        """A positive integer; an array of one value a layer counts as that value where all are the same."""
        value = self.value(key)
        if isinstance(value, np.ndarray) and value.size and value.dtype.kind in "iu" and (value == value[0]).all():
            value = int(value[0])
        if value is None and default is not None:
            return default
        if type(value) is not int or not 1 <= value <= _MOST:
            self._fault(key, value, f"an integer from 1 to {_MOST}")
            return default or 1
        return value

    def real(self, key: str, default: float | None = None) -> float:
        """A positive finite number."""
        value = self.value(key)
        if value is None and default is not None:
            return default
        if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
            self._fault(key, value, "a positive number")
            return default or 1.0
        return float(value)

    def _fault(self, key: str, value: Any, expected: str) -> None:
        if value is None:
            self.faults.append(f"metadata key {self.architecture}.{key} is missing")
        else:
            self.faults.append(f"metadata key {self.architecture}.{key} is {str(value)[:60]}, expected {expected}")
