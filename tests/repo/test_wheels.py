"""Each wheel holds what it should, and works alone with nothing but what it declares.

An environment with only the declared dependencies is made without a network: their files are linked
out of the environment that runs the tests.
"""

from __future__ import annotations

import email
import importlib.metadata
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytestmark = pytest.mark.slow  # five builds and four environments

MEMBERS = ("loops_core", "loops_transport_http", "loops_backend_jax", "loops_mock")

# The mock has modules that pytest loads; who has no pytest has no use for them.
EXTRAS = {"loops_mock": "pytest"}
UMBRELLA = "loops_framework"
WITHOUT_USER_SETTINGS = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}


@pytest.fixture(scope="session")
def wheels(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a freshly built wheel of every distribution, by its file's first name."""
    out = tmp_path_factory.mktemp("dist")
    for folder in (root, *(root / member for member in MEMBERS)):
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out)]
        subprocess.run([*build, str(folder)], check=True, capture_output=True, text=True)
    return {path.name.partition("-")[0]: path for path in out.glob("*.whl")}


def test_there_is_a_wheel_for_each_distribution(wheels: dict[str, Path]) -> None:
    assert set(wheels) == {*MEMBERS, UMBRELLA}


@pytest.mark.parametrize("member", MEMBERS)
def test_a_wheel_holds_every_file_of_its_package_and_nothing_else(
    member: str, wheels: dict[str, Path], root: Path
) -> None:
    names = zipfile.ZipFile(wheels[member]).namelist()
    packed = {name for name in names if ".dist-info/" not in name}
    kept = {
        path.relative_to(root / member).as_posix()
        for path in (root / member / member).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == kept
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_umbrella_holds_no_code(wheels: dict[str, Path]) -> None:
    names = zipfile.ZipFile(wheels[UMBRELLA]).namelist()
    assert all(".dist-info/" in name for name in names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def requirements(wheel: Path) -> list[Requirement]:
    """Return what a wheel asks for when it is installed without an extra."""
    archive = zipfile.ZipFile(wheel)
    (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    asked = email.message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []
    return [Requirement(text) for text in asked]


def closure(wanted: list[Requirement], *, extra: str = "") -> set[str]:
    """Return the installed distributions that requirements ask for, to the end; ours left out."""
    seen: set[str] = set()
    names: set[str] = set()
    waiting = [(requirement, extra) for requirement in wanted]
    while waiting:
        requirement, asked_for = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": asked_for}):
            continue
        if name.startswith("loops-") or str(requirement) in seen:
            continue
        seen.add(str(requirement))
        names.add(name)
        asked = [Requirement(text) for text in importlib.metadata.requires(name) or []]
        waiting += [(each, more) for each in asked for more in ("", *requirement.extras)]
    return names


def link(name: str, site: Path) -> None:
    """Link the top-level entries of an installed distribution into another environment."""
    distribution = importlib.metadata.distribution(name)
    tops = {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."}
    for top in tops - {"__pycache__"}:
        target = Path(str(distribution.locate_file(top)))
        if not (site / top).exists():
            (site / top).symlink_to(target)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_wheel_works_with_nothing_but_what_it_declares(
    member: str, wheels: dict[str, Path], tmp_path: Path
) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ours = [wheels["loops_core"], *([] if member == "loops_core" else [wheels[member]])]
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", *map(str, ours)], check=True)
    (site,) = home.glob("**/site-packages")
    wanted = [each for wheel in ours for each in requirements(wheel)]
    for name in closure(wanted, extra=EXTRAS.get(member, "")):
        link(name, site)
    import_all = (
        f"import importlib, pkgutil, {member} as top\n"
        "for m in pkgutil.walk_packages(top.__path__, top.__name__ + '.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
        f"print(top.__file__, top.__version__)"
    )
    done = subprocess.run(
        [str(python), "-c", import_all],
        cwd=tmp_path,
        env={**WITHOUT_USER_SETTINGS, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))


def test_the_core_wheel_brings_the_command(wheels: dict[str, Path]) -> None:
    archive = zipfile.ZipFile(wheels["loops_core"])
    (points,) = [name for name in archive.namelist() if name.endswith("/entry_points.txt")]
    assert "loops = loops_core.cli:main" in archive.read(points).decode()
