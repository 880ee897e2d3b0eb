"""Tile sizes by measurement: search.py tries a template's candidates, records.py keeps what was found."""

from .records import Records
from .search import Tuner

__all__ = ["Records", "Tuner"]
