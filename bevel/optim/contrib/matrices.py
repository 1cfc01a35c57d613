"""Optimizers that treat weights as matrices: Muon and GaLore."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import bevel.numpy as bnp
from bevel import lax
from bevel.core import dtypes
from bevel.core import tree as _tree
from bevel.numpy.convert import enter
from bevel.optim import tree
from bevel.optim.aliases import adamw
from bevel.optim.base import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    MaskOrFn,
    ScalarOrSchedule,
    chain,
    partition,
    safe_increment,
    stateless,
    zero_count,
)
from bevel.optim.moments import scale_by_adam
from bevel.optim.scaling import add_decayed_weights, scale_by_learning_rate

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_PRESETS: dict[str, Any] = {
    "standard": _COEFFICIENTS,
    "dion": (
        (4.0848, -6.8946, 2.9270),
        (3.9505, -6.3029, 2.6377),
        (3.7418, -5.5913, 2.3037),
        (2.8769, -3.1427, 1.2046),
        (2.8366, -3.0525, 1.2012),
    ),
}


class MuonDimensionNumbers(NamedTuple):
    """Which axes of an array are a matrix's rows, and which its columns; others are a batch."""

    reduction_axis: Sequence[int] | int = 0
    output_axis: Sequence[int] | int = 1


class GaLoreDimensionNumbers(NamedTuple):
    """Which axes of an array are a matrix's rows, and which its columns; all are one of them."""

    reduction_axis: Sequence[int] | int = 0
    output_axis: Sequence[int] | int = 1


class MuonState(NamedTuple):
    """Step, first moment, and the coefficients of the iteration."""

    count: Any
    mu: Any
    ns_coeffs: Any


class GaLoreState(NamedTuple):
    """Step, the state of the optimizer of the small gradients, and what makes them small."""

    count: Any
    base_optimizer_state: Any
    projector: Any


# -- arrays as matrices ----------------------------------------------------------------------------


