"""Input: batches of examples, shuffled, mapped, made ahead, and resumed exactly.

>>> import numpy as np
>>> from bevel import data, random
>>> source = {"x": np.arange(10.0), "y": np.arange(10)}
>>> loader = data.Loader(source, batch_size=4, key=random.key(0), prefetch=2)
>>> for epoch in range(2):
...     for batch in loader:
...         assert batch["x"].tolist() == batch["y"].tolist()
>>> loader.step, len(loader)
(4, 2)
"""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, {"bevel.data.loader": ["Loader"]})
