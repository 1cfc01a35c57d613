"""Floor 0: dtypes, abstract values, pytrees, the op record, interpreters, graphs and state
cells.
"""
