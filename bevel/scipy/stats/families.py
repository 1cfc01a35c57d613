"""The two families of distributions of one number: a law states what it is in its standard form,
and the family gives location, scale, support, tails and their logarithms.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import bevel.numpy as bnp
from bevel.scipy.special.entry import elementwise

Rule = Callable[..., Any]


class Distribution:
    """Functions of a probability distribution, under SciPy's names.

    >>> from bevel.scipy import stats
    >>> bnp.round(stats.gamma.pdf([1.0, 2.0], 2.0, scale=0.5), 4)
    Array([0.5413, 0.1465], dtype=float32)
    """

    def __init__(self, name: str, functions: Mapping[str, Callable]):
        self._name = name
        self._functions = sorted(functions)
        for function, call in functions.items():
            setattr(self, function, call)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"the distribution {self._name} has no {name}; it has {', '.join(self._functions)}"
        )

    def __dir__(self) -> list[str]:
        return self._functions

    def __repr__(self) -> str:
        return f"<distribution {self._name}: {', '.join(self._functions)}>"


_MEANINGS = {
    "pdf": "Density",
    "logpdf": "Logarithm of the density",
    "pmf": "Probability",
    "logpmf": "Logarithm of the probability",
    "cdf": "Probability of at most this value",
    "logcdf": "Logarithm of the probability of at most this value",
    "sf": "Probability of more than this value",
    "logsf": "Logarithm of the probability of more than this value",
    "ppf": "The value that is not exceeded with this probability, the inverse of cdf",
    "isf": "The value that is exceeded with this probability, the inverse of sf",
}


def _public(law: str, function: str, what: str, arguments: Sequence[str], body: Rule) -> Callable:
    """`body(first, *parameters)` as a function of anything array-like, with its signature."""
    first = "q" if function in ("ppf", "isf") else what
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    defaults = {"loc": 0, "scale": 1}
    parameters = [
        inspect.Parameter(n, kind, default=defaults.get(n, inspect.Parameter.empty))
        for n in (first, *arguments)
    ]

    def run(*args: Any) -> Any:
        return body(*args)

    run.__name__ = run.__qualname__ = f"{law}.{function}"
    run.__doc__ = f"{_MEANINGS[function]}, elementwise; the arguments are broadcast together."
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return elementwise(run)


def _always(*_: Any) -> bool:
    return True


def _with_logarithms(rules: dict[str, Rule]) -> None:
    """What follows from one tail for the other, and for logarithms."""
    for tail, other in (("cdf", "sf"), ("sf", "cdf")):
        log = "log" + tail
        if tail in rules and other not in rules and "log" + other not in rules:
            rules[other] = lambda y, *s, f=rules[tail]: 1 - f(y, *s)
        if log in rules and tail not in rules:
            rules[tail] = lambda y, *s, f=rules[log]: bnp.exp(f(y, *s))
    for tail in ("cdf", "sf"):
        if tail in rules and "log" + tail not in rules:
            rules["log" + tail] = lambda y, *s, f=rules[tail]: bnp.log(f(y, *s))


def _mirrored(rules: dict[str, Rule]) -> None:
    """The upper tail of a law that is symmetric about 0."""
    for tail, other in (("cdf", "sf"), ("logcdf", "logsf")):
        if tail in rules:
            rules[other] = lambda y, *s, f=rules[tail]: f(-y, *s)
    if "ppf" in rules:
        rules["isf"] = lambda q, *s, f=rules["ppf"]: -f(q, *s)


# Beyond the ends of a support: functions, and their values below and above it.
_ENDS = {
    "cdf": (0.0, 1.0),
    "logcdf": (-math.inf, 0.0),
    "sf": (1.0, 0.0),
    "logsf": (0.0, -math.inf),
}


def _between(low: Any, high: Any) -> Any:
    """A point inside of a support."""
    if isinstance(low, float) and isinstance(high, float):
        if math.isinf(low):
            return 0.0 if math.isinf(high) else high - 1
        return low + 1 if math.isinf(high) else (low + high) / 2
    inner = bnp.where(bnp.isinf(high), low + 1, (low + high) / 2)
    return bnp.where(bnp.isinf(low), bnp.where(bnp.isinf(high), 0, high - 1), inner)


def continuous(
    name: str,
    shapes: Sequence[str] = (),
    *,
    logpdf: Rule,
    support: tuple[float, float] | Rule = (-math.inf, math.inf),
    valid: Rule = _always,
    symmetric: bool = False,
    **rules: Rule,
) -> Distribution:
    """A distribution of real numbers from its standard form.

    Args:
        name: its name.
        shapes: names of its parameters besides `loc` and `scale`.
        logpdf: logarithm of the density of `(y, *shapes)` inside the support.
        support: its ends, or a function of the shapes that gives them.
        valid: whether the shapes are parameters of the law.
        symmetric: about 0.
        rules: `cdf`, `logcdf`, `sf`, `logsf` of `(y, *shapes)`, `ppf`, `isf` of `(q, *shapes)`.
    """
    if symmetric:
        _mirrored(rules)
    _with_logarithms(rules)

    def density(x: Any, *args: Any) -> Any:
        *s, loc, scale = args
        low, high = support(*s) if callable(support) else support
        y = (x - loc) / scale
        inside = (y >= low) & (y <= high) & bnp.isfinite(y)
        safe = bnp.where(inside, y, _between(low, high))
        out = bnp.where(inside, logpdf(safe, *s) - bnp.log(scale), -math.inf)
        return bnp.where(valid(*s) & (scale > 0) & ~bnp.isnan(y), out, math.nan)

    def tail(function: str) -> Rule:
        below, above = _ENDS[function]

        def run(x: Any, *args: Any) -> Any:
            *s, loc, scale = args
            low, high = support(*s) if callable(support) else support
            y = (x - loc) / scale
            safe = bnp.where((y > low) & (y < high), y, _between(low, high))
            out = bnp.where(y <= low, below, bnp.where(y >= high, above, rules[function](safe, *s)))
            return bnp.where(valid(*s) & (scale > 0) & ~bnp.isnan(y), out, math.nan)

        return run

    def quantile(function: str) -> Rule:
        def run(q: Any, *args: Any) -> Any:
            *s, loc, scale = args
            ends = support(*s) if callable(support) else support
            first, last = ends if function == "ppf" else ends[::-1]
            inner = (q > 0) & (q < 1)
            y = rules[function](bnp.where(inner, q, 0.5), *s)
            y = bnp.where(q == 0, first, bnp.where(q == 1, last, y))
            known = valid(*s) & (scale > 0) & (q >= 0) & (q <= 1)
            return bnp.where(known, y * scale + loc, math.nan)

        return run

    bodies = {"logpdf": density, "pdf": lambda *args: bnp.exp(density(*args))}
    bodies |= {n: tail(n) for n in _ENDS if n in rules}
    bodies |= {n: quantile(n) for n in ("ppf", "isf") if n in rules}
    arguments = (*shapes, "loc", "scale")
    return Distribution(
        name, {n: _public(name, n, "x", arguments, body) for n, body in bodies.items()}
    )


def discrete(
    name: str,
    shapes: Sequence[str],
    *,
    logpmf: Rule,
    support: tuple[float, float] | Rule,
    valid: Rule = _always,
    extra: Mapping[str, Callable] | None = None,
    **rules: Rule,
) -> Distribution:
    """A distribution of whole numbers: as `continuous`, with probabilities and without a scale.

    `extra` holds functions that only this law has.
    """
    _with_logarithms(rules)

    def probability(k: Any, *args: Any) -> Any:
        *s, loc = args
        low, high = support(*s) if callable(support) else support
        j = k - loc
        inside = (j >= low) & (j <= high) & (j == bnp.floor(j)) & bnp.isfinite(j)
        out = bnp.where(inside, logpmf(bnp.where(inside, j, low), *s), -math.inf)
        return bnp.where(valid(*s) & ~bnp.isnan(j), out, math.nan)

    def tail(function: str) -> Rule:
        below, above = _ENDS[function]

        def run(k: Any, *args: Any) -> Any:
            *s, loc = args
            low, high = support(*s) if callable(support) else support
            j = bnp.floor(k - loc)
            safe = bnp.where((j >= low) & (j < high), j, low)
            out = bnp.where(j < low, below, bnp.where(j >= high, above, rules[function](safe, *s)))
            return bnp.where(valid(*s) & ~bnp.isnan(j), out, math.nan)

        return run

    def quantile(q: Any, *args: Any) -> Any:
        *s, loc = args
        low, high = support(*s) if callable(support) else support
        inner = (q > 0) & (q < 1)
        j = rules["ppf"](bnp.where(inner, q, 0.5), *s)
        j = bnp.where(q == 0, low - 1, bnp.where(q == 1, high, j))
        return bnp.where(valid(*s) & (q >= 0) & (q <= 1), j + loc, math.nan)

    bodies = {"logpmf": probability, "pmf": lambda *args: bnp.exp(probability(*args))}
    bodies |= {n: tail(n) for n in _ENDS if n in rules}
    if "ppf" in rules:
        bodies |= {"ppf": quantile, "isf": lambda q, *args: quantile(1 - q, *args)}
    arguments = (*shapes, "loc")
    functions = {n: _public(name, n, "k", arguments, body) for n, body in bodies.items()}
    return Distribution(name, functions | dict(extra or {}))
