"""Reductions, shapes, products, sorting, linear algebra and the rest: NumPy and jnp as oracles.

A case is a name, an expression of (xp, arrays) and its arrays. Every case runs eagerly and compiled
and is compared with NumPy; its result dtypes with jnp's for arrays of several dtypes; those marked
are also differentiated and compared with finite differences.
"""

import warnings

import numpy as np
import pytest

import bevel as bv
import bevel.numpy as bnp

RNG = np.random.default_rng(0)


def F(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def INT(*shape, low=-5, high=6):
    return RNG.integers(low, high, shape).astype(np.int32)


def C(*shape):
    return (F(*shape) + 1j * F(*shape)).astype(np.complex64)


def with_nan(*shape):
    x = F(*shape)
    x.flat[::4] = np.nan
    return x


def spd(n, *lead):
    a = F(*lead, n, n)
    return (a @ np.swapaxes(a, -1, -2) + n * np.eye(n)).astype(np.float32)


B = RNG.random((3, 4)) > 0.5
M34, M43, V3, V4, T234 = F(3, 4), F(4, 3), F(3), F(4), F(2, 3, 4)
I34 = INT(3, 4)
NAN34 = with_nan(3, 4)
SORTED = np.sort(F(6))
U8 = INT(3, 2, low=0, high=256).astype(np.uint8)
BITS = [(None, "big"), (0, "little"), (1, "big")]

# (name, expression, arrays); a name that ends in "'" is also differentiated.
CASES = [
    ("sum'", lambda xp, x: xp.sum(x), (M34,)),
    ("sum-axes'", lambda xp, x: xp.sum(x, axis=(0, -1), keepdims=True), (T234,)),
    ("sum-where'", lambda xp, x: xp.sum(x, axis=1, where=B, initial=2.0), (M34,)),
    ("sum-int", lambda xp, x: xp.sum(x, axis=0), (I34,)),
    ("sum-no-axes", lambda xp, x: xp.sum(x, axis=()), (M34,)),
    ("sum-empty", lambda xp, x: xp.sum(x, axis=0), (F(0, 3),)),
    ("prod'", lambda xp, x: xp.prod(x, axis=1), (M34,)),
    ("prod-where", lambda xp, x: xp.prod(x, where=B), (M34,)),
    ("max'", lambda xp, x: xp.max(x, axis=1), (M34,)),
    ("max-initial", lambda xp, x: xp.max(x, axis=0, initial=0.5, where=B), (M34,)),
    ("max-nan", lambda xp, x: xp.max(x, axis=0), (NAN34,)),
    ("max-bool", lambda xp, x: xp.max(x, axis=0), (B,)),
    ("min'", lambda xp, x: xp.min(x, axis=-1, keepdims=True), (M34,)),
    ("min-int", lambda xp, x: xp.min(x, initial=3), (I34,)),
    ("ptp", lambda xp, x: xp.ptp(x, axis=0, keepdims=True), (M34,)),
    ("any", lambda xp, x: xp.any(x, axis=0), (B,)),
    ("any-where", lambda xp, x: xp.any(x, where=~B), (B,)),
    ("all", lambda xp, x: xp.all(x, axis=1, keepdims=True), (I34,)),
    ("all-empty", lambda xp, x: xp.all(x, axis=0), (F(0, 2),)),
    ("count_nonzero", lambda xp, x: xp.count_nonzero(x, axis=1), (I34,)),
    ("argmax", lambda xp, x: xp.argmax(x, axis=1), (M34,)),
    ("argmax-nan", lambda xp, x: xp.argmax(x), (NAN34,)),
    ("argmax-keepdims", lambda xp, x: xp.argmax(x, keepdims=True), (M34,)),
    ("argmin", lambda xp, x: xp.argmin(x, axis=0, keepdims=True), (I34,)),
    ("argmin-bool", lambda xp, x: xp.argmin(x, axis=0), (B,)),
    ("mean'", lambda xp, x: xp.mean(x, axis=(0, 2)), (T234,)),
    ("mean-int", lambda xp, x: xp.mean(x), (I34,)),
    ("mean-where'", lambda xp, x: xp.mean(x, axis=0, where=B), (M34,)),
    ("var'", lambda xp, x: xp.var(x, axis=1, ddof=1), (M34,)),
    ("var-where", lambda xp, x: xp.var(x, where=B, keepdims=True), (M34,)),
    ("var-complex", lambda xp, x: xp.var(x, axis=0), (C(3, 4),)),
    ("var-mean", lambda xp, x: xp.var(x, 1, mean=xp.mean(x, 1, keepdims=True)), (M34,)),
    ("std'", lambda xp, x: xp.std(x, axis=0), (M34,)),
    ("std-correction", lambda xp, x: xp.std(x, correction=2), (I34,)),
    ("cumsum'", lambda xp, x: xp.cumsum(x, axis=1), (M34,)),
    ("cumsum-flat", lambda xp, x: xp.cumsum(x), (I34,)),
    ("cumprod'", lambda xp, x: xp.cumprod(x, axis=0), (M34,)),
    ("cumulative_sum", lambda xp, x: xp.cumulative_sum(x, axis=1, include_initial=True), (M34,)),
    ("cumulative_prod", lambda xp, x: xp.cumulative_prod(x, include_initial=True), (V3,)),
    ("nansum'", lambda xp, x: xp.nansum(x, axis=1), (NAN34,)),
    ("nanprod", lambda xp, x: xp.nanprod(x, axis=0), (NAN34,)),
    ("nanmax", lambda xp, x: xp.nanmax(x, axis=0), (NAN34,)),
    ("nanmin", lambda xp, x: xp.nanmin(x), (NAN34,)),
    ("nanmean", lambda xp, x: xp.nanmean(x, axis=1, keepdims=True), (NAN34,)),
    ("nanvar", lambda xp, x: xp.nanvar(x, axis=1, ddof=1), (NAN34,)),
    ("nanstd", lambda xp, x: xp.nanstd(x), (NAN34,)),
    ("nanargmax", lambda xp, x: xp.nanargmax(x, axis=1), (NAN34,)),
    ("nanargmin", lambda xp, x: xp.nanargmin(x), (NAN34,)),
    ("nancumsum", lambda xp, x: xp.nancumsum(x, axis=0), (NAN34,)),
    ("nancumprod", lambda xp, x: xp.nancumprod(x), (NAN34,)),
    ("reshape'", lambda xp, x: xp.reshape(x, (2, -1)), (M34,)),
    ("reshape-F", lambda xp, x: xp.reshape(x, (2, 6), order="F"), (M34,)),
    ("reshape-empty", lambda xp, x: xp.reshape(x, (3, 0, 2)), (F(0, 4),)),
    ("ravel", lambda xp, x: xp.ravel(x), (T234,)),
    ("ravel-F", lambda xp, x: xp.ravel(x, order="F"), (T234,)),
    ("transpose'", lambda xp, x: xp.transpose(x, (1, -1, 0)), (T234,)),
    ("transpose-all", lambda xp, x: xp.transpose(x), (T234,)),
    ("matrix_transpose", lambda xp, x: xp.matrix_transpose(x), (T234,)),
    ("swapaxes", lambda xp, x: xp.swapaxes(x, 0, -1), (T234,)),
    ("moveaxis", lambda xp, x: xp.moveaxis(x, (0, 1), (-1, 0)), (T234,)),
    ("rollaxis", lambda xp, x: xp.rollaxis(x, 2, 1), (T234,)),
    ("rollaxis-end", lambda xp, x: xp.rollaxis(x, 0, 3), (T234,)),
    ("expand_dims", lambda xp, x: xp.expand_dims(x, (0, -1)), (M34,)),
    ("squeeze", lambda xp, x: xp.squeeze(x), (F(1, 3, 1),)),
    ("squeeze-axis", lambda xp, x: xp.squeeze(x, axis=-1), (F(1, 3, 1),)),
    ("atleast_1d", lambda xp, x: xp.atleast_1d(x), (F(),)),
    ("atleast_2d", lambda xp, x, y: xp.atleast_2d(x, y), (V3, M34)),
    ("atleast_3d", lambda xp, x, y: xp.atleast_3d(x, y), (V3, M34)),
    ("broadcast_to'", lambda xp, x: xp.broadcast_to(x, (2, 3, 4)), (F(3, 1),)),
    ("broadcast_arrays", lambda xp, x, y: xp.broadcast_arrays(x, y), (F(3, 1), V4)),
    ("concatenate'", lambda xp, x, y: xp.concatenate([x, y], axis=1), (M34, F(3, 2))),
    ("concatenate-None", lambda xp, x, y: xp.concatenate([x, y], axis=None), (M34, V3)),
    ("stack'", lambda xp, x, y: xp.stack([x, y], axis=-1), (M34, F(3, 4))),
    ("unstack", lambda xp, x: xp.unstack(x, axis=1), (M34,)),
    ("vstack", lambda xp, x, y: xp.vstack([x, y]), (V4, M34)),
    ("hstack", lambda xp, x, y: xp.hstack([x, y]), (M34, F(3, 1))),
    ("hstack-1d", lambda xp, x, y: xp.hstack([x, y]), (V3, V4)),
    ("dstack", lambda xp, x, y: xp.dstack([x, y]), (M34, F(3, 4))),
    ("column_stack", lambda xp, x, y: xp.column_stack([x, y]), (V3, M34)),
    ("block", lambda xp, x, y: xp.block([[x, y], [y, x]]), (F(2, 2), F(2, 2))),
    ("block-vectors", lambda xp, x, y: xp.block([x, y, 1.0]), (V3, V4)),
    ("append", lambda xp, x: xp.append(x, x, axis=1), (M34,)),
    ("split", lambda xp, x: xp.split(x, 2, axis=1), (M34,)),
    ("split-at", lambda xp, x: xp.split(x, [1, 3, 9], axis=1), (M34,)),
    ("split-negative", lambda xp, x: xp.split(x, [-1]), (V4,)),
    ("array_split", lambda xp, x: xp.array_split(x, 3, axis=1), (M34,)),
    ("vsplit", lambda xp, x: xp.vsplit(x, 3), (M34,)),
    ("hsplit", lambda xp, x: xp.hsplit(x, 2), (M34,)),
    ("dsplit", lambda xp, x: xp.dsplit(x, [1]), (T234,)),
    ("tile'", lambda xp, x: xp.tile(x, (2, 1, 2)), (M34,)),
    ("tile-few", lambda xp, x: xp.tile(x, 2), (M34,)),
    ("repeat'", lambda xp, x: xp.repeat(x, 2, axis=1), (M34,)),
    ("repeat-counts", lambda xp, x: xp.repeat(x, np.array([2, 0, 1]), axis=0), (M34,)),
    ("repeat-flat", lambda xp, x: xp.repeat(x, 3), (M34,)),
    ("flip", lambda xp, x: xp.flip(x, (0, -1)), (T234,)),
    ("flipud", lambda xp, x: xp.flipud(x), (M34,)),
    ("fliplr", lambda xp, x: xp.fliplr(x), (M34,)),
    ("rot90", lambda xp, x: [xp.rot90(x, k, (0, 2)) for k in range(-1, 4)], (T234,)),
    ("roll'", lambda xp, x: xp.roll(x, (1, -2), (0, 1)), (M34,)),
    ("roll-flat", lambda xp, x: xp.roll(x, 5), (M34,)),
    ("roll-axis", lambda xp, x: xp.roll(x, 2, axis=(0, 1)), (M34,)),
    ("resize", lambda xp, x: xp.resize(x, (3, 3)), (V4,)),
    ("delete", lambda xp, x: xp.delete(x, [0, -1], axis=1), (M34,)),
    ("delete-slice", lambda xp, x: xp.delete(x, slice(0, 3, 2), axis=0), (M34,)),
    ("delete-mask", lambda xp, x: xp.delete(x, np.array([True, False, True]), axis=0), (M34,)),
    ("insert", lambda xp, x: xp.insert(x, 1, 7.0, axis=1), (M34,)),
    ("insert-many", lambda xp, x: xp.insert(x, [3, 1, 1], [7.0, 8.0, 9.0]), (V4,)),
    ("insert-rows", lambda xp, x, y: xp.insert(x, [1], y, axis=0), (M34, F(2, 4))),
    ("insert-int-rows", lambda xp, x, y: xp.insert(x, 1, y, axis=1), (M34, V3)),
    ("where'", lambda xp, x, y: xp.where(B, x, y), (M34, V4)),
    ("where-scalar", lambda xp, x: xp.where(x > 0, x, 0.0), (M34,)),
    ("select", lambda xp, x: xp.select([x > 1, x < 0], [x, -x], 9.0), (M34,)),
    ("choose", lambda xp, x: xp.choose(np.array([0, 1, 1, 0]), [x, x * 10]), (V4,)),
    (
        "choose-wrap",
        lambda xp, x: xp.choose(np.array([-1, 5, 2, 0]), [x, x * 10], mode="wrap"),
        (V4,),
    ),
    (
        "choose-clip",
        lambda xp, x: xp.choose(np.array([-1, 5, 2, 0]), [x, x * 10], mode="clip"),
        (V4,),
    ),
    ("take'", lambda xp, x: xp.take(x, np.array([[0, 2], [-1, 1]]), axis=1), (M34,)),
    ("take-flat", lambda xp, x: xp.take(x, np.array([5, -2])), (M34,)),
    ("take-scalar", lambda xp, x: xp.take(x, 1, axis=0), (M34,)),
    ("take-clip", lambda xp, x: xp.take(x, np.array([9, -9, 1]), axis=0, mode="clip"), (M34,)),
    ("take-wrap", lambda xp, x: xp.take(x, np.array([9, -9, 1]), axis=0, mode="wrap"), (M34,)),
    (
        "take_along_axis'",
        lambda xp, x: xp.take_along_axis(x, np.array([[1], [-1], [0]]), 1),
        (M34,),
    ),
    ("take_along_axis-sort", lambda xp, x: xp.take_along_axis(x, xp.argsort(x, axis=0), 0), (M34,)),
    (
        "take_along_axis-broadcast",
        lambda xp, x: xp.take_along_axis(x, np.array([[2, 0]]), 1),
        (M34,),
    ),
    ("compress", lambda xp, x: xp.compress([True, False, True], x, axis=0), (M34,)),
    ("extract", lambda xp, x: xp.extract(B, x), (M34,)),
    ("diagonal'", lambda xp, x: xp.diagonal(x, 1), (M34,)),
    ("diagonal-stack", lambda xp, x: xp.diagonal(x, -1, 2, 1), (T234,)),
    ("diagonal-outside", lambda xp, x: xp.diagonal(x, 9), (M34,)),
    ("pad'", lambda xp, x: xp.pad(x, ((1, 0), (2, 1)), constant_values=3.0), (M34,)),
    ("pad-two", lambda xp, x: xp.pad(x, 1, constant_values=((1, 2), (3, 4))), (M34,)),
    ("pad-edge'", lambda xp, x: xp.pad(x, 2, mode="edge"), (M34,)),
    ("pad-reflect", lambda xp, x: xp.pad(x, (4, 5), mode="reflect"), (V4,)),
    ("pad-reflect-odd", lambda xp, x: xp.pad(x, 2, mode="reflect", reflect_type="odd"), (M34,)),
    ("pad-symmetric", lambda xp, x: xp.pad(x, 3, mode="symmetric"), (M34,)),
    ("pad-symmetric-odd", lambda xp, x: xp.pad(x, 5, mode="symmetric", reflect_type="odd"), (V4,)),
    ("pad-wrap", lambda xp, x: xp.pad(x, ((1, 2), (5, 3)), mode="wrap"), (M34,)),
    ("pad-ramp", lambda xp, x: xp.pad(x, 3, mode="linear_ramp", end_values=(1, 5)), (M34,)),
    ("pad-ramp-int", lambda xp, x: xp.pad(x, 3, mode="linear_ramp"), (I34,)),
    ("pad-maximum", lambda xp, x: xp.pad(x, 2, mode="maximum", stat_length=2), (M34,)),
    ("pad-minimum", lambda xp, x: xp.pad(x, (0, 2), mode="minimum"), (I34,)),
    ("pad-mean", lambda xp, x: xp.pad(x, 1, mode="mean"), (M34,)),
    ("pad-mean-int", lambda xp, x: xp.pad(x, 1, mode="mean"), (I34,)),
    ("pad-median", lambda xp, x: xp.pad(x, 1, mode="median", stat_length=3), (M34,)),
    ("matmul'", lambda xp, x, y: xp.matmul(x, y), (M34, M43)),
    ("matmul-stack'", lambda xp, x, y: xp.matmul(x, y), (F(2, 1, 3, 4), F(5, 4, 2))),
    ("matmul-vector", lambda xp, x, y: xp.matmul(x, y), (V3, T234)),
    ("matmul-vectors", lambda xp, x, y: xp.matmul(x, y), (V3, F(3))),
    ("matmul-int", lambda xp, x, y: xp.matmul(x, y), (I34, INT(4, 2))),
    ("matmul-empty", lambda xp, x, y: xp.matmul(x, y), (F(2, 0), F(0, 3))),
    ("dot'", lambda xp, x, y: xp.dot(x, y), (T234, F(5, 4, 2))),
    ("dot-scalar", lambda xp, x: xp.dot(x, 2.0), (M34,)),
    ("vdot", lambda xp, x, y: xp.vdot(x, y), (C(3, 2), C(3, 2))),
    ("vecdot", lambda xp, x, y: xp.vecdot(x, y), (C(2, 3), C(3))),
    ("vecdot-axis", lambda xp, x, y: xp.vecdot(x, y, axis=0), (M34, F(3, 4))),
    ("matvec", lambda xp, x, y: xp.matvec(x, y), (T234, V4)),
    ("vecmat", lambda xp, x, y: xp.vecmat(x, y), (C(3), C(2, 3, 4))),
    ("inner'", lambda xp, x, y: xp.inner(x, y), (M34, F(2, 4))),
    ("outer'", lambda xp, x, y: xp.outer(x, y), (V3, V4)),
    ("tensordot'", lambda xp, x, y: xp.tensordot(x, y, ([1, 2], [1, 0])), (T234, F(4, 3, 2))),
    ("tensordot-0", lambda xp, x, y: xp.tensordot(x, y, 0), (V3, V4)),
    ("kron'", lambda xp, x, y: xp.kron(x, y), (F(2, 3), F(3, 2))),
    ("kron-ranks", lambda xp, x, y: xp.kron(x, y), (F(2), F(3, 1, 2))),
    ("trace'", lambda xp, x: xp.trace(x, 1), (M34,)),
    ("trace-stack", lambda xp, x: xp.trace(x, 0, 1, 2), (T234,)),
    ("cross'", lambda xp, x, y: xp.cross(x, y), (F(4, 3), F(3))),
    ("cross-axes", lambda xp, x, y: xp.cross(x, y, axisa=0, axisb=1, axisc=0), (F(3, 2), F(2, 3))),
    ("einsum'", lambda xp, x, y: xp.einsum("ij,jk->ki", x, y), (M34, M43)),
    ("einsum-chain'", lambda xp, x, y, z: xp.einsum("ij,jk,kl", x, y, z), (M34, M43, F(3, 2))),
    ("einsum-dots", lambda xp, x, y: xp.einsum("...ij,...jk->...ik", x, y), (F(2, 3, 4), F(4, 2))),
    ("einsum-diagonal", lambda xp, x: xp.einsum("iji->j", x), (F(3, 2, 3),)),
    ("einsum-trace", lambda xp, x: xp.einsum("ii", x), (F(3, 3),)),
    ("einsum-sum", lambda xp, x: xp.einsum("ij->", x), (M34,)),
    ("einsum-elementwise", lambda xp, x, y: xp.einsum("ij,i->ji", x, y), (M34, V3)),
    ("einsum-one", lambda xp, x, y: xp.einsum("ij,ij->ij", x, y), (F(3, 1), M34)),
    ("einsum-lists", lambda xp, x, y: xp.einsum(x, [0, 1], y, [1, 2], [2, 0]), (M34, M43)),
    ("einsum-int", lambda xp, x, y: xp.einsum("ij,kj->ik", x, y), (I34, INT(2, 4))),
    ("sort'", lambda xp, x: xp.sort(x, axis=0), (M34,)),
    ("sort-nan", lambda xp, x: xp.sort(x, axis=None), (NAN34,)),
    ("argsort", lambda xp, x: xp.argsort(x, axis=1, kind="stable"), (I34,)),
    ("sort_complex", lambda xp, x: xp.sort_complex(x), (C(5),)),
    ("lexsort", lambda xp, x, y: xp.lexsort((x, y)), (INT(9), INT(9))),
    ("partition", lambda xp, x: xp.partition(x, 2)[2], (F(7),)),
    ("searchsorted", lambda xp, x, y: xp.searchsorted(x, y), (SORTED, M34)),
    ("searchsorted-right", lambda xp, x: xp.searchsorted(x, x, side="right"), (SORTED,)),
    (
        "searchsorted-nan",
        lambda xp, x: xp.searchsorted(x, x),
        (np.array([1, 2, np.nan], np.float32),),
    ),
    (
        "searchsorted-sorter",
        lambda xp, x, y: xp.searchsorted(x, y, sorter=xp.argsort(x)),
        (V4, M34),
    ),
    ("digitize", lambda xp, x, y: xp.digitize(x, y), (M34, SORTED)),
    ("digitize-down", lambda xp, x, y: xp.digitize(x, y, right=True), (M34, SORTED[::-1].copy())),
    ("isin", lambda xp, x, y: xp.isin(x, y), (I34, INT(3))),
    ("isin-invert", lambda xp, x: xp.isin(x, [], invert=True), (I34,)),
    ("norm'", lambda xp, x: xp.linalg.norm(x), (M34,)),
    ("norm-axis'", lambda xp, x: xp.linalg.norm(x, axis=1, keepdims=True), (M34,)),
    (
        "norm-orders",
        lambda xp, x: [xp.linalg.norm(x, o) for o in (0, 1, 3, np.inf, -np.inf)],
        (V4,),
    ),
    (
        "norm-matrix",
        lambda xp, x: [xp.linalg.norm(x, o) for o in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf)],
        (M34,),
    ),
    ("norm-matrices", lambda xp, x: xp.linalg.norm(x, 1, (2, 0), keepdims=True), (T234,)),
    ("vector_norm", lambda xp, x: xp.linalg.vector_norm(x, axis=(0, 2)), (T234,)),
    ("matrix_norm", lambda xp, x: xp.linalg.matrix_norm(x, ord="nuc"), (T234,)),
    ("cholesky'", lambda xp, x: xp.linalg.cholesky((x + xp.swapaxes(x, -1, -2)) / 2), (spd(3, 2),)),
    ("cholesky-upper", lambda xp, x: xp.linalg.cholesky(x, upper=True), (spd(3),)),
    ("qr", lambda xp, x: xp.abs(xp.linalg.qr(x)[1]), (M43,)),
    ("qr-product", lambda xp, x: xp.matmul(*xp.linalg.qr(x, mode="complete")), (M43,)),
    ("svd'", lambda xp, x: xp.linalg.svd(x, compute_uv=False), (M34,)),
    (
        "svd-hermitian",
        lambda xp, x: xp.linalg.svd(x, hermitian=True)[1],
        (spd(3) - 4 * np.eye(3, dtype=np.float32),),
    ),
    ("svdvals", lambda xp, x: xp.linalg.svdvals(x), (T234,)),
    ("eigh'", lambda xp, x: xp.linalg.eigh((x + x.T) / 2)[0], (spd(4),)),
    ("eigvalsh", lambda xp, x: xp.linalg.eigvalsh(x), (spd(3, 2),)),
    ("det'", lambda xp, x: xp.linalg.det(x), (F(2, 3, 3),)),
    ("det-4'", lambda xp, x: xp.linalg.det(x), (F(4, 4),)),
    ("det-1", lambda xp, x: xp.linalg.det(x), (F(3, 1, 1),)),
    ("det-singular", lambda xp, x: xp.linalg.det(x), (np.ones((2, 2), np.float32),)),
    ("slogdet'", lambda xp, x: xp.linalg.slogdet(x)[1], (F(4, 4),)),
    ("slogdet-sign", lambda xp, x: xp.linalg.slogdet(x)[0], (F(5, 4, 4),)),
    ("inv'", lambda xp, x: xp.linalg.inv(x), (spd(3, 2),)),
    ("solve'", lambda xp, x, y: xp.linalg.solve(x, y), (spd(3), F(3, 2))),
    ("solve-vector", lambda xp, x, y: xp.linalg.solve(x, y), (spd(3, 2), F(3))),
    ("solve-stack", lambda xp, x, y: xp.linalg.solve(x, y), (spd(3), F(2, 3, 2))),
    ("pinv'", lambda xp, x: xp.linalg.pinv(x), (M43,)),
    ("matrix_rank", lambda xp, x: xp.linalg.matrix_rank(x), (np.ones((3, 2), np.float32),)),
    ("cond", lambda xp, x: [xp.linalg.cond(x, p) for p in (None, -2, 1, "fro")], (spd(3),)),
    ("lstsq'", lambda xp, x, y: xp.linalg.lstsq(x, y)[0], (M43, F(4, 2))),
    ("lstsq-vector", lambda xp, x, y: xp.linalg.lstsq(x, y)[:3:2], (M43, V4)),
    ("matrix_power", lambda xp, x: [xp.linalg.matrix_power(x, n) for n in (0, 1, 5)], (F(3, 3),)),
    ("matrix_power-inverse", lambda xp, x: xp.linalg.matrix_power(x, -2), (spd(3),)),
    ("multi_dot", lambda xp, x, y, z: xp.linalg.multi_dot([x, y, z]), (V3, M34, M43)),
    ("tensorinv", lambda xp, x: xp.linalg.tensorinv(x, 1), (F(6, 2, 3),)),
    ("tensorsolve", lambda xp, x, y: xp.linalg.tensorsolve(x, y), (F(2, 3, 6), F(2, 3))),
    ("fft'", lambda xp, x: xp.abs(xp.fft.fft(x, axis=0)), (M34,)),
    ("fft-n", lambda xp, x: [xp.fft.fft(x, n, norm="ortho") for n in (2, 7)], (C(3, 4),)),
    ("ifft", lambda xp, x: xp.fft.ifft(x), (C(3, 4),)),
    ("rfft'", lambda xp, x: xp.abs(xp.fft.rfft(x)), (F(7),)),
    ("irfft", lambda xp, x: [xp.fft.irfft(x, n) for n in (None, 5)], (C(4),)),
    ("hfft", lambda xp, x: xp.fft.hfft(x), (C(4),)),
    ("ihfft", lambda xp, x: xp.fft.ihfft(x), (F(6),)),
    ("fftn", lambda xp, x: xp.fft.fftn(x, norm="forward"), (F(2, 3, 2, 2, 3),)),
    ("irfftn", lambda xp, x: xp.fft.irfftn(x, axes=(0, 2)), (C(2, 3, 4),)),
    ("rfft2", lambda xp, x: xp.fft.rfft2(x), (T234,)),
    ("fftshift", lambda xp, x: xp.fft.fftshift(x), (M34,)),
    ("ifftshift", lambda xp, x: xp.fft.ifftshift(x, axes=1), (M34,)),
    ("quantile'", lambda xp, x: xp.quantile(x, np.array([0.1, 0.6]), axis=1), (M34,)),
    ("percentile", lambda xp, x: xp.percentile(x, 30, method="hazen", keepdims=True), (M34,)),
    ("median", lambda xp, x: xp.median(x, axis=(0, 1)), (T234,)),
    ("median-nan", lambda xp, x: xp.median(x, axis=0), (NAN34,)),
    ("nanmedian", lambda xp, x: xp.nanmedian(x, axis=1), (NAN34,)),
    ("nanpercentile", lambda xp, x: xp.nanpercentile(x, [10, 90], axis=1), (NAN34,)),
    ("average'", lambda xp, x, w: xp.average(x, axis=1, weights=w), (M34, np.abs(V4))),
    ("average-returned", lambda xp, x: xp.average(x, axis=0, returned=True), (M34,)),
    ("cov'", lambda xp, x: xp.cov(x), (M34,)),
    ("cov-weights", lambda xp, x: xp.cov(x, fweights=np.array([1, 2, 3, 1]), bias=True), (M34,)),
    ("corrcoef", lambda xp, x, y: xp.corrcoef(x, y), (M34, F(2, 4))),
    ("histogram", lambda xp, x: xp.histogram(x, bins=4), (M34,)),
    ("histogram-density", lambda xp, x: xp.histogram(x, 3, (-1.0, 1.0), density=True), (M34,)),
    ("histogram-edges", lambda xp, x, e: xp.histogram(x, e, weights=np.abs(M34)), (M34, SORTED)),
    ("histogram2d", lambda xp, x, y: xp.histogram2d(x, y, bins=3), (F(20), F(20))),
    ("bincount", lambda xp, x: xp.bincount(np.array([0, 3, 3]), x), (V3,)),
    ("diff'", lambda xp, x: xp.diff(x, 2, axis=0), (F(4, 3),)),
    ("diff-ends", lambda xp, x: xp.diff(x, prepend=0.0, append=x[:, :1]), (M34,)),
    ("diff-bool", lambda xp, x: xp.diff(x), (B,)),
    ("ediff1d", lambda xp, x: xp.ediff1d(x, to_end=1.0, to_begin=[2.0, 3.0]), (M34,)),
    ("gradient'", lambda xp, x: xp.gradient(x, axis=1), (M34,)),
    ("gradient-all", lambda xp, x: xp.gradient(x, 2.0, edge_order=2), (F(4, 5),)),
    ("gradient-places", lambda xp, x, y: xp.gradient(x, y, edge_order=2), (F(6), SORTED)),
    ("trapezoid'", lambda xp, x, y: xp.trapezoid(x, y), (F(3, 6), SORTED)),
    ("trapezoid-axis", lambda xp, x: xp.trapezoid(x, dx=0.5, axis=0), (M34,)),
    ("interp'", lambda xp, x, p, f: xp.interp(x, p, f), (M34, SORTED, F(6))),
    (
        "interp-ends",
        lambda xp, x, p, f: xp.interp(x, p, f, left=-9.0, right=9.0),
        (M34, SORTED, F(6)),
    ),
    ("interp-period", lambda xp, x, p, f: xp.interp(x * 9, p, f, period=2.5), (M34, SORTED, F(6))),
    ("unwrap", lambda xp, x: xp.unwrap(x * 4, axis=0), (F(9, 2),)),
    ("unwrap-int", lambda xp, x: xp.unwrap(x, period=6), (INT(9),)),
    ("convolve'", lambda xp, x, y: xp.convolve(x, y), (F(5), V3)),
    ("convolve-same", lambda xp, x, y: xp.convolve(x, y, "same"), (V3, F(6))),
    ("convolve-valid", lambda xp, x, y: xp.convolve(x, y, "valid"), (F(6), V4)),
    ("convolve-int", lambda xp, x, y: xp.convolve(x, y), (INT(5), INT(3))),
    ("correlate'", lambda xp, x, y: xp.correlate(x, y, "full"), (F(5), V3)),
    ("correlate-short", lambda xp, x, y: xp.correlate(x, y, "same"), (C(3), C(6))),
    ("polyval'", lambda xp, p, x: xp.polyval(p, x), (V3, M34)),
    ("polyadd", lambda xp, x, y: xp.polyadd(x, y), (V3, V4)),
    ("polysub", lambda xp, x, y: xp.polysub(x, y), (V3, V4)),
    ("polymul", lambda xp, x, y: xp.polymul(x, y), (V3, V4)),
    ("polydiv", lambda xp, x, y: xp.polydiv(x, y)[0], (F(5), V3)),
    ("polyder", lambda xp, x: xp.polyder(x, 2), (V4,)),
    ("polyint", lambda xp, x: xp.polyint(x, 2, [1.0, 2.0]), (V4,)),
    ("poly", lambda xp, x: xp.poly(x), (V4,)),
    ("polyfit'", lambda xp, x, y: xp.polyfit(x, y, 2), (SORTED, F(6))),
    (
        "polyfit-columns",
        lambda xp, x, y: xp.polyfit(x, y, 1, w=np.arange(1.0, 7)),
        (SORTED, F(6, 2)),
    ),
    ("polyfit-cov", lambda xp, x, y: xp.polyfit(x, y, 1, cov=True), (SORTED, F(6))),
    (
        "apply_along_axis",
        lambda xp, x: xp.apply_along_axis(lambda r: xp.sort(r) * 2, 1, x),
        (T234,),
    ),
    (
        "apply_along_axis-scalar",
        lambda xp, x: xp.apply_along_axis(lambda r: r.sum(), 0, x),
        (T234,),
    ),
    (
        "apply_along_axis-more",
        lambda xp, x: xp.apply_along_axis(lambda r: xp.outer(r, r), 1, x),
        (T234,),
    ),
    ("apply_over_axes", lambda xp, x: xp.apply_over_axes(xp.sum, x, (0, 2)), (T234,)),
    ("piecewise", lambda xp, x: xp.piecewise(x, [x < 0, x > 1], [lambda v: -v, 5.0, 7.0]), (M34,)),
    (
        "vectorize'",
        lambda xp, x, y: xp.vectorize(lambda a, b: (a * b).sum(), signature="(n),(n)->()")(x, y),
        (T234, V4),
    ),
    ("vectorize-elements", lambda xp, x, y: xp.vectorize(lambda a, b: a + 2 * b)(x, y), (M34, V4)),
    ("packbits", lambda xp, x: [xp.packbits(x, a, o) for a, o in BITS], (B,)),
    ("unpackbits", lambda xp, x: [xp.unpackbits(x, a, 3, o) for a, o in BITS], (U8,)),
    (
        "windows",
        lambda xp: [
            xp.hanning(7),
            xp.hamming(6),
            xp.blackman(5),
            xp.bartlett(8),
            xp.kaiser(9, 4.0),
        ],
        (),
    ),
]

