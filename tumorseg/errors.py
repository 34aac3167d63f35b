"""The errors that a user can cause or mend; anything else is a bug and keeps its traceback."""


class TumorsegError(Exception):
    """Base of every error that the command line turns into one line on stderr."""


class InputError(TumorsegError, ValueError):
    """An image, label, dataset or option is not what was expected."""


class PlanError(TumorsegError, ValueError):
    """A plan is malformed, contradicts itself, or belongs to something else."""


class TrainingError(TumorsegError):
    """Training cannot start, or cannot go on."""


class StorageError(TumorsegError):
    """A file cannot be written or is damaged."""
