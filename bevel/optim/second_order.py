"""Curvature of a loss `loss(params, inputs, targets)`; all parameters are seen as one vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bevel.numpy as bnp
from bevel.api.derivatives import grad, jvp
from bevel.api.vmap import vmap
from bevel.optim import tree

Loss = Callable[[Any, Any, Any], Any]


def hvp(loss: Loss, v: Any, params: Any, inputs: Any, targets: Any) -> Any:
    """The Hessian times a vector (Pearlmutter, 1994, doi:10.1162/neco.1994.6.1.147); a tree like
    the parameters.

    >>> from bevel.optim import second_order
    >>> loss = lambda w, x, y: ((w * x - y) ** 2).sum()
    >>> second_order.hvp(loss, bnp.ones(2), bnp.zeros(2), bnp.array([1.0, 2.0]), bnp.ones(2))
    Array([2., 8.], dtype=float32)
    """
    unravel = tree.ravel(params)[1]
    slope = grad(lambda p: loss(p, inputs, targets))
    return jvp(slope, [params], [unravel(v)])[1]


def hessian_diag(loss: Loss, params: Any, inputs: Any, targets: Any) -> Any:
    """The diagonal of the Hessian, a vector, from as many products as there are parameters.

    >>> from bevel.optim import second_order
    >>> loss = lambda w, x, y: ((w * x - y) ** 2).sum()
    >>> second_order.hessian_diag(loss, bnp.zeros(2), bnp.array([1.0, 2.0]), bnp.ones(2))
    Array([2., 8.], dtype=float32)
    """

    def element(v: Any) -> Any:
        return bnp.vdot(v, tree.ravel(hvp(loss, v, params, inputs, targets))[0])

    return vmap(element)(bnp.eye(tree.size(params)))


def fisher_diag(negative_log_likelihood: Loss, params: Any, inputs: Any, targets: Any) -> Any:
    """The diagonal of the observed Fisher information, a vector: the squared gradient.

    >>> from bevel.optim import second_order
    >>> loss = lambda w, x, y: ((w * x - y) ** 2).sum()
    >>> second_order.fisher_diag(loss, bnp.zeros(2), bnp.array([1.0, 2.0]), bnp.ones(2))
    Array([ 4., 16.], dtype=float32)
    """
    return tree.ravel(grad(negative_log_likelihood)(params, inputs, targets))[0] ** 2
