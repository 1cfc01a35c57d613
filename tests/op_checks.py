"""The checks that cross an op, or any flat function, with the transforms.

A flat function takes values and returns a list of values. The reference (NumPy, op by op) is the
oracle for programs; central differences in float64 are the oracle for jvp; the dot-product identity
ties vjp to jvp; a loop ties vmap to the function itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from bevel.core import config, dtypes
from bevel.core.aval import aval_of
from bevel.core.graph import trace
from bevel.core.interpreter import to_numpy
from bevel.transforms.compile import Program
from bevel.transforms.jvp import jvp
from bevel.transforms.linearize import vjp
from bevel.transforms.vmap import Axis, vmap
from tests.samples.base import TOLERANCE, Sample

Flat = Callable[..., Sequence]
STEP = 1e-5


def flat(sample: Sample) -> Flat:
    """The sample's op as a flat function of its operands."""

    def fn(*args):
        out = sample.op(*args, **sample.params)
        return list(out) if sample.op.multiple else [out]

    return fn


def wide(value):
    """A parameter or operand at double precision, for finite differences."""
    if isinstance(value, np.ndarray):
        return value.astype(wide(value.dtype))
    if isinstance(value, np.dtype) and dtypes.is_inexact(value):
        return dtypes.complex128 if dtypes.is_complex(value) else dtypes.float64
    return value


def assert_same(found, expected, tol: float | None, what: str) -> None:
    """Equal dtype and shape; equal values up to the tolerance of the dtype."""
    found, expected = to_numpy(found), to_numpy(expected)
    assert found.dtype == expected.dtype, f"{what}: dtype {found.dtype} instead of {expected.dtype}"
    assert found.shape == expected.shape, f"{what}: shape {found.shape} instead of {expected.shape}"
    if dtypes.kind(found.dtype) in "biu":
        np.testing.assert_array_equal(found, expected, err_msg=what)
        return
    tol = max(tol or 0, TOLERANCE.get(found.dtype, 0))
    kind = np.complex128 if dtypes.is_complex(found.dtype) else np.float64
    np.testing.assert_allclose(
        found.astype(kind), expected.astype(kind), rtol=tol, atol=tol, err_msg=what
    )


def random_like(value, seed: int) -> np.ndarray:
    """A random tangent or cotangent."""
    aval = aval_of(value)
    g = np.random.default_rng(seed)
    out = g.normal(size=aval.shape)
    if dtypes.is_complex(aval.dtype):
        out = out + 1j * g.normal(size=aval.shape)
    return np.asarray(out).astype(aval.dtype)


def differentiable(values: Sequence) -> list[int]:
    return [i for i, v in enumerate(values) if dtypes.is_inexact(aval_of(v).dtype)]


def restricted(fn: Flat, args: Sequence[np.ndarray], wrt: Sequence[int]) -> Flat:
    """`fn` as a function of the operands `wrt` alone, with only its differentiable results."""

    def small(*xs):
        full = list(args)
        for i, x in zip(wrt, xs, strict=True):
            full[i] = x
        outs = fn(*full)
        return [outs[i] for i in differentiable(outs)]

    return small


