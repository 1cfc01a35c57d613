"""Every op crossed with every transform; an op without samples or with an empty rule fails."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest

import bevel.control
import bevel.ops
import tests.samples
from bevel.control.custom import custom_vjp_linear
from bevel.core.aval import Aval
from bevel.core.graph import trace
from bevel.core.interpreter import to_numpy
from bevel.core.op import Op, Unsupported
from bevel.ops import axis_index
from bevel.transforms.compile import Program
from bevel.transforms.vmap import Axis, vmap
from tests.op_checks import (
    check_compiled,
    check_derivatives,
    check_gradients,
    check_reference,
    check_vmap,
)
from tests.samples.base import Sample, normal
from tests.samples.collective import COLLECTIVES, SIZE

MODULES = [
    importlib.import_module(f"tests.samples.{m.name}")
    for m in pkgutil.iter_modules(tests.samples.__path__)
]
SAMPLES: list[Sample] = [s for m in MODULES for s in getattr(m, "SAMPLES", ())]
HOLDERS = [bevel.ops] + [
    importlib.import_module(f"bevel.control.{m.name}")
    for m in pkgutil.iter_modules(bevel.control.__path__)
]
OPS: dict[str, Op] = {
    value.name: value
    for module in HOLDERS
    for name, value in ((n, getattr(module, n)) for n in dir(module))
    if isinstance(value, Op) and (module is bevel.ops or name == value.name)
}
INDIRECT = {
    custom_vjp_linear: "it exists only between the two passes of custom_vjp",
    axis_index: "it has no operands; test_axis_index",
}
RULES = ("reference", "lower", "jvp", "transpose", "batch")


def cases(keep=lambda s: True):
    chosen = [s for s in SAMPLES if keep(s)]
    return pytest.mark.parametrize("sample", chosen, ids=[s.id for s in chosen])


@pytest.mark.parametrize("name", OPS)
def test_op_has_samples(name):
    op = OPS[name]
    if op in INDIRECT or any(c.op is op for c in COLLECTIVES):
        return
    mine = [s for s in SAMPLES if s.op is op]
    assert mine, f"{name} has no sample: add one to tests/samples/"
    if op.jvp is not None and isinstance(op.jvp, tuple):
        assert any(s.grad for s in mine), (
            f"{name} has a derivative and no sample that differentiates it"
        )


@pytest.mark.parametrize("name", OPS)
def test_op_record_is_complete(name):
    op = OPS[name]
    assert callable(op.abstract)
    for field in RULES:
        rule = getattr(op, field)
        assert rule is not None, f"{name}.{field} is missing: write it, or Unsupported(why)"
        if isinstance(rule, Unsupported):
            assert len(rule.why) > 15, f"{name}.{field}: {rule.why!r} is not a reason"


def test_op_names_are_unique():
    names = [op.name for op in {id(o): o for o in OPS.values()}.values()]
    assert sorted(set(names)) == sorted(names)


@cases()
def test_reference(sample):
    check_reference(sample)


def compiled_groups():
    """Samples of each op by tens: a program costs more than what it computes."""
    for op in {id(s.op): s.op for s in SAMPLES}.values():
        mine = [s for s in SAMPLES if s.op is op and not isinstance(op.lower, Unsupported)]
        for i in range(0, len(mine), 12):
            yield pytest.param(mine[i : i + 12], id=f"{op.name}-{i}")


@pytest.mark.parametrize("samples", list(compiled_groups()))
def test_compiled(samples):
    check_compiled(samples)


@cases(lambda s: s.grad)
def test_derivatives(sample):
    check_gradients(sample)


@cases(lambda s: s.args and not isinstance(s.op.batch, Unsupported))
def test_vmap(sample):
    check_vmap(sample)


# -- collectives: functions of a mapped axis ------------------------------------------------------


def mapped(collective):
    """The collective as a flat function of whole batches."""

    def fn(x):
        outs, batched = vmap(
            lambda row: [collective.op(row, axis_name="i", **collective.params)],
            Axis(x.shape[0], "i"),
            [x],
            [True],
        )
        return outs if batched[0] else [bevel.ops.batch_broadcast(x.shape[0], outs[0], False)]

    return fn


collectives = pytest.mark.parametrize(
    "collective", COLLECTIVES, ids=[c.op.name for c in COLLECTIVES]
)


@collectives
def test_collective(collective):
    x = normal((SIZE, *collective.row))
    fn = mapped(collective)
    np.testing.assert_allclose(to_numpy(fn(x)[0]), collective.expected(x), rtol=1e-6)
    graph, captured = trace(fn, [Aval(x.shape, x.dtype)], "test")
    np.testing.assert_allclose(
        to_numpy(Program(graph)([*captured, x])[0]), collective.expected(x), rtol=1e-6
    )
    if collective.differentiable:
        check_derivatives(fn, [x.astype(np.float64)], 2, 1e-5)


@collectives
def test_collective_under_another_axis(collective):
    x = normal((3, SIZE, *collective.row))
    outs, batched = vmap(mapped(collective), Axis(3), [x], [True])
    assert batched == [True]
    np.testing.assert_allclose(
        to_numpy(outs[0]), np.stack([collective.expected(row) for row in x]), rtol=1e-6
    )


@collectives
def test_collective_of_one_value(collective):
    """A value that is the same in all rows."""
    row = normal(collective.row)
    outs, batched = vmap(
        lambda x: [collective.op(row, axis_name="i", **collective.params)],
        Axis(SIZE, "i"),
        [np.zeros(SIZE)],
        [True],
    )
    found = to_numpy(outs[0]) if batched[0] else np.stack([to_numpy(outs[0])] * SIZE)
    np.testing.assert_allclose(found, collective.expected(np.stack([row] * SIZE)), rtol=1e-6)


@collectives
def test_collective_without_its_axis(collective):
    with pytest.raises(NameError, match="axis_name="):
        collective.op(normal(collective.row), axis_name="j", **collective.params)


def test_axis_index():
    outs, _ = vmap(lambda x: [axis_index(axis_name="i")], Axis(SIZE, "i"), [np.zeros(SIZE)], [True])
    np.testing.assert_array_equal(to_numpy(outs[0]), np.arange(SIZE, dtype=np.int32))
