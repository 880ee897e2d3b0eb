"""The errors of this package: those of the compiler, which stands below it."""

from targets.errors import DoesNotFit, EdgertError, UnsupportedModel, UsageError

__all__ = ["DoesNotFit", "EdgertError", "NoProgram", "UnsupportedModel", "UsageError"]


class NoProgram(UsageError):
    """An artifact that lacks the program asked for."""