def _axes(x: Any, numbers: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes of the rows and of the columns, counted from 0."""
    rows, columns = (
        tuple(a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis))
        for axis in (numbers.reduction_axis, numbers.output_axis)
    )
    if x.ndim < 2 or set(rows) & set(columns):
        raise ValueError(
            f"{type(numbers).__name__}: an array of shape {x.shape} has no matrix with the rows "
            f"{rows} and columns {columns}; use another optimizer for vectors (see `partition`)"
        )
    return rows, columns


def _as_matrices(x: Any, numbers: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The array as (batch, rows, columns), and the way back."""
    rows, columns = _axes(x, numbers)
    batch = tuple(a for a in range(x.ndim) if a not in rows + columns)
    order = batch + rows + columns
    moved = bnp.transpose(x, order)
    shape = tuple(math.prod(x.shape[a] for a in axes) for axes in (batch, rows, columns))
    back = sorted(range(x.ndim), key=lambda i: order[i])
    return moved.reshape(shape), lambda y: bnp.transpose(y.reshape(moved.shape), back)


def _is_number(x: Any) -> bool:
    return x is None or isinstance(x, MuonDimensionNumbers | GaLoreDimensionNumbers)


def _numbers(choice: Any, params: Any, default: Callable[[Any], Any]) -> list[Any]:
    """The dimension numbers (or None) of each leaf: from a tree that is a prefix, or a function."""
    leaves = _tree.leaves(params)
    if choice is None:
        return [default(x) for x in leaves]
    if _is_number(choice):
        return [choice if x.ndim >= 2 else None for x in leaves]
    found: list[Any] = []
    _tree.map(
        lambda number, part: found.extend([number] * len(_tree.leaves(part))),
        choice(params) if callable(choice) else choice,
        params,
        is_leaf=_is_number,
    )
    return found


def _map(f: Callable[..., Any], first: Any, *rest: list[Any]) -> Any:
    """`f` of the leaves of a tree and of lists in their order."""
    leaves, treedef = _tree.flatten(first)
    return _tree.unflatten(treedef, [f(*xs) for xs in zip(leaves, *rest, strict=True)])


# -- Muon ------------------------------------------------------------------------------------------


def _dagger(x: Any) -> Any:
    return bnp.conj(bnp.swapaxes(x, -1, -2))


def _first_scale(x: Any, gram: Any, how: str, eps: Any) -> Any:
    """Factors of rows that bring the singular values to 1 or below."""
    if how == "frobenius":
        return 1 / (bnp.linalg.norm(x, axis=(-2, -1), keepdims=True) + eps)
    if how == "spectral":
        return 1 / (bnp.linalg.norm(x, ord=2, axis=(-2, -1), keepdims=True) + eps)
    if how == "aol":
        return lax.rsqrt(bnp.maximum(bnp.sum(abs(gram), axis=-1, keepdims=True), eps))
    if how == "schatten":
        norm = bnp.linalg.norm(gram, axis=(-2, -1), keepdims=True)
        return lax.rsqrt(bnp.maximum(norm, eps))
    raise ValueError(
        f"muon: preconditioning is 'frobenius', 'spectral', 'aol' or 'schatten', not {how!r}"
    )


def _orthogonal(
    x: Any, coefficients: Any, steps: int, preconditioning: str, eps: Any, numbers: Any
) -> Any:
    """Nearly the orthogonal factor of each matrix, by a Newton-Schulz iteration."""
    x, back = _as_matrices(x, numbers)
    tall = x.shape[-2] > x.shape[-1]
    x = bnp.swapaxes(x, -1, -2) if tall else x
    scale = _first_scale(x, x @ _dagger(x), preconditioning, eps)
    x = x * scale
    coefficients = coefficients.astype(x.dtype)
    each = [coefficients] * int(steps) if coefficients.ndim == 1 else list(coefficients)
    for a, b, c in each:
        gram = x @ _dagger(x)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return back(bnp.swapaxes(x, -1, -2) if tall else x)


def scale_by_muon(
    ns_coeffs: Any = _COEFFICIENTS,
    ns_steps: int = 5,
    beta: Any = 0.95,
    eps: Any = 1e-8,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    weight_dimension_numbers: Any = None,
) -> GradientTransformation:
    """Momentum made orthogonal, for matrices only (Jordan et al., "Muon", 2024,
    https://kellerjordan.github.io/posts/muon/).

    Args:
        ns_coeffs: of the polynomial a*x + b*x**3 + c*x**5 of singular values: (a, b, c), or one
            triple a step.
        ns_steps: how often it is applied.
        beta: decay of the momentum.
        eps: added to norms.
        mu_dtype: dtype the momentum is kept at.
        nesterov: Nesterov's momentum.
        adaptive: scale by the product with the momentum (Bernstein and Newhouse, arXiv:2409.20325).
        preconditioning: how the first matrix is scaled: "frobenius", "spectral", "aol" (Boissin et
            al., arXiv:2512.04632) or "schatten".
        weight_dimension_numbers: `MuonDimensionNumbers`, a tree of them that is a prefix of the
            parameters, or a function from parameters to one; rows and columns by default.

    Raises:
        ValueError: coefficients that are no triples, or (in update) an array that is no matrix.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.scale_by_muon(), bnp.array([[3.0, 0.0], [0.0, 4.0]])
    >>> tx.update(x, tx.init(x), x)[0].round(1)
    Array([[0.7, 0. ],
           [0. , 1.1]], dtype=float32)
    """

    def init(params: Any) -> MuonState:
        c = bnp.asarray(ns_coeffs, dtypes.float32)
        if c.ndim not in (1, 2) or c.shape[-1] != 3 or (c.ndim == 2 and c.shape[0] > ns_steps):
            raise ValueError(
                "muon: ns_coeffs is (3,), or (n, 3) with n up to ns_steps, got the shape "
                f"{c.shape}, and ns_steps is {ns_steps}"
            )
        return MuonState(zero_count(), tree.zeros_like(params, mu_dtype), c)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MuonState]:
        mu = tree.update_moment(updates, state.mu, beta, 1)
        count = safe_increment(state.count)
        if nesterov:
            ahead = tree.bias_correction(mu, beta, safe_increment(count))
            mean = tree.update_moment(tree.bias_correction(updates, beta, count), ahead, beta, 1)
        else:
            mean = tree.bias_correction(mu, beta, count)

        def each(m: Any, numbers: Any) -> Any:
            out = _orthogonal(m, state.ns_coeffs, ns_steps, preconditioning, eps, numbers)
            return bnp.sum(bnp.conj(m) * out) * out if adaptive else out

        numbers = _numbers(weight_dimension_numbers, mean, lambda x: MuonDimensionNumbers())
        return _map(each, mean, numbers), MuonState(count, tree.cast(mu, mu_dtype), state.ns_coeffs)

    return GradientTransformation(init, update)


def _scale_by_shape(weight_dimension_numbers: Any, consistent_rms: Any) -> GradientTransformation:
    def each(u: Any, numbers: Any) -> Any:
        rows, columns = (math.prod(u.shape[a] for a in axes) for axes in _axes(u, numbers))
        if consistent_rms is None:
            return math.sqrt(max(1.0, columns / rows)) * u
        return math.sqrt(max(rows, columns)) * consistent_rms * u

    def scaled(updates: Any, params: Any) -> Any:
        numbers = _numbers(weight_dimension_numbers, updates, lambda x: MuonDimensionNumbers())
        return _map(each, updates, numbers)

    return stateless(scaled)


