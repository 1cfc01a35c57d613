"""Floor 1: all that knows XLA. Only `bindings` imports jaxlib, and only when it is first needed."""
