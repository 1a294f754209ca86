"""House rules a linter does not know: sizes, and that nothing is left unfinished."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("app", "core", "jelmore", "migrations", "models", "runner", "streams", "tasks")
MODULES = sorted(
    path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "versions" not in path.parts
)
LONGEST_FUNCTION = 50
LONGEST_MODULE = 300


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_or_says_why_not(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    head = ast.get_docstring(tree) or ""

    assert len(text.splitlines()) <= LONGEST_MODULE or "onger than" in head or "In one file" in head
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or node.lineno) - node.lineno < LONGEST_FUNCTION, node.name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_says_what_lives_in_it(path: Path) -> None:
    assert path.read_text() == "" or ast.get_docstring(ast.parse(path.read_text()))
