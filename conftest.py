"""Every test runs with graphs checked and a compilation cache of its own; names for docstrings."""

import os
import tempfile

os.environ.setdefault(
    "BEVEL_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "bevel-test-cache")
)
os.environ.setdefault("BEVEL_CHECK_GRAPHS", "1")

import numpy as np  # noqa: E402 (the variables above come before anything imports bevel)
import pytest  # noqa: E402

import bevel as bv  # noqa: E402
import bevel.numpy as bnp  # noqa: E402
from bevel import lax  # noqa: E402


@pytest.fixture(autouse=True)
def _names(doctest_namespace):
    doctest_namespace.update(bv=bv, bnp=bnp, lax=lax, np=np)
