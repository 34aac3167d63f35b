import resource
import subprocess
import sys

import pytest

from tumorseg.workers import pages
from tumorseg.workers.machine import available_bytes
from tumorseg.workers.pages import LEAST_FREE_BYTES, LEAST_RETURNED_BYTES, keep_freed_pages, return_freed_pages

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


RETURN = """
import sys
import numpy as np
from tumorseg.workers.pages import keep_freed_pages, return_freed_pages
keep_freed_pages()
def resident():
    with open("/proc/self/statm") as told:
        return int(told.read().split()[1])
# Between two that stay, so that the heap does not end with what is freed.
kept = [np.ones(2**10), np.ones(2**24), np.ones(2**10)]
del kept[1]
before = resident()
assert return_freed_pages(2**27)
print(before - resident())
"""


@pytest.mark.skipif((available_bytes() or 0) < LEAST_FREE_BYTES, reason="too little memory is free")
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's malloc is Linux's")
def test_what_was_kept_goes_back_when_it_is_much():
    done = subprocess.run([sys.executable, "-c", RETURN], check=True, capture_output=True, text=True)
    assert int(done.stdout) > 0.9 * PAGES
    assert not return_freed_pages(LEAST_RETURNED_BYTES - 1)