BY_NAME = {name.rstrip("'"): (fn, arrays) for name, fn, arrays in CASES}
DIFFERENTIATED = [name.rstrip("'") for name, _, _ in CASES if name.endswith("'")]

# Where jnp's dtypes are not ours, and why.
NO_JNP = {
    "var-mean": "jnp has no mean=",
    "histogram": "jnp counts in floating point, NumPy and we in integers",
    "histogram2d": "jnp counts in floating point, NumPy and we in integers",
    "histogram-edges": "weights of another dtype than the data",
    "cumulative_prod": "jnp widens cumulative_sum but not this; the array API widens both",
    "convolve": "jnp makes floats of integers, NumPy and we do not",
    "convolve-same": "as convolve",
    "convolve-valid": "as convolve",
    "convolve-int": "as convolve",
    "correlate": "as convolve",
    "polymul": "as convolve",
    "polyder": "jnp makes floats of integers, NumPy and we do not",
    "unwrap-int": "jnp makes floats of integers, NumPy and we do not",
}
EAGER_ONLY = {"extract"}


def leaves(x):
    if isinstance(x, tuple | list):
        return [leaf for item in x for leaf in leaves(item)]
    return [x]


def oracle(fn, arrays):
    """NumPy's result in double precision of the same numbers."""
    wide = [
        a.astype({"f": np.float64, "c": np.complex128}.get(a.dtype.kind, a.dtype)) for a in arrays
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return leaves(fn(np, *wide))


def check(got, want, tol=2e-4):
    got = leaves(got)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert g.shape == np.shape(w)
        np.testing.assert_allclose(np.asarray(g), w, rtol=tol, atol=tol)


@pytest.mark.parametrize("name", BY_NAME)
def test_eager_equals_numpy(name):
    fn, arrays = BY_NAME[name]
    check(fn(bnp, *[bnp.asarray(a) for a in arrays]), oracle(fn, arrays))


@pytest.mark.parametrize("name", [n for n in BY_NAME if n not in EAGER_ONLY])
def test_compiled_equals_numpy(name):
    fn, arrays = BY_NAME[name]
    check(bv.jit(lambda *xs: fn(bnp, *xs))(*arrays), oracle(fn, arrays))


def other_row(a):
    """Another array of the same kind: reversed, unless it is sorted or may be positive definite."""
    rising = a.ndim == 1 and bool(np.all(np.diff(a) >= 0))
    square = a.ndim > 1 and a.shape[-1] == a.shape[-2]
    return a if rising or square or not a.ndim else a[::-1].copy()


@pytest.mark.parametrize("name", [n for n in BY_NAME if n not in EAGER_ONLY and BY_NAME[n][1]])
def test_vmap_equals_a_loop(name):
    fn, arrays = BY_NAME[name]
    rows = [[bnp.asarray(a) for a in some] for some in (arrays, [other_row(a) for a in arrays])]
    stacked = [bnp.stack(pair) for pair in zip(*rows, strict=True)]
    got = leaves(bv.vmap(lambda *xs: tuple(leaves(fn(bnp, *xs))))(*stacked))
    check(got, [np.stack(pair) for pair in zip(*[leaves(fn(bnp, *r)) for r in rows], strict=True)])


def loss_of(fn, weights):
    """A number that depends on all results of a case."""

    def loss(*xs):
        outs = leaves(fn(bnp, *xs))
        return sum((w * o).sum() for w, o in zip(weights, outs, strict=True))

    return loss


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradients_equal_finite_differences(name):
    fn, arrays = BY_NAME[name]
    rng = np.random.default_rng(1)

    def double(x):
        return bnp.asarray(x, dtype=bnp.float64)

    xs = [double(np.nan_to_num(a)) for a in arrays]
    loss = loss_of(fn, [double(rng.normal(size=o.shape)) for o in leaves(fn(bnp, *xs))])
    grads = bv.grad(loss, argnums=tuple(range(len(xs))))(*xs)
    assert all(g.dtype == np.float64 for g in grads)
    direction, step = [double(rng.normal(size=x.shape)) for x in xs], 1e-6
    above, below = (
        float(loss(*[x + s * d for x, d in zip(xs, direction, strict=True)])) for s in (step, -step)
    )
    exact = sum(float((g * d).sum()) for g, d in zip(grads, direction, strict=True))
    np.testing.assert_allclose(exact, (above - below) / (2 * step), rtol=2e-4, atol=1e-5)


DTYPES = ("bool", "uint8", "int8", "int32", "bfloat16", "float32", "complex64")


@pytest.mark.parametrize("name", [n for n in BY_NAME if n not in NO_JNP])
def test_result_dtypes_equal_jnp(name):
    jax = pytest.importorskip("jax")
    fn, arrays = BY_NAME[name]
    for dtype in DTYPES:
        target = bnp.dtype(bnp.asarray(0, dtype).dtype)
        cast = [np.nan_to_num(a).astype(target) if a.dtype.kind in "fiub" else a for a in arrays]
        try:
            want = jax.eval_shape(lambda *xs: fn(jax.numpy, *xs), *cast)
        except Exception:
            continue  # jnp does not take this dtype, or has no such argument
        try:
            got = leaves(fn(bnp, *[bnp.asarray(a, a.dtype) for a in cast]))
        except TypeError:
            assert dtype in ("bool", "complex64", "bfloat16"), f"{name} refuses {dtype}"
            continue
        assert [str(g.dtype) for g in got] == [
            str(w.dtype) for w in leaves(jax.tree.leaves(want))
        ], dtype
