"""The five distributions carry one version, one Python floor and one licence, and no lock file."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import Any, cast

import pytest

MEMBERS = ("loops_core", "loops_transport_http", "loops_backend_jax", "loops_mock")


def project(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def version(root: Path) -> str:
    return project(root)["version"]


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_has_the_umbrellas_version_and_python_floor(
    member: str, root: Path, version: str
) -> None:
    umbrella, mine = project(root), project(root / member)
    assert mine["name"] == member.replace("_", "-")
    assert mine["version"] == version
    assert mine["requires-python"] == umbrella["requires-python"]


@pytest.mark.parametrize("member", MEMBERS)
def test_a_package_tells_the_version_of_its_distribution(member: str, version: str) -> None:
    assert importlib.import_module(member).__version__ == version


@pytest.mark.parametrize("folder", [".", *MEMBERS])
def test_members_ask_for_each_other_in_exactly_this_version(
    folder: str, root: Path, version: str
) -> None:
    mine = project(root / folder)
    extras = cast("dict[str, list[str]]", mine.get("optional-dependencies", {}))
    asked = [*mine["dependencies"], *(entry for entries in extras.values() for entry in entries)]
    ours = [entry for entry in asked if entry.startswith("loops-")]
    wrong = [
        entry
        for entry in ours
        if not entry.startswith("loops-framework[") and not entry.endswith(f"=={version}")
    ]
    assert not wrong


def test_plugins_depend_on_the_core_and_on_no_other_plugin(root: Path) -> None:
    for member in MEMBERS[1:]:
        ours = [d for d in project(root / member)["dependencies"] if d.startswith("loops-")]
        assert [d.partition("==")[0] for d in ours] == ["loops-core"], member


@pytest.mark.parametrize("member", MEMBERS)
def test_a_member_ships_the_licence_and_the_mark_of_its_types(member: str, root: Path) -> None:
    assert (root / member / "LICENSE").read_bytes() == (root / "LICENSE").read_bytes()
    assert (root / member / member / "py.typed").is_file()


def test_no_lock_file_is_tracked(tracked_files: list[Path]) -> None:
    locks = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock", "pylock.toml"}
    assert not [path for path in tracked_files if path.name in locks]


def test_constraints_are_plain_pins(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    odd = [pin for pin in pins if pin.count("==") != 1 or any(c in pin for c in "@/ +#")]
    assert not odd
    assert len({pin.partition("==")[0].lower() for pin in pins}) == len(pins)
