"""What reading warns of becomes findings: a check that lists everything must not leave it to lines that scroll by."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from tumorseg.schema.dataset import Case
from tumorseg.schema.findings import Finding, finding
from tumorseg.storage.formats.library_logs import WarningCollector

LOGGER = "tumorseg.storage"
"""Whose warnings are heard."""


@contextmanager
def hearing() -> Iterator[list[str]]:
    """Collect what reading files warns of in this block, instead of logging it."""
    logger, collector = logging.getLogger(LOGGER), WarningCollector()
    propagates = logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield collector.messages
    finally:
        logger.propagate = propagates
        logger.removeHandler(collector)


def heard_findings(case: Case, messages: list[str]) -> Iterator[Finding]:
    """Yield each warning once, with the file that it begins with, if that is one of the case's."""
    files = [*(file.path for file in case.images), *case.label_files]
    for message in dict.fromkeys(messages):
        file = max((file for file in files if message.startswith(file)), key=len, default=None)
        yield finding("reading", message, cases=(case.case_id,), file=file)
