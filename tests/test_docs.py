"""What the documents promise: README's Python runs, the settings table is the one in the code."""

import pathlib
import re

import pytest

from bevel.core import config

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, re.S))
def test_readme_examples_run(block):
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_settings_table_is_current():
    found = (ROOT / "docs" / "settings.md").read_text()
    assert config.table() in found, (
        "write python -c 'from bevel.core import config; print(config.table())' into it"
    )


def test_every_decision_is_half_a_page():
    for path in (ROOT / "docs" / "decisions").glob("*.md"):
        assert len(path.read_text().split()) < 600, f"{path.name} is longer than a page"


def test_no_file_is_long_without_a_reason():
    for path in (ROOT / "bevel").rglob("*.py"):
        lines = path.read_text().splitlines()
        assert len(lines) <= 720, f"{path} has {len(lines)} lines"
