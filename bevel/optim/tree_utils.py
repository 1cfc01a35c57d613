"""The functions of `bevel.optim.tree` under Optax's older names, with `tree_` before them."""

from bevel.core.lazy import attach

_NAMES = (
    "add add_scale allclose batch_shape bias_correction cast cast_like clip conj div dtype "
    "full_like get get_all_with_path map_params max min mul norm ones_like random_like real scale "
    "set size split_key_like sub sum unwrap_random_key_data update_infinity_moment update_moment "
    "update_moment_per_elem_norm vdot where zeros_like "
)

__getattr__, __dir__, __all__ = attach(
    __name__,
    {"bevel.optim.tree": ["NamedTupleKey", *(f"{n} as tree_{n}" for n in _NAMES.split())]},
)
