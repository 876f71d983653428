"""The page of the pytest plugin names what there is, and the test file that it shows passes."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import loops_core.worker.opening
from loops_mock import plugin
from loops_mock.pytest_settings import KEYWORDS
from loops_mock.watching import Mistake, Watch

pytest_plugins = ["pytester"]

LOADED = (np, loops_core.worker.opening, plugin)
"""An inner run forgets what it imports first, and NumPy can be loaded once only: so it is here."""

Run = Callable[..., pytest.RunResult]


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs" / "pytest-plugin.md").read_text(encoding="utf-8")


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run pytest with the plugin."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    options = ("-ploops_mock.pytest_plugin", "-pno:cacheprovider", "--strict-markers")
    return lambda *more: pytester.runpytest_inprocess(*options, *more)


def test_the_distribution_brings_the_plugin_under_its_name(root: Path) -> None:
    project = tomllib.loads((root / "loops_mock" / "pyproject.toml").read_text(encoding="utf-8"))
    plugins = project["project"]["entry-points"]["pytest11"]
    assert plugins == {"loops": "loops_mock.pytest_plugin"}


def rows(page: str, heading: str) -> list[str]:
    """Return the first cells of the table in a section."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, flags=re.MULTILINE)


def test_the_fixtures_are_those_of_the_plugin(page: str, run: Run) -> None:
    listed = re.findall(r"^(loops_\w+) -- ", run("--fixtures").stdout.str(), flags=re.MULTILINE)
    assert sorted(rows(page, "Fixtures")) == sorted(listed)


def test_the_markers_keywords_are_those_that_are_read_and_told(page: str, run: Run) -> None:
    assert tuple(rows(page, "Marker")) == KEYWORDS
    (told,) = re.findall(r"pytest.mark.loops\((.*?)\):", run("--markers").stdout.str())
    assert tuple(re.findall(r"(\w+)=", told)) == KEYWORDS


def test_the_options_are_those_of_the_plugin(page: str, run: Run) -> None:
    told = run("--help").stdout.str()
    options = re.findall(r"^ +(--loops-\w+|loops_\w+ (?=\())", told, flags=re.MULTILINE)
    assert rows(page, "Options") == [option.strip() for option in options]


def test_the_mistakes_are_those_that_a_watch_finds(page: str) -> None:
    assert rows(page, "Mistakes") == [mistake.value for mistake in Mistake]


def test_the_assertions_are_those_of_a_watch_with_their_arguments(page: str) -> None:
    methods: dict[str, Callable[..., object]] = {
        name: value for name, value in vars(Watch).items() if name.startswith("assert_")
    }
    assert sorted(rows(page, "Assertions")) == sorted(map(signature, methods.values()))


def signature(method: Callable[..., object]) -> str:
    """Return a method's name and arguments as the page writes them."""
    given = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in inspect.signature(method).parameters.items()
        if name != "self"
    ]
    return f"{method.__name__}{inspect.Signature(given)}"


def test_the_pages_test_files_pass(page: str, run: Run, pytester: pytest.Pytester) -> None:
    files = re.findall(r"^```py\n# (\w+)\.py\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    pytester.makepyfile(**dict(files))
    loop_scope = "-oasyncio_default_fixture_loop_scope=function"
    result = run("-ppytest_asyncio.plugin", "--asyncio-mode=auto", loop_scope)
    result.assert_outcomes(passed=5)
