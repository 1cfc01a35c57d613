"""Every op crossed with every transform; an op without samples or with an empty rule fails."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import bevel.control
import bevel.ops
import tests.samples
from bevel.core.op import Op, Unsupported
from tests.op_checks import check_compiled, check_gradients, check_reference, check_vmap
from tests.samples.base import Sample

MODULES = [
    importlib.import_module(f"tests.samples.{m.name}") for m in pkgutil.iter_modules(tests.samples.__path__)
]
SAMPLES: list[Sample] = [s for m in MODULES for s in getattr(m, "SAMPLES", ())]
HOLDERS = [bevel.ops] + [
    importlib.import_module(f"bevel.control.{m.name}") for m in pkgutil.iter_modules(bevel.control.__path__)
]
OPS: dict[str, Op] = {
    value.name: value
    for module in HOLDERS
    for name, value in vars(module).items()
    if isinstance(value, Op) and (module is bevel.ops or name == value.name)
}
RULES = ("reference", "lower", "jvp", "transpose", "batch")


def cases(keep=lambda s: True):
    chosen = [s for s in SAMPLES if keep(s)]
    return pytest.mark.parametrize("sample", chosen, ids=[s.id for s in chosen])


@pytest.mark.parametrize("name", OPS)
def test_op_has_samples(name):
    op = OPS[name]
    mine = [s for s in SAMPLES if s.op is op]
    assert mine, f"{name} has no sample: add one to tests/samples/"
    if op.jvp is not None and isinstance(op.jvp, tuple):
        assert any(s.grad for s in mine), f"{name} has a derivative and no sample that differentiates it"


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
