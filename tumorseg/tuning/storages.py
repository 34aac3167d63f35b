"""Where a study's trials are kept: a journal file in its folder, or a database."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from tumorseg.errors import PlanError, StorageError
from tumorseg.schema.base import content_hash, record_hash
from tumorseg.schema.tuning import Study
from tumorseg.tuning.rehearsals import directions_of

IDENTITY = "tumorseg"
"""Attribute of a study that says what it is of."""
PATIENCE_S = 5
"""Seconds for a database to answer."""
POSTGRESQL = "(of PostgreSQL: pip install 'tumorseg[postgresql]')"
EXAMPLE = "(such as postgresql://user@host/name)"
HIDDEN = "***"
"""In place of what nobody is to read."""
MAY_CHANGE = ("most_trials", "hours", "final_iterations", "final_seeds")
"""Fields of a study that no trial depends on."""
OTHERS = "others"
"""Key of the hash of all fields that are not told one by one."""


def open_storage(address: str) -> BaseStorage:
    """Open a storage; it is made if it is not there.

    Args:
        address: URL of a database, or path of a journal file.

    Raises:
        StorageError: it does not answer, or is damaged.
    """
    # What goes wrong is told by exceptions; Optuna would tell of every trial as well.
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    with answering(address):
        return _database(address) if is_database(address) else _journal(address)


def open_study(study: Study, storage: BaseStorage) -> optuna.Study:
    """Return Optuna's study of that name; it is made if it is not there.

    Raises:
        PlanError: it is another plan's, or differs in anything that trials depend on.
    """
    if study.name not in optuna.get_all_study_names(storage):
        optuna.create_study(storage=storage, study_name=study.name, directions=directions_of(study))
    # Draws and stops nothing: that is done in rehearsals.
    idle = RandomSampler(seed=study.seed)
    found = optuna.load_study(study_name=study.name, storage=storage, sampler=idle, pruner=NopPruner())
    own = identity_of(study)
    known = found.user_attrs.get(IDENTITY)
    if known is None and not found.get_trials(deepcopy=False):
        # New, or a kill came between making it and this.
        found.set_user_attr(IDENTITY, own)
    elif known != own:
        raise PlanError(_other(study.name, known or {}, own))
    return found


def identity_of(study: Study) -> dict[str, Any]:
    """Return what must be the same whenever a study is gone on with: all that trials depend on."""
    told = {
        "version": study.version,
        "tumorseg_version": study.tumorseg_version,
        "plan": study.plan_hash,
        "configuration": study.configuration,
        "objectives": list(study.objectives),
        "space": record_hash(study.space),
    }
    others = study.model_dump(mode="json", exclude={*told, "plan_hash", *MAY_CHANGE})
    return {**told, OTHERS: content_hash(others)}


def is_database(address: str) -> bool:
    """Return whether an address is a database's URL rather than the path of a file."""
    return "://" in address


@contextmanager
def answering(address: str) -> Iterator[None]:
    """Turn what goes wrong with a storage into one line.

    Raises:
        StorageError: the storage does not answer.
    """
    try:
        yield
    except ArgumentError as error:
        told = _cause(error, address)
        raise StorageError(f"{_shown(address)} is no address of a database {EXAMPLE}: {told}") from None
    except (SQLAlchemyError, StorageInternalError) as error:
        # Without its cause, whose text may have the password.
        raise StorageError(_silent(address, _cause(error, address))) from None
    except OSError as error:
        told = error.strerror or str(error)
        if is_database(address):
            raise StorageError(_silent(address, _masked(told, address))) from None
        raise StorageError(f"{told}; the study's journal must be a file that can be written", file=address) from error


class _NoLock(JournalFileOpenLock):
    """Lets every write pass: one coordinator at a time holds the study's folder."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return None


def _journal(path: str) -> BaseStorage:
    _cut_half_line(path)
    try:
        return JournalStorage(JournalFileBackend(path, lock_obj=_NoLock(path)))
    except (ValueError, KeyError) as error:
        raise StorageError(
            f"the study's journal is damaged ({error}); take it from a backup, or begin another study", file=path
        ) from error


def _cut_half_line(path: str) -> None:
    """Cut off what a kill left of a line that was being written."""
    try:
        file = io.FileIO(path, "r+")
    except FileNotFoundError:
        return
    with file:
        whole = file.readall().rfind(b"\n") + 1
        file.truncate(whole)


def _database(address: str) -> BaseStorage:
    url = _parsed(address)
    try:
        url.get_dialect().import_dbapi()
    except ImportError as error:
        missing = error.name or url.get_driver_name()
        raise StorageError(f"{_shown(address)} needs the package {missing}; install it {POSTGRESQL}") from None
    # A connection for each request outlives restarts of the server, and leaves nothing open.
    options: dict[str, Any] = {"poolclass": NullPool}
    if url.get_backend_name() == "postgresql":
        options["connect_args"] = {"connect_timeout": PATIENCE_S}
    # Optuna fills in braces.
    return RDBStorage(address.replace("{", "{{").replace("}", "}}"), engine_kwargs=options)


def _parsed(address: str) -> URL:
    """Return the parts of a database's address.

    Raises:
        StorageError: it has none, or they cannot be told apart.
    """
    scheme, _, rest = address.partition("://")
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    # A password would be cut at its first @, and whatever follows be taken, and told, for the host. Only paths of files have others.
    if not scheme.startswith("sqlite") and rest.count("@") > min(1, authority.count("@")):
        raise StorageError(
            f"{scheme}://… has an @ other than the one between user and host {EXAMPLE}; write @ in a password as %40, / as %2F, "
            "? as %3F and # as %23"
        )
    try:
        return make_url(address)
    except ValueError:
        raise StorageError(f"{_shown(address)} is no address of a database {EXAMPLE}") from None


def _shown(address: str) -> str:
    """Return an address without password and options."""
    if not is_database(address):
        return address
    try:
        return make_url(address).set(query={}).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return f"{address.partition('://')[0]}://…"


def _silent(address: str, told: str) -> str:
    return f"{_shown(address)} does not answer: {told}; go on with it once it does"


def _cause(error: BaseException, address: str) -> str:
    """Return the first line of the driver's own words."""
    inner = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    told = getattr(inner, "orig", None) or inner
    return _masked(str(told).strip().partition("\n")[0], address) or type(told).__name__


def _masked(text: str, address: str) -> str:
    """Return a text without what the address has of password and options."""
    if not is_database(address):
        return text
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        # Nothing tells which part of it would be the password.
        return ""
    secrets = [str(url.password or "")]
    for values in url.normalized_query.values():
        secrets += values
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        # As a whole word: an option such as 1 stands within many a number.
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return text


def _other(name: str, known: dict[str, Any], own: dict[str, Any]) -> str:
    """Say what differs between the study that is there and the one that was asked for."""
    if not known:
        return f"the storage has a study {name} that tumorseg did not make; give another name"
    key = next(key for key, value in own.items() if known.get(key) != value)
    if key == OTHERS:
        return (
            f"the storage has a study {name} of another split, seed, length, sampler or pruner; give another name, or go on "
            "with that one"
        )
    return (
        f"the storage has a study {name} whose {key} is {known.get(key)}, not {own[key]}; give another name, or go on with "
        "that one"
    )
