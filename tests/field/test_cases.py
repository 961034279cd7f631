"""Every test that a table of cases names exists, and every table is listed in the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FIELD = Path(__file__).parent
TABLES = sorted((FIELD / "cases").glob("*.md"))


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_named_tests_exist(table: Path) -> None:
    text = table.read_text("utf-8")
    for place, name in re.findall(r"([\w/]*\btest_\w+\.py)(?:::(\w+))?", text):
        near = [FIELD / place, FIELD.parents[1] / place, *FIELD.parent.rglob(Path(place).name)]
        file = next((path for path in near if path.is_file()), None)
        assert file is not None, f"{table.name}: there is no {place}"
        assert not name or f"def {name}(" in file.read_text("utf-8"), f"{place} has no {name}"


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_tables_are_listed(table: Path) -> None:
    assert f"(cases/{table.name})" in (FIELD / "README.md").read_text("utf-8")