def muon(
    learning_rate: ScalarOrSchedule,
    ns_coeffs: Any = _COEFFICIENTS,
    ns_steps: int = 5,
    beta: Any = 0.95,
    eps: Any = 1e-8,
    weight_decay: Any = 0.0,
    weight_decay_mask: MaskOrFn = None,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
    adaptive: bool = False,
    preconditioning: str = "frobenius",
    adam_b1: Any = 0.9,
    adam_b2: Any = 0.999,
    adam_eps_root: Any = 0.0,
    adam_weight_decay: Any = 0.0,
    adam_learning_rate: ScalarOrSchedule = None,
    muon_weight_dimension_numbers: Any = None,
    consistent_rms: Any = None,
) -> GradientTransformationExtraArgs:
    """Muon (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/) for matrices, and
    AdamW for the other parameters.

    Args:
        learning_rate: number or schedule.
        ns_coeffs: as for `scale_by_muon`, or "standard" or "dion".
        ns_steps: as for `scale_by_muon`.
        beta: as for `scale_by_muon`.
        eps: added to norms, and to Adam's denominators.
        weight_decay: strength for matrices.
        weight_decay_mask: which of them decay.
        mu_dtype: dtype the momentum is kept at.
        nesterov: Nesterov's momentum.
        adaptive: as for `scale_by_muon`.
        preconditioning: as for `scale_by_muon`.
        adam_b1: decay of Adam's first moment.
        adam_b2: decay of Adam's second moment.
        adam_eps_root: added inside Adam's root.
        adam_weight_decay: strength for the others.
        adam_learning_rate: for the others; the same if None.
        muon_weight_dimension_numbers: a tree of `MuonDimensionNumbers`, or None where Adam is to be
            used, that is a prefix of the parameters, or a function from parameters to one; by
            default arrays of two axes are the matrices.
        consistent_rms: scale to this root mean square for any shape (Liu et al., arXiv:2502.16982);
            None to scale wide matrices up.

    Raises:
        ValueError: as for `scale_by_muon`, or no such preset of coefficients.

    >>> from bevel.optim import contrib
    >>> tx = contrib.muon(0.1)
    >>> x = {"w": bnp.array([[3.0, 0.0], [0.0, 4.0]]), "b": bnp.array([1.0, -2.0])}
    >>> tx.update(x, tx.init(x), x)[0]["w"].round(2)
    Array([[-0.07, -0.  ],
           [-0.  , -0.11]], dtype=float32)
    """
    if isinstance(ns_coeffs, str):
        if ns_coeffs not in _PRESETS:
            raise ValueError(f"muon: ns_coeffs is one of {list(_PRESETS)}, not {ns_coeffs!r}")
        ns_coeffs = _PRESETS[ns_coeffs]
    chosen = muon_weight_dimension_numbers

    def labels(params: Any) -> Any:
        numbers = _numbers(
            chosen, params, lambda x: MuonDimensionNumbers() if x.ndim == 2 else None
        )
        return _map(lambda x, n: "adam" if n is None else "muon", params, numbers)

    matrices = chain(
        scale_by_muon(
            ns_coeffs,
            ns_steps,
            beta,
            eps,
            mu_dtype,
            nesterov=nesterov,
            adaptive=adaptive,
            preconditioning=preconditioning,
            weight_dimension_numbers=chosen,
        ),
        _scale_by_shape(chosen, consistent_rms),
        add_decayed_weights(weight_decay, weight_decay_mask),
        scale_by_learning_rate(learning_rate),
    )
    others = adamw(
        learning_rate if adam_learning_rate is None else adam_learning_rate,
        adam_b1,
        adam_b2,
        eps,
        adam_eps_root,
        mu_dtype,
        adam_weight_decay,
        nesterov=nesterov,
    )
    return partition({"muon": matrices, "adam": others}, labels)


# -- GaLore ----------------------------------------------------------------------------------------


def _flat(x: Any, numbers: Any) -> tuple[Any, Callable[[Any], Any]]:
    """The array as one matrix, and the way back."""
    matrices, back = _as_matrices(x, numbers)
    if sum(map(len, _axes(x, numbers))) != x.ndim:
        raise ValueError(
            f"galore: {numbers} leaves axes of an array of shape {x.shape} out; each axis belongs "
            "to the rows or to the columns"
        )
    return matrices[0], lambda y: back(y[None])


def _small_start(p: Any, numbers: Any, rank: int) -> tuple[Any, Any]:
    """Zeros of the shapes of the projector and of the small gradient."""
    p = enter(p)
    if numbers is None:
        return bnp.zeros((0, 0), p.dtype), bnp.zeros_like(p)
    m, n = _flat(p, numbers)[0].shape
    k = min(rank, m, n)
    small = (k, n) if m >= n else (m, k)
    return bnp.zeros((max(m, n), k), p.dtype), bnp.zeros(small, p.dtype)


