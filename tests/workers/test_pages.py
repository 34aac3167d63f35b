import resource
import subprocess
import sys

import pytest

from tumorseg.workers import pages
from tumorseg.workers.machine import available_bytes
from tumorseg.workers.pages import LEAST_FREE_BYTES, keep_freed_pages

CODE = """
import resource, sys
import numpy as np
from tumorseg.workers.pages import keep_freed_pages
if sys.argv[1] == "keep":
    assert keep_freed_pages()
np.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
PAGES = 2**24 * 8 // resource.getpagesize()
"""Of the array: 128 MB."""


@pytest.mark.skipif((available_bytes() or 0) < LEAST_FREE_BYTES, reason="too little memory is free")
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_memory_that_was_freed_is_not_asked_for_again():
    faults = {}
    for mode in ("keep", "usual"):
        done = subprocess.run([sys.executable, "-c", CODE, mode], check=True, capture_output=True, text=True)
        faults[mode] = int(done.stdout)
    # By default each of the five arrays is handed out page by page, which huge pages may make fewer.
    assert faults["keep"] < PAGES / 100
    assert faults["usual"] > 2 * faults["keep"]


def test_where_little_memory_is_free_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(pages, "available_bytes", lambda: LEAST_FREE_BYTES - 1)
    assert not keep_freed_pages()
