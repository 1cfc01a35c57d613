"""The operations that carry attributes or regions.

`Structured` is the second half of `builder.Builder`: shape, reduction, contraction, indexing,
linear algebra and control. Each method knows the attributes of one StableHLO operation, and
computes the result's shape where the operation fixes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bevel.core.aval import Aval
from bevel.xla.attributes import (
    COMPLEX_OF,
    REAL_OF,
    boolean,
    ffi_attr,
    identity,
    layouts,
    listing,
    numbers,
    pairs,
    precisions,
    reducer,
    region_text,
)
from bevel.xla.failures import Guard
from bevel.xla.types import integers


class Structured:
    """StableHLO operations that carry attributes or regions (mixed into `Builder`)."""

    __slots__ = ()

    # -- shape

    def broadcast_in_dim(self, x, shape: Sequence[int], dims: Sequence[int]):
        """Map dimension i of `x` to ``dims[i]`` of `shape`; repeat along others and size 1."""
        shape = tuple(shape)
        if shape == x.aval.shape and tuple(dims) == tuple(range(len(shape))):
            return x
        return self.op(
            "broadcast_in_dim",
            x,
            attrs=f"broadcast_dimensions = {integers(dims)}",
            out=x.aval.replace(shape=shape),
        )

    def reshape(self, x, shape: Sequence[int]):
        """Give the same elements, in row-major order, another shape."""
        shape = tuple(shape)
        return (
            x if shape == x.aval.shape else self.op("reshape", x, out=x.aval.replace(shape=shape))
        )

    def transpose(self, x, perm: Sequence[int]):
        """Permute dimensions: result dimension i is ``perm[i]`` of `x`."""
        shape = tuple([x.aval.shape[p] for p in perm])
        return self.op(
            "transpose", x, attrs=f"permutation = {integers(perm)}", out=x.aval.replace(shape=shape)
        )

    def iota(self, aval: Aval, dim: int):
        """Return the index along dimension `dim`, at every place."""
        return self.op("iota", attrs=f"iota_dimension = {dim} : i64", out=aval)

    def slice(
        self, x, start: Sequence[int], limit: Sequence[int], strides: Sequence[int] | None = None
    ):
        """Return ``x[start:limit:strides]`` in every dimension, with indices within bounds."""
        strides = (1,) * len(start) if strides is None else strides
        shape = tuple(
            [max(0, -(-(e - s) // t)) for s, e, t in zip(start, limit, strides, strict=True)]
        )
        attrs = (
            f"start_indices = {integers(start)}, limit_indices = {integers(limit)}, "
            f"strides = {integers(strides)}"
        )
        return self.op("slice", x, attrs=attrs, out=x.aval.replace(shape=shape))

    def dynamic_slice(self, x, starts: Sequence, sizes: Sequence[int]):
        """Return a block of `sizes` at run-time scalars `starts`, which XLA clamps into bounds."""
        return self.op(
            "dynamic_slice",
            x,
            *starts,
            attrs=f"slice_sizes = {integers(sizes)}",
            out=x.aval.replace(shape=tuple(sizes)),
        )

    def dynamic_update_slice(self, x, update, starts: Sequence):
        """Return `x` with the block at run-time `starts` (scalars) replaced by `update`."""
        return self.op("dynamic_update_slice", x, update, *starts, out=x.aval)

    def pad(
        self,
        x,
        value,
        low: Sequence[int],
        high: Sequence[int],
        interior: Sequence[int] | None = None,
    ):
        """Pad (cut, where negative) with the scalar `value`: before, after and between elements."""
        interior = (0,) * len(low) if interior is None else interior
        shape = tuple(
            [
                lo + hi + n + max(0, n - 1) * i
                for n, lo, hi, i in zip(x.aval.shape, low, high, interior, strict=True)
            ]
        )
        attrs = (
            f"edge_padding_low = {integers(low)}, edge_padding_high = {integers(high)}, "
            f"interior_padding = {integers(interior)}"
        )
        return self.op("pad", x, value, attrs=attrs, out=x.aval.replace(shape=shape))

    def concatenate(self, xs: Sequence, dim: int):
        """Join along an existing dimension."""
        shape = list(xs[0].aval.shape)
        shape[dim] = sum(x.aval.shape[dim] for x in xs)
        return self.op(
            "concatenate",
            *xs,
            attrs=f"dimension = {dim} : i64",
            out=xs[0].aval.replace(shape=tuple(shape)),
        )

    def reverse(self, x, dims: Sequence[int]):
        """Reverse the order of elements along each of `dims`."""
        return self.op("reverse", x, attrs=f"dimensions = {integers(dims)}", out=x.aval)

    # -- reductions and windows

    def reduce(self, x, how: str, axes: Sequence[int]):
        """Reduce with add, mul, max, min, and, or, xor over `axes`; max and min propagate NaN."""
        init = self.constant(np.asarray(identity(how, x.aval.dtype)).astype(x.aval.dtype))
        return self.reduce_multi([x], [init], axes, reducer(how))[0]

    def reduce_multi(self, operands: Sequence, inits: Sequence, axes: Sequence[int], fn: Callable):
        """Reduce arrays together; ``fn(b, *accumulators, *elements)`` gives new accumulators."""
        drop = set(axes)
        shape = tuple([n for i, n in enumerate(operands[0].aval.shape) if i not in drop])
        scalars = [i.aval for i in inits]
        region = self.region([*scalars, *scalars], fn)
        return self.op(
            "reduce",
            *operands,
            *inits,
            attrs=f"dimensions = {integers(axes)}",
            regions=[region],
            out=[x.aval.replace(shape=shape) for x in operands],
        )

    def reduce_window(
        self,
        x,
        init,
        how,
        window: Sequence[int],
        strides=None,
        base_dilation=None,
        window_dilation=None,
        padding=None,
    ):
        """Reduce each window of `x` with a kind (add, ...) or ``how(b, accumulator, element)``."""
        return self.reduce_window_multi(
            [x], [init], reducer(how), window, strides, base_dilation, window_dilation, padding
        )[0]

    def reduce_window_multi(
        self,
        operands: Sequence,
        inits: Sequence,
        fn: Callable,
        window: Sequence[int],
        strides=None,
        base_dilation=None,
        window_dilation=None,
        padding=None,
    ):
        """Reduce every window of several arrays together; `fn` as in `reduce_multi`."""
        n = len(window)
        strides, base, dil = (v or (1,) * n for v in (strides, base_dilation, window_dilation))
        padding = padding or ((0, 0),) * n
        shape = []
        for size, w, s, bd, wd, (lo, hi) in zip(
            operands[0].aval.shape, window, strides, base, dil, padding, strict=True
        ):
            whole = lo + hi + (0 if size == 0 else (size - 1) * bd + 1)
            reach = 0 if w == 0 else (w - 1) * wd + 1
            shape.append(0 if reach > whole or whole == 0 else (whole - reach) // s + 1)
        scalars = [i.aval for i in inits]
        region = self.region([*scalars, *scalars], fn)
        attrs = (
            f"window_dimensions = {integers(window)}, window_strides = {integers(strides)}, "
            f"base_dilations = {integers(base)}, window_dilations = {integers(dil)}, "
            f"padding = {pairs(padding)}"
        )
        return self.op(
            "reduce_window",
            *operands,
            *inits,
            attrs=attrs,
            regions=[region],
            out=[x.aval.replace(shape=tuple(shape)) for x in operands],
        )

    def select_and_scatter(
        self,
        operand,
        source,
        init,
        select: str | Callable,
        scatter: str | Callable,
        window: Sequence[int],
        strides=None,
        padding=None,
    ):
        """Scatter `source` to the element that each window selects.

        `select` is a comparison direction ("GE", "LE") or ``select(b, x, y)``; `scatter` a kind or
        a function.
        """
        n = len(window)
        strides, padding = strides or (1,) * n, padding or ((0, 0),) * n
        pick = select if callable(select) else lambda b, x, y: b.compare(x, y, select)
        element = init.aval
        regions = [self.region([element] * 2, pick), self.region([element] * 2, reducer(scatter))]
        attrs = (
            f"window_dimensions = {integers(window)}, window_strides = {integers(strides)}, "
            f"padding = {pairs(padding)}"
        )
        return self.op(
            "select_and_scatter",
            operand,
            source,
            init,
            attrs=attrs,
            regions=regions,
            out=operand.aval,
        )

    # -- contractions

    def dot_general(
        self, x, y, contract, batch=((), ()), out_aval: Aval | None = None, precision=None
    ):
        """Contract dimensions ``contract = (of x, of y)``; ``batch = (of x, of y)`` lead."""
        (lc, rc), (lb, rb) = contract, batch
        if out_aval is None:
            left = [n for i, n in enumerate(x.aval.shape) if i not in lc and i not in lb]
            right = [n for i, n in enumerate(y.aval.shape) if i not in rc and i not in rb]
            out_aval = x.aval.replace(shape=(*[x.aval.shape[i] for i in lb], *left, *right))
        dims_attr = numbers(
            "dot",
            {
                "lhs_batching_dimensions": lb,
                "rhs_batching_dimensions": rb,
                "lhs_contracting_dimensions": lc,
                "rhs_contracting_dimensions": rc,
            },
        )
        return self.op(
            "dot_general",
            x,
            y,
            attrs=f"dot_dimension_numbers = {dims_attr}{precisions(precision)}",
            out=out_aval,
        )

    def convolution(
        self,
        x,
        w,
        *,
        dims,
        out_aval: Aval,
        strides=None,
        padding=None,
        lhs_dilation=None,
        rhs_dilation=None,
        reversal=None,
        feature_groups: int = 1,
        batch_groups: int = 1,
        precision=None,
    ):
        """Convolve `x` with `w`.

        ``dims = (lhs, rhs, out)``: where (batch, feature, *spatial), or (out, in, *spatial), lie.
        """
        n = len(x.aval.shape) - 2
        strides, lhs, rhs = (v or (1,) * n for v in (strides, lhs_dilation, rhs_dilation))
        padding, reversal = padding or ((0, 0),) * n, reversal or (False,) * n
        texts = []
        for spec, names in zip(dims, ("bf", "oi", "bf"), strict=True):
            labels = [""] * len(spec)
            for place, label in zip(spec, [*names, *range(n)], strict=True):
                labels[place] = str(label)
            texts.append(listing(labels))
        reverse = f"array<i1: {', '.join(map(boolean, reversal))}>" if n else "array<i1>"
        attrs = (
            f"dimension_numbers = #stablehlo.conv<{texts[0]}x{texts[1]}->{texts[2]}>, "
            f"window_strides = {integers(strides)}, padding = {pairs(padding)}, "
            f"lhs_dilation = {integers(lhs)}, rhs_dilation = {integers(rhs)}, "
            f"window_reversal = {reverse}, feature_group_count = {feature_groups} : i64, "
            f"batch_group_count = {batch_groups} : i64{precisions(precision)}"
        )
        return self.op("convolution", x, w, attrs=attrs, out=out_aval)

    # -- indexing and order

    def gather(
        self,
        x,
        indices,
        *,
        offset_dims,
        collapsed_slice_dims,
        start_index_map,
        index_vector_dim: int,
        slice_sizes,
        operand_batching_dims=(),
        start_indices_batching_dims=(),
        sorted: bool = False,
        out_aval: Aval,
    ):
        """Collect slices of `x` at `indices`, which XLA clamps into bounds."""
        dims_attr = numbers(
            "gather",
            {
                "offset_dims": offset_dims,
                "collapsed_slice_dims": collapsed_slice_dims,
                "operand_batching_dims": operand_batching_dims,
                "start_indices_batching_dims": start_indices_batching_dims,
                "start_index_map": start_index_map,
                "index_vector_dim": index_vector_dim,
            },
        )
        attrs = (
            f"dimension_numbers = {dims_attr}, slice_sizes = {integers(slice_sizes)}, "
            f"indices_are_sorted = {boolean(sorted)}"
        )
        return self.op("gather", x, indices, attrs=attrs, out=out_aval)

    def scatter(
        self,
        operands,
        indices,
        updates,
        how: str | Callable,
        *,
        update_window_dims,
        inserted_window_dims,
        scatter_dims_to_operand_dims,
        index_vector_dim: int,
        input_batching_dims=(),
        scatter_indices_batching_dims=(),
        sorted: bool = False,
        unique: bool = False,
    ):
        """Combine slices of `updates` into `operands` at `indices`, dropping those out of bounds.

        `how` is a kind (add, mul, ...), "set", or ``how(b, *old, *new)``. One operand (a `Val`)
        gives a `Val`, a sequence of them a tuple.
        """
        single = not isinstance(operands, (tuple, list))
        operands, updates = ([operands], [updates]) if single else (operands, updates)
        dims_attr = numbers(
            "scatter",
            {
                "update_window_dims": update_window_dims,
                "inserted_window_dims": inserted_window_dims,
                "input_batching_dims": input_batching_dims,
                "scatter_indices_batching_dims": scatter_indices_batching_dims,
                "scatter_dims_to_operand_dims": scatter_dims_to_operand_dims,
                "index_vector_dim": index_vector_dim,
            },
        )
        attrs = (
            f"scatter_dimension_numbers = {dims_attr}, indices_are_sorted = {boolean(sorted)}, "
            f"unique_indices = {boolean(unique)}"
        )
        count = len(operands)
        fn = (lambda b, *vals: vals[count:]) if how == "set" else reducer(how)
        scalars = [x.aval.replace(shape=()) for x in operands]
        region = self.region([*scalars, *scalars], fn)
        outs = self.op(
            "scatter",
            *operands,
            indices,
            *updates,
            attrs=attrs,
            regions=[region],
            out=[x.aval for x in operands],
        )
        return outs[0] if single else outs

    def sort(
        self, operands: Sequence, dim: int, stable: bool = True, comparator: Callable | None = None
    ):
        """Sort arrays together along `dim`.

        ``comparator(b, x0, y0, x1, y1, ...)`` tells whether x comes before y. Without one, the
        first operand ascends, floats in total order.
        """
        if comparator is None:

            def comparator(b, x, y, *_):
                return b.compare(x, y, "LT", total=True)

        scalars = [x.aval.replace(shape=()) for x in operands for _ in range(2)]
        region = self.region(scalars, comparator)
        return self.op(
            "sort",
            *operands,
            attrs=f"dimension = {dim} : i64, is_stable = {boolean(stable)}",
            regions=[region],
            out=[x.aval for x in operands],
        )

    # -- linear algebra, FFT, random bits

    def cholesky(self, x, lower: bool = True):
        """Return the Cholesky factor of the last two dimensions; the rest is undefined."""
        return self.op("cholesky", x, attrs=f"lower = {boolean(lower)}", out=x.aval)

    def triangular_solve(
        self,
        a,
        y,
        *,
        left_side: bool = True,
        lower: bool = True,
        unit_diagonal: bool = False,
        transpose: str = "NO_TRANSPOSE",
    ):
        """Solve ``op(a) x = y`` (or ``x op(a) = y``).

        `transpose`, the op, is NO_TRANSPOSE, TRANSPOSE or ADJOINT.
        """
        attrs = (
            f"left_side = {boolean(left_side)}, lower = {boolean(lower)}, "
            f"unit_diagonal = {boolean(unit_diagonal)}, "
            f"transpose_a = #stablehlo<transpose {transpose}>"
        )
        return self.op("triangular_solve", a, y, attrs=attrs, out=y.aval)

    def fft(self, x, how: str, lengths: Sequence[int]):
        """Transform the last ``len(lengths)`` dimensions by FFT, IFFT, RFFT or IRFFT.

        `lengths` are those of the real side.
        """
        shape, dtype = list(x.aval.shape), x.aval.dtype
        if how == "RFFT":
            shape[-1], dtype = lengths[-1] // 2 + 1 if lengths[-1] else 0, COMPLEX_OF[dtype]
        elif how == "IRFFT":
            shape[-1], dtype = lengths[-1], REAL_OF[dtype]
        return self.op(
            "fft",
            x,
            attrs=f"fft_type = #stablehlo<fft_type {how}>, fft_length = {integers(lengths)}",
            out=Aval(tuple(shape), dtype),
        )

    def rng_bit_generator(self, state, out_aval: Aval, algorithm: str = "DEFAULT"):
        """Return (new state, random bits); `algorithm` is DEFAULT, THREE_FRY or PHILOX."""
        return self.op(
            "rng_bit_generator",
            state,
            attrs=f"rng_algorithm = #stablehlo<rng_algorithm {algorithm}>",
            out=[state.aval, out_aval],
        )

    # -- control

    def while_(self, inits: Sequence, cond_fn: Callable, body_fn: Callable) -> tuple:
        """Loop ``carry = body_fn(b, *carry)`` while ``cond_fn(b, *carry)``; return the last carry.

        A body with ordered callbacks hands their token from one iteration to the next.
        """
        carry = list(inits)
        avals = [v.aval for v in carry]
        cond, cond_args, keep_going = self.body(avals, cond_fn)
        token = self.placeholder()
        body, body_args, results = self.body(avals, body_fn, token)
        effect = body.token is not token
        if effect:
            carry.append(self.ordered())
            cond_args, body_args = [*cond_args, self.placeholder()], [*body_args, token]
            results = (*results, body.token)
        regions = [region_text(cond, cond_args, keep_going), region_text(body, body_args, results)]
        outs = self.op("while", *carry, regions=regions, out=[v.aval for v in carry])
        if effect:
            *outs, self.token = outs
        return tuple(outs)

    def case(self, index, branch_fns: Sequence[Callable]) -> tuple:
        """Return ``branch_fns[index](b)``; the last one if the int32 `index` is out of range."""
        token = self.token or self.placeholder()
        written = [self.body([], fn, token) for fn in branch_fns]
        effect = any(b.token is not token for b, _, _ in written)
        if effect:
            if self.token is None:
                self.create_token(token)
            written = [(b, args, (*results, b.token)) for b, args, results in written]
        outs = self.op(
            "case",
            index,
            regions=[region_text(*w) for w in written],
            out=[v.aval for v in written[0][2]],
        )
        if effect:
            *outs, self.token = outs
        return tuple(outs)

    # -- foreign functions

    def custom_call(
        self,
        target: str,
        operands: Sequence,
        out_avals: Sequence[Aval],
        backend_config: dict | str | None = None,
        operand_layouts=None,
        result_layouts=None,
        api_version: int = 4,
        output_operand_aliases: dict[int, int] | None = None,
        has_side_effect: bool = False,
    ) -> tuple:
        """Call a registered native function.

        `backend_config` maps names to numbers, strings or arrays; layouts are minor-to-major orders
        (None: row-major); `output_operand_aliases` maps a result's index to the operand it
        overwrites.
        """
        attrs = [
            f'call_target_name = "{target}"',
            f"api_version = {api_version} : i32",
            f"has_side_effect = {boolean(has_side_effect)}",
        ]
        if isinstance(backend_config, str):
            attrs.append(f"backend_config = {ffi_attr(backend_config)}")
        elif backend_config is not None or api_version == 4:
            fields = ", ".join(f"{k} = {ffi_attr(v)}" for k, v in (backend_config or {}).items())
            attrs.append(f"backend_config = {{{fields}}}")
        attrs.append(f"operand_layouts = {layouts([o.aval for o in operands], operand_layouts)}")
        attrs.append(f"result_layouts = {layouts(out_avals, result_layouts)}")
        if output_operand_aliases:
            single = len(out_avals) == 1
            each = [
                f"#stablehlo.output_operand_alias<"
                f"output_tuple_indices = [{'' if single else out}], "
                f"operand_index = {operand}, operand_tuple_indices = []>"
                for out, operand in output_operand_aliases.items()
            ]
            attrs.append(f"output_operand_aliases = {listing(each)}")
        return self.op("custom_call", *operands, attrs=", ".join(attrs), out=list(out_avals))

    def host_callback(
        self, fn: Callable, args: Sequence, out_avals: Sequence[Aval], has_side_effect: bool = False
    ) -> tuple:
        """Call the Python function ``fn(*ndarrays) -> ndarrays`` at run time.

        Its results must match `out_avals`. Callbacks with side effects run once each, in program
        order; others may run any number of times, or not at all.
        """
        callbacks = self.module.host_callbacks
        callbacks.append(Guard(fn, out_avals, ordered=has_side_effect))
        target = f"xla_ffi_python_{'cpu' if self.platform == 'cpu' else 'gpu'}_callback"
        config = {"index": np.uint64(len(callbacks) - 1)}
        if not has_side_effect:
            return self.custom_call(target, args, out_avals, config)
        token = self.ordered()
        self.token, *outs = self.custom_call(
            target, [token, *args], [token.aval, *out_avals], config, has_side_effect=True
        )
        return tuple(outs)
