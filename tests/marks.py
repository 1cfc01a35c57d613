"""Lines of a test file that carry a mark (`# here: name`), as patterns for messages."""

import pathlib
import re


def marks_of(file):
    """`at(mark)`: a pattern for the line of this file that carries a mark."""
    path = pathlib.Path(file)
    lines = {
        m[1]: n
        for n, line in enumerate(path.read_text().splitlines(), 1)
        if (m := re.search(r"# here: (\w+)$", line))
    }
    return lambda mark: rf"{path.name}:{lines[mark]} "
