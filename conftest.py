"""What docstring examples may use without importing it."""

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp
from bevel import lax


@pytest.fixture(autouse=True)
def _names(doctest_namespace):
    doctest_namespace.update(bv=bv, bnp=bnp, lax=lax, np=np)
