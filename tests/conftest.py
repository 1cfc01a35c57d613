"""Property tests draw the same examples in every run."""

from hypothesis import settings

settings.register_profile("bevel", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("bevel")
