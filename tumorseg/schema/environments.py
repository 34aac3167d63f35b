"""Where a training was begun: by what versions of what, on which machine."""

from tumorseg.schema.base import Record


class GitState(Record):
    """The git repository in whose folder the command was given."""

    commit: str
    """Of HEAD."""
    branch: str | None
    """null for a detached HEAD."""
    is_dirty: bool
    """Whether tracked files differ from the commit."""


class Environment(Record):
    """The environment document of one training."""

    training_id: str
    """Tells this training from every other, one with the same plan and options included."""
    started_at: float
    """Unix time, s."""
    host: str
    """Name of the machine."""
    device: str
    """`cpu`, `cuda:0`, …"""
    versions: dict[str, str]
    """Version of tumorseg, Python and the packages that shape a training, by name."""
    git: GitState | None
    """null outside of a repository."""
