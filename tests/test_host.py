"""Callbacks: how often they run, in which order, on what; and what their errors say."""

from __future__ import annotations

import numpy as np
import pytest

from bevel.core.aval import Aval, aval_of
from bevel.core.errors import Unsupported
from bevel.core.graph import trace
from bevel.core.interpreter import to_numpy
from bevel.ops import add, callback, effect_callback
from bevel.transforms.compile import Program
from bevel.transforms.jvp import jvp
from bevel.transforms.vmap import Axis, vmap

F32 = np.dtype(np.float32)
ROW = Aval((3,), F32)
X = np.arange(3, dtype=np.float32)


def compiled(fn, *args):
    graph, captured = trace(fn, [aval_of(a) for a in args], "test")
    return [to_numpy(o) for o in Program(graph)([*captured, *args])]


class Counter:
    def __init__(self):
        self.calls = []

    def __call__(self, *args):
        self.calls.append([a.copy() for a in args])
        return sum(args[1:], args[0] * 2)


@pytest.mark.parametrize(
    "how, shapes",
    [
        ("sequential", [((3,), (3,))] * 2),
        ("expand_dims", [((2, 3), (1, 3))]),
        ("broadcast_all", [((2, 3), (2, 3))]),
    ],
)
def test_vmap_calls(how, shapes):
    count = Counter()
    fn = lambda x, y: callback(x, y, fn=count, out_avals=(ROW,), vectorized=how)  # noqa: E731
    (out,), _ = vmap(fn, Axis(2), [np.stack([X, X + 1]), X], (True, False))
    assert [tuple(a.shape for a in call) for call in count.calls] == shapes
    np.testing.assert_array_equal(out, np.stack([3 * X, 3 * X + 2]))


def test_vmap_without_a_method_says_which_there_are():
    with pytest.raises(Unsupported, match="sequential(.|\n)*expand_dims(.|\n)*broadcast_all"):
        vmap(
            lambda x: callback(x, fn=Counter(), out_avals=(ROW,)),
            Axis(2),
            [np.stack([X, X])],
            (True,),
        )
    with pytest.raises(ValueError, match="vectorized"):
        compiled(lambda x: callback(x, fn=Counter(), out_avals=(ROW,), vectorized="loop"), X)


def test_effects_run_once_and_in_order():
    order = []

    def note(name):
        return lambda x: (order.append(name), ())[1]

    notes = {name: note(name) for name in "abc"}

    def program(x):
        for name in "abc":
            effect_callback(x, fn=notes[name], out_avals=())
            x = add(x, x)
        return [x]

    for _ in range(3):
        compiled(program, X)
    assert order == list("abc") * 3


def test_an_effect_runs_though_its_result_is_not_used_and_a_pure_one_does_not():
    effect, pure = Counter(), Counter()

    def program(x):
        effect_callback(x, fn=effect, out_avals=(ROW,))
        callback(x, fn=pure, out_avals=(ROW,))
        return [add(x, x)]

    compiled(program, X)
    assert len(effect.calls) == 1 and not pure.calls


def test_arguments_may_be_kept_and_not_written():
    kept = []

    def keep(x):
        kept.append(x)
        return x

    compiled(lambda x: callback(add(x, x), fn=keep, out_avals=(ROW,)), X)
    compiled(lambda x: [add(add(x, x), x)], X)
    np.testing.assert_array_equal(kept[0], 2 * X)

    def write(x):
        x[0] = 5
        return x

    with pytest.raises(ValueError, match="read-only"):
        callback(X, fn=write, out_avals=(ROW,))


@pytest.mark.parametrize("run", [lambda fn, x: list(fn(x)), compiled], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    "fn, error, match",
    [
        (lambda x: x[:2], ValueError, r"shape \(2,\) as result 0.*float32\[3\]"),
        (lambda x: (x, x), TypeError, "2 arrays, but 1 were announced"),
        (lambda x: x + 1j, TypeError, "complex64(.|\n)*astype"),
    ],
)
def test_wrong_results_are_explained(run, fn, error, match):
    with pytest.raises(error, match=match):
        run(lambda x: callback(x, fn=fn, out_avals=(ROW,)), X)


def test_results_of_another_width_are_converted():
    assert callback(X, fn=lambda x: x.astype(np.float64), out_avals=(ROW,))[0].dtype == F32


def test_derivatives_are_refused_with_a_way_out():
    for op in (callback, effect_callback):
        with pytest.raises(Unsupported, match="custom_jvp"):
            jvp(lambda x, op=op: op(x, fn=Counter(), out_avals=(ROW,)), [X], [X])
    shown = []
    show = lambda x: (shown.append(x.copy()), ())[1]  # noqa: E731

    def program(x):
        effect_callback(x, fn=show, out_avals=())
        return [add(x, x)]

    _, (tangent,) = jvp(program, [X], [np.ones(3, np.float32)])
    assert len(shown) == 1 and tangent.tolist() == [2, 2, 2]
