"""Libraries that tests compare with where they are installed."""

import importlib
import warnings

import pytest


def peer(name):
    """A peer library, or the test is skipped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(name.split(".")[0])
        return importlib.import_module(name)