def dot(a: Sequence, b: Sequence) -> float:
    """Real part of the pairing of values with covalues (no conjugation)."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        if x is not None and y is not None:
            total += np.sum(to_numpy(x) * to_numpy(y)).real
    return float(total)


def as_values(tangents: Sequence, primals: Sequence) -> list:
    return [
        np.zeros(p.shape, p.dtype) if t is None else t
        for t, p in zip(tangents, primals, strict=True)
    ]


def check_derivatives(
    fn: Flat,
    args: Sequence[np.ndarray],
    order: int,
    tol: float,
    seed: int = 0,
    reverse: bool = True,
) -> None:
    """jvp against central differences and vjp against jvp, and the same of these two themselves."""
    args = [np.asarray(a) for a in args]
    tangents = [random_like(a, seed + i) for i, a in enumerate(args)]
    outs, douts = jvp(fn, args, tangents)
    assert outs, "no differentiable result"
    douts = as_values(douts, outs)
    up = fn(*[np.asarray(a + STEP * t) for a, t in zip(args, tangents, strict=True)])
    down = fn(*[np.asarray(a - STEP * t) for a, t in zip(args, tangents, strict=True)])
    for i, (u, d, t) in enumerate(zip(up, down, douts, strict=True)):
        numeric = (to_numpy(u) - to_numpy(d)) / (2 * STEP)
        constant = np.isnan(to_numpy(u)) & np.isnan(to_numpy(d))
        numeric = np.where(constant, 0, numeric)  # a NaN that fills places out of bounds
        scale = max(1.0, float(np.max(np.abs(numeric), initial=0)))
        np.testing.assert_allclose(
            to_numpy(t), numeric, rtol=tol, atol=tol * scale, err_msg=f"jvp of result {i}"
        )
    if not reverse:
        return
    cotangents = [random_like(o, seed + 100 + i) for i, o in enumerate(outs)]
    primals, pull = vjp(fn, args)
    for p, o in zip(primals, outs, strict=True):
        assert_same(p, o, None, "primal result of vjp")
    cts = pull(cotangents)
    for c, a in zip(cts, args, strict=True):
        assert c is None or aval_of(c) == aval_of(a), (
            f"cotangent {aval_of(c)} of an operand {aval_of(a)}"
        )
    forward, backward = dot(cotangents, douts), dot(cts, tangents)
    size = 1 + sum(abs(float(np.sum(np.abs(to_numpy(c))))) for c in cts if c is not None)
    assert abs(forward - backward) <= 1e-7 * size, (
        f"<ct, jvp> = {forward} but <vjp, t> = {backward}"
    )
    if order > 1:
        push = lambda *xs: as_values(*reversed(jvp(fn, xs, tangents)))  # noqa: E731
        check_derivatives(push, args, order - 1, tol * 10, seed + 1000)

        def pulled(*xs):
            return as_values(vjp(fn, xs)[1](cotangents), xs)

        check_derivatives(pulled, args, order - 1, tol * 10, seed + 2000)


def check_gradients(sample: Sample) -> None:
    """Derivatives of a sample at double precision."""
    params = {k: wide(v) for k, v in sample.params.items()}
    args = [wide(a) for a in sample.args]
    fn = flat(Sample(sample.op, tuple(args), params))
    small = restricted(fn, args, sample.grad)
    order = 2 if sample.second_order else 1
    check_derivatives(
        small, [args[i] for i in sample.grad], order, sample.fd_tol, reverse=sample.reverse
    )


def check_reference(sample: Sample) -> list:
    """The eager result has the announced aval; returns it."""
    outs = flat(sample)(*sample.args)
    avals = sample.op.abstract(*[aval_of(a) for a in sample.args], **sample.params)
    avals = list(avals) if sample.op.multiple else [avals]
    assert [aval_of(o) for o in outs] == avals, (
        f"{sample.op} gives {[aval_of(o) for o in outs]}, announces {avals}"
    )
    return outs


def everything(sample: Sample) -> Flat:
    """The op, its jvp and its vjp in one flat function: one program tests the lowering of all of
    them.
    """
    fn = flat(sample)

    def run(*args):
        outs = list(fn(*args)) if sample.compare else []
        if not sample.grad:
            return outs
        small = restricted(fn, args, sample.grad)
        primals = [args[i] for i in sample.grad]
        results, tangents = jvp(small, primals, [random_like(p, i) for i, p in enumerate(primals)])
        if not sample.reverse:
            return outs + [t for t in tangents if t is not None]
        cotangents = vjp(small, primals)[1]([random_like(r, 50 + i) for i, r in enumerate(results)])
        return outs + [t for t in [*tangents, *cotangents] if t is not None]

    return run


def check_compiled(samples: Sequence[Sample]) -> None:
    """A program gives what the references give, derivatives included; one program for many samples
    is quick.
    """
    fns = [everything(s) for s in samples]

    def run(*args):
        rest = iter(args)
        return [
            o for s, fn in zip(samples, fns, strict=True) for o in fn(*[next(rest) for _ in s.args])
        ]

    args = [a for s in samples for a in s.args]
    graph, captured = trace(run, [aval_of(a) for a in args], "test")
    found = iter(Program(graph)([*captured, *args]))
    problems = []
    for sample, fn in zip(samples, fns, strict=True):
        with config.config(disable_jit=True):  # the ops that hold graphs would be compiled, too
            wanted = fn(*sample.args)
        for i, expected in enumerate(wanted):
            try:
                assert_same(next(found), expected, sample.tol, f"result {i} of the program")
            except AssertionError as e:
                problems.append(f"{sample.id} {sample.params}: {e}")
    assert not problems, "\n\n".join(problems)


@np.errstate(all="ignore")
def variations(arg: np.ndarray, size: int) -> np.ndarray:
    """A batch of valid operands like one: floats scaled a little, others rolled along the flat
    array.
    """
    rows = []
    for i in range(size):
        if dtypes.is_inexact(arg.dtype):
            rows.append(
                (arg * np.asarray(1 + i / 16, dtypes.real_dtype(arg.dtype))).astype(arg.dtype)
            )
        else:
            rows.append(np.roll(arg.reshape(-1), i).reshape(arg.shape))
    return np.stack(rows)


def subsets(count: int) -> list[tuple[bool, ...]]:
    """Which operands to batch: every choice for up to three, else each alone and all together."""
    if count <= 3:
        return [s for s in itertools.product((True, False), repeat=count) if any(s)]
    return [tuple(j == i for j in range(count)) for i in range(count)] + [(True,) * count]


def check_vmap(sample: Sample, size: int = 3) -> None:
    """vmap over every choice of operands equals a loop."""
    fn = flat(sample)
    for batched in subsets(len(sample.args)):
        if any(b and i in sample.unbatched for i, b in enumerate(batched)):
            continue
        stacks = [
            variations(a, size) if b else a for a, b in zip(sample.args, batched, strict=True)
        ]
        outs, out_batched = vmap(fn, Axis(size), stacks, batched)
        rows = [
            fn(*[np.asarray(s[i]) if b else s for s, b in zip(stacks, batched, strict=True)])
            for i in range(size)
        ]
        for j, (o, b) in enumerate(zip(outs, out_batched, strict=True)):
            for i in range(size):
                row = to_numpy(o)[i] if b else to_numpy(o)
                assert_same(
                    np.asarray(row),
                    rows[i][j],
                    sample.tol,
                    f"row {i} of result {j}, batched {batched}",
                )
