"""Python's control flow on traced values.

`calls` converts a function when its trace asks a traced value for its truth: `source` finds its
syntax tree, `syntax` turns branches and loops into function calls, and `branches` and `loops` are
what is called. See docs/decisions/python-control-flow.md.
"""