def _shrunk(g: Any, old: Any, numbers: Any, due: Any) -> tuple[Any, Any]:
    if numbers is None:
        return g, old
    flat = _flat(g, numbers)[0]
    tall, k = flat.shape[0] >= flat.shape[1], old.shape[1]

    def vectors() -> Any:
        u, _, v = bnp.linalg.svd(flat.astype(dtypes.float32), full_matrices=False)
        return (u[:, :k] if tall else v[:k].T).astype(g.dtype)

    projector = lax.cond(due, vectors, lambda: old)
    return (projector.T @ flat if tall else flat @ projector), projector


def _widened(scale: Any, g: Any, small: Any, projector: Any, numbers: Any) -> Any:
    if numbers is None:
        return small
    flat, back = _flat(g, numbers)
    tall = flat.shape[0] >= flat.shape[1]
    return (scale * back(projector @ small if tall else small @ projector.T)).astype(g.dtype)


def scale_by_galore(
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: float = 1.0,
    base_optimizer: GradientTransformation | None = None,
    weight_dimension_numbers: Any = None,
) -> GradientTransformation:
    """An optimizer of gradients projected onto their first singular vectors (Zhao et al., "GaLore:
    Memory-Efficient LLM Training by Gradient Low-Rank Projection", 2024, arXiv:2403.03507).

    Args:
        rank: how many vectors.
        update_proj_gap: after how many steps they are found anew.
        scale: factor of the updates of matrices.
        base_optimizer: of the small gradients; `scale_by_adam()` if None.
        weight_dimension_numbers: `GaLoreDimensionNumbers`, a tree of them (None where gradients
            stay whole) that is a prefix of the parameters, or a function from parameters to one;
            by default arrays of two axes are the matrices.

    Raises:
        TypeError: the rank is no integer.
        ValueError: the rank is below 1, or dimension numbers do not fit.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.scale_by_galore(rank=1), bnp.ones((3, 2))
    >>> tx.init(x).base_optimizer_state.mu.shape, tx.update(x, tx.init(x), x)[0].shape
    ((1, 2), (3, 2))
    """
    if not isinstance(rank, int):
        raise TypeError(f"scale_by_galore: rank is an integer, not {type(rank).__name__}")
    if rank <= 0:
        raise ValueError(f"scale_by_galore: rank is at least 1, got {rank}")
    inner = scale_by_adam() if base_optimizer is None else base_optimizer

    def numbers_for(params: Any) -> list[Any]:
        return _numbers(
            weight_dimension_numbers,
            params,
            lambda x: GaLoreDimensionNumbers() if x.ndim == 2 else None,
        )

    def unzipped(treedef: Any, pairs: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        return tuple(_tree.unflatten(treedef, [p[i] for p in pairs]) for i in (0, 1))  # type: ignore[return-value]

    def init(params: Any) -> GaLoreState:
        leaves, treedef = _tree.flatten(params)
        pairs = [
            _small_start(*pair, rank) for pair in zip(leaves, numbers_for(params), strict=True)
        ]
        projectors, small = unzipped(treedef, pairs)
        return GaLoreState(zero_count(), inner.init(small), projectors)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, GaLoreState]:
        leaves, treedef = _tree.flatten(updates)
        numbers, old = numbers_for(updates), _tree.leaves(state.projector)
        due = state.count % update_proj_gap == 0
        pairs = [_shrunk(*x, due) for x in zip(leaves, old, numbers, strict=True)]
        small, projectors = unzipped(treedef, pairs)
        small, new = inner.update(small, state.base_optimizer_state, None)
        full = _map(
            functools.partial(_widened, scale),
            updates,
            _tree.leaves(small),
            _tree.leaves(projectors),
            numbers,
        )
        return full, GaLoreState(safe_increment(state.count), new, projectors)

    return GradientTransformation(init, update)


def galore(
    learning_rate: ScalarOrSchedule,
    rank: int = 128,
    update_proj_gap: int = 200,
    scale: float = 1.0,
    base_optimizer: GradientTransformation | None = None,
    weight_decay: Any = 0.0,
    mask: MaskOrFn = None,
    weight_dimension_numbers: Any = None,
) -> GradientTransformationExtraArgs:
    """GaLore (Zhao et al., arXiv:2403.03507); arguments as for `scale_by_galore`.

    >>> from bevel.optim import contrib
    >>> tx, x = contrib.galore(0.1, rank=1), bnp.ones((3, 2))
    >>> tx.update(x, tx.init(x), x)[0].shape
    (3, 2)
    """
    return chain(
        scale_by_galore(rank, update_proj_gap, scale, base_optimizer, weight_dimension_numbers),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
