"""Random streams of a module: `Rngs` holds named ones, each a key and a count of the keys it has
given.

Both are variables, so a jitted function that draws from a stream leaves it advanced, and `nn.state`
saves where it stands. The n-th key of a stream is `fold_in(key, n)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import bevel.numpy as bnp
from bevel import random
from bevel.core import dtypes, ref
from bevel.core.handle import Handle
from bevel.core.source import user_source, where
from bevel.nn import initializers
from bevel.nn.filters import to_predicate
from bevel.nn.module import Module
from bevel.nn.variable import RngCount, RngKey


def _as_key(seed: Any) -> Any:
    if isinstance(seed, RngStream):
        return seed.key.value
    if isinstance(seed, Handle):
        if random.is_key(seed):
            return seed
        if seed.dtype == dtypes.uint32 and seed.ndim:
            return random.wrap_key_data(seed)
    elif not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(
            f"a random stream starts from a seed (int) or a key, not from {type(seed).__name__}.\n"
            "Write instead: nn.Rngs(0), nn.Rngs(params=0, dropout=random.key(1))."
        )
    return random.key(seed)


class RngStream(Module):
    """One random stream: `stream()` gives the next key.

    Args:
        key: a seed, or a key.
        tag: its name.

    >>> from bevel import nn, random
    >>> stream = nn.RngStream(0, tag="dropout")
    >>> a, b = stream(), stream()
    >>> bool((random.key_data(a) == random.key_data(b)).all()), int(stream.count)
    (False, 2)
    """

    def __init__(self, key: Any, *, tag: str):
        key = _as_key(key)
        self.tag = tag
        self.key = RngKey(key, tag=tag)
        self.count = RngCount(bnp.zeros(key.shape, dtypes.uint32), tag=tag)

    def __call__(self) -> Any:
        """The next key."""
        with ref.lock:  # no two threads get one key
            key = random.fold_in(self.key.value, self.count.value)
            self.count[...] += 1
        return key

    def fork(self) -> RngStream:
        """A stream of its own that starts from the next key."""
        return RngStream(self(), tag=self.tag)

    def split(self, k: int | tuple[int, ...]) -> RngStream:
        """A stream of `k` keys at once, for `vmap`, that starts from the next key."""
        return RngStream(random.split(self(), k), tag=self.tag)

    def broadcast(self, k: int | tuple[int, ...]) -> RngStream:
        """A stream of `k` times the next key, so that all rows of a `vmap` draw the same."""
        key, shape = self(), (k,) if isinstance(k, int) else tuple(k)
        return RngStream(bnp.broadcast_to(key, (*shape, *key.shape)), tag=self.tag)


class Rngs(Module):
    """Named random streams.

    `Rngs(0)` is one stream for everything; `Rngs(params=0, dropout=1)` has two, and `Rngs(0,
    dropout=1)` takes any other name from the first. `rngs.params()` gives the next key of a stream,
    `rngs()` that of the default. The functions of `bevel.random` are methods of both, and so are
    the initializers: `rngs.normal((2, 3))`, `rngs.params.lecun_normal()((2, 3))`.

    Args:
        default: seed or key of the default stream, or a mapping of streams.
        streams: seeds or keys by name.

    Raises:
        AttributeError: (when used) there is no such stream and no default.

    >>> from bevel import nn, random
    >>> rngs = nn.Rngs(params=0, dropout=1)
    >>> random.normal(rngs.params(), (2,)).shape
    (2,)
    >>> rngs.noise()
    Traceback (most recent call last):
    ...
    AttributeError: this Rngs has no stream 'noise'; it has params, dropout.
    Write instead: nn.Rngs(params=..., dropout=..., noise=0), or nn.Rngs(0, ...) for all names.
    """

    def __init__(self, default: Any = None, **streams: Any):
        if isinstance(default, Rngs):
            default = dict(default.items())
        if isinstance(default, Mapping):
            streams = {**default, **streams}
        elif default is not None:
            streams = {"default": default, **streams}
        for tag, key in streams.items():
            setattr(self, tag, RngStream(key, tag=tag))

    def __getattr__(self, name: str) -> RngStream:
        attributes = vars(self)
        if name.startswith("_") or "default" not in attributes:
            raise AttributeError(self._no_stream(name))
        return attributes["default"]

    def _no_stream(self, name: str) -> str:
        given = list(vars(self))
        shown = ", ".join(f"{n}=..." for n in given) + ", " if given else ""
        return (
            f"this Rngs has no stream {name!r}; it has {', '.join(given) or 'none'}.\n"
            f"Write instead: nn.Rngs({shown}{name}=0), or nn.Rngs(0, ...) for all names."
        )

    def __getitem__(self, name: str) -> RngStream:
        return getattr(self, name)

    def __call__(self) -> Any:
        """The next key of the default stream."""
        return self.default()

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self))

    def __len__(self) -> int:
        return len(vars(self))

    def __contains__(self, name: object) -> bool:
        return name in vars(self)

    def items(self) -> Iterator[tuple[str, RngStream]]:
        """Pairs of name and stream."""
        return iter(vars(self).items())

    def fork(self) -> Rngs:
        """Streams of their own, each starting from the next key of one here."""
        return Rngs({name: stream.fork() for name, stream in self.items()})

    def split(self, k: int | tuple[int, ...] | Mapping[Any, Any]) -> Rngs:
        """Streams of `k` keys at once, for `vmap`.

        Args:
            k: a shape, or shapes by filter (`{"dropout": 3}`); the streams that no filter takes, or
                one with None, are forked.
        """
        return self._fresh(k, RngStream.split)

    def broadcast(self, k: int | tuple[int, ...] | Mapping[Any, Any]) -> Rngs:
        """Streams of `k` times one key, so that all rows of a `vmap` draw the same; as `split`."""
        return self._fresh(k, RngStream.broadcast)

    def _fresh(self, k: Any, method: Callable[..., RngStream]) -> Rngs:
        rules = k if isinstance(k, Mapping) else {...: k}
        predicates = [(to_predicate(f), n) for f, n in rules.items()]

        def fresh(name: str, stream: RngStream) -> RngStream:
            taken = [n for p, n in predicates if p((name, "key"), stream.key)]
            return stream.fork() if not taken or taken[0] is None else method(stream, taken[0])

        return Rngs({name: fresh(name, stream) for name, stream in self.items()})


def param_key(rngs: Any) -> Any:
    """The next key of the stream `params`, for a parameter of a layer.

    Raises:
        TypeError: there are no streams.
    """
    if not isinstance(rngs, Rngs) and not hasattr(rngs, "params"):
        given = "None" if rngs is None else f"of type {type(rngs).__name__}"
        raise TypeError(
            f"rngs is {given}, and a layer draws its parameters from its stream `params`, at "
            f"{where(user_source())}.\n"
            "Write instead: rngs=nn.Rngs(0), or nn.Rngs(params=0, dropout=1) for streams of their "
            "own."
        )
    return rngs.params()


_DRAWS = """
    ball bernoulli beta binomial bits categorical cauchy chisquare choice dirichlet
    double_sided_maxwell exponential f gamma generalized_normal geometric gumbel laplace loggamma
    logistic lognormal maxwell multinomial multivariate_normal normal orthogonal pareto permutation
    poisson rademacher randint rayleigh t triangular truncated_normal uniform wald weibull_min
"""
_INITIALIZERS = """
    delta_orthogonal glorot_normal glorot_uniform he_normal he_uniform kaiming_normal
    kaiming_uniform lecun_normal lecun_uniform variance_scaling xavier_normal xavier_uniform
"""


def _draw(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(random, name)(self(), *args, **kwargs)

    method.__doc__ = f"`random.{name}` with the next key."
    return method


def _initializer(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        init = getattr(initializers, name)(*args, **kwargs)
        return lambda *shape, **options: init(self(), *shape, **options)

    method.__doc__ = f"`initializers.{name}` as a function of shape and dtype, with the next key."
    return method


for _make, _names in ((_draw, _DRAWS), (_initializer, _INITIALIZERS)):
    for _name in _names.split():
        for _class in (RngStream, Rngs):
            _method = _make(_name)
            _method.__name__ = _name
            setattr(_class, _name, _method)
