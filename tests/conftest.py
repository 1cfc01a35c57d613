"""Every test runs with graphs checked and a compilation cache of its own."""

import os
import tempfile

os.environ.setdefault(
    "BEVEL_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "bevel-test-cache")
)
os.environ.setdefault("BEVEL_CHECK_GRAPHS", "1")

from hypothesis import settings  # noqa: E402 (the variables above come before anything imports bevel)

settings.register_profile("bevel", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("bevel")
