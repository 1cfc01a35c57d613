"""Looking into programs: print from them, stop in them, find NaN, wrong indices and waits.

| want | write |
|---|---|
| a value while a program runs | `debug.print("x = {x}", x=x)`, `debug.callback(fn, x)` |
| to stop and look around | `debug.breakpoint()`; `debug.eager(f)(x)` under pdb |
| the line that made a NaN or an infinity | `with debug.nans(): ...`, `with debug.infs(): ...` |
| the line of an index out of bounds | `debug.checked(f)(x)` |
| the same in compiled programs, as a value | `err, y = bv.jit(checkify.checkify(f, errors))(x)` |
| why a jitted function is traced again | `with debug.explain_retraces(): ...` |
| to state what must hold | `bv.check(x > 0, "x is {x}", x=x)` |
| the lines that wait for the device | `with debug.host_syncs() as syncs: ...` |
"""

from bevel.core.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "bevel.api.retracing": ["explain_retraces"],
        "bevel.debug.checks": ["check", "checked", "eager", "infs", "nans"],
        "bevel.debug.prints": ["breakpoint", "callback", "print"],
        "bevel.debug.waits": ["host_syncs"],
    },
    modules={"checkify": "bevel.debug.checkify"},
)
