"""A traced function as text and as a compiled program: what `jit(f).lower(...)` gives."""

from __future__ import annotations

from typing import Any

from bevel.api.calls import STALE
from bevel.api.traced import Traced
from bevel.core.interpreter import EAGER, state
from bevel.transforms.compile import Program
from bevel.xla import client


class Lowered:
    """A traced function as StableHLO; from `jit(f).lower(...)`."""

    def __init__(self, jitted: Any, traced: Traced, program: Program):
        self._jitted = jitted
        self._traced = traced
        self._program = program

    def as_text(self, dialect: str = "stablehlo") -> str:
        """The program before optimization. `dialect`: "stablehlo", or "bevel" for the graph."""
        if dialect == "bevel":
            return repr(self._program.graph)
        if dialect != "stablehlo":
            raise ValueError(
                f"as_text: dialect is 'stablehlo' or 'bevel', not {dialect!r}; for HLO, "
                ".compile().as_text()"
            )
        return self._program.lowered(client.default_device().platform).text

    def compile(self) -> Compiled:
        """Compile for the default device."""
        return Compiled(self._jitted, self._traced, self._program)

    def cost_analysis(self) -> dict[str, float]:
        """XLA's estimate of the work (compiles first)."""
        return self.compile().cost_analysis()


class Compiled:
    """A compiled program; from `jit(f).lower(...).compile()`. Call it with arguments of the same
    signature.
    """

    def __init__(self, jitted: Any, traced: Traced, program: Program):
        self._jitted = jitted
        self._traced = traced
        self._executable = program.executable(client.default_device())

    @property
    def from_cache(self) -> bool:
        """Whether the program was read from the cache on disk."""
        return self._executable.from_cache

    def as_text(self) -> str:
        """The program after XLA's optimization, as HLO."""
        return self._executable.text()

    def cost_analysis(self) -> dict[str, float]:
        """XLA's estimate of the work: "flops", "bytes accessed" and more."""
        return self._executable.cost_analysis()

    def memory_analysis(self) -> client.MemoryAnalysis:
        """Bytes of arguments, results, temporaries and code."""
        return self._executable.memory_analysis()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run; raises TypeError if the arguments' signature is another one than the lowered one."""
        arguments, traced = self._jitted._prepare(args, kwargs)
        if traced is not self._traced:
            raise TypeError(
                f"the compiled {self._jitted.name} was lowered for arguments of other shapes, "
                "dtypes or structure.\n"
                f"Lowered for: {self._traced.graph.in_avals}\nCalled with: "
                f"{traced.graph.in_avals}\n"
                "Write instead: call the jitted function, or lower it for these arguments."
            )
        if state.current is EAGER:
            result = self._jitted._run(traced, arguments, None)
            return self(*args, **kwargs) if result is STALE else result
        return self._jitted._staged(traced, arguments)  # watched (bevel.core.watch), or traced
