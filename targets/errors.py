"""Every error a user can meet, with the exit code the command line gives for it. Imports nothing, so all may use it."""


class EdgertError(Exception):
    """A failure said in one line: names the thing at fault and what to do. Exit code 1."""

    exit_code = 1


class UsageError(EdgertError):
    """Wrong use: an unknown flag value, a wrong shape, a missing input. Exit code 2."""

    exit_code = 2


class UnsupportedModel(EdgertError):
    """The model needs something the compiler lacks; the message lists all of it. Exit code 3."""

    exit_code = 3


class DoesNotFit(EdgertError):
    """A memory or flash budget that cannot be met; the message says need and have. Exit code 4."""

    exit_code = 4

    def __init__(self, message: str, **details: object) -> None:
        """details: the same as data, for --json."""
        super().__init__(message)
        self.details = details
