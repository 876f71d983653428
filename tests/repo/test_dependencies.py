"""What a package imports, anywhere in its code, is what its distribution declares, no less."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow  # reads the metadata of everything that is installed

MEMBERS = ("loops_core", "loops_transport_http", "loops_backend_jax", "loops_mock")

# Imported inside functions that are called with, or asked for, values of that very library.
CALLERS_OWN = {"loops_core": {"jax", "torch"}, "loops_backend_jax": {"torch"}}

# Imported by others at our wish: jinja2 by transformers, httptools by uvicorn, h2 by httpx, psycopg
# by SQLAlchemy, loops-transport-http by the core for `loops conformance`; pip is run as a program.
NOT_IMPORTED = {"h2", "httptools", "jinja2", "loops-transport-http", "pip", "psycopg"}


def type_checking_blocks(tree: ast.Module) -> set[ast.AST]:
    """Return the nodes that only type checkers read."""
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }


def imported(path: Path) -> Iterator[str]:
    """Yield the top-level names that a file imports at run time, in functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = type_checking_blocks(tree)
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def declared(folder: Path) -> set[str]:
    """Return the distributions that a member asks for, those of its extras included."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    texts = [*project["dependencies"], *(text for extra in extras for text in extra)]
    return {canonicalize_name(Requirement(text).name) for text in texts}


def imported_by(folder: Path) -> dict[str, set[str]]:
    """Return the names that a package imports from others, each with the distributions it means."""
    homes = importlib.metadata.packages_distributions()
    names = {name for path in folder.rglob("*.py") for name in imported(path)}
    return {
        name: {canonicalize_name(home) for home in homes.get(name, [name])}
        for name in names - sys.stdlib_module_names - {folder.name}
    }


@pytest.mark.parametrize("member", MEMBERS)
def test_every_import_is_declared(member: str, root: Path) -> None:
    allowed = declared(root / member) | CALLERS_OWN.get(member, set())
    found = imported_by(root / member / member)
    assert not {name for name, homes in found.items() if not homes & allowed}


@pytest.mark.parametrize("member", MEMBERS)
def test_every_dependency_is_imported(member: str, root: Path) -> None:
    used = {home for homes in imported_by(root / member / member).values() for home in homes}
    assert not declared(root / member) - used - NOT_IMPORTED
