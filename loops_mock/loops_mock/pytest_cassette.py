"""The part of the pytest plugin that plays cassettes, and records them when asked.

Like the plugin it imports nothing but pytest and the standard library until a test asks for it.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from typing import Final

import pytest

MARKER: Final = (
    "loops_cassette(path=None): answer the clients that the test opens from this cassette, a path "
    "beside the test's file (None = cassettes/ and the test's name); --loops-record records it"
)
_OPTION: Final = "--loops-record"


def add_option(group: pytest.OptionGroup) -> None:
    """Add the option `--loops-record`."""
    group.addoption(
        _OPTION,
        action="store_true",
        default=False,
        help="record the cassettes of tests anew, from the services that their clients open",
    )


def wants_cassette(item: pytest.Item) -> bool:
    """Tell whether the test is marked and does not name the fixture itself."""
    names: list[str] = getattr(item, "fixturenames", [])
    return item.get_closest_marker("loops_cassette") is not None and "loops_cassette" not in names


@pytest.fixture
def loops_cassette(request: pytest.FixtureRequest) -> Generator[Path]:
    """The test's cassette: clients that the test opens are answered from it, whatever their URL."""
    from loops_mock.cassette import record, replay

    path = _path_of(request)
    if request.config.getoption(_OPTION):
        path.parent.mkdir(parents=True, exist_ok=True)
        with record(path, overwrite=True):
            yield path
    elif path.exists():
        with replay(path):
            yield path
    else:
        pytest.fail(
            f"there is no cassette {str(path)!r}: expected one that was recorded; run this test "
            f"once with {_OPTION}, where its service can be reached",
            pytrace=False,
        )


def _path_of(request: pytest.FixtureRequest) -> Path:
    node: object = request.node
    assert isinstance(node, pytest.Item)  # the fixture has the scope of a function
    marker = node.get_closest_marker("loops_cassette")
    given = [] if marker is None else [*marker.args, *marker.kwargs.values()]
    known = marker is None or (len(given) <= 1 and set(marker.kwargs) <= {"path"})
    if not known or not all(each is None or isinstance(each, str | Path) for each in given):
        pytest.fail(
            f"@pytest.mark.loops_cassette got {', '.join(map(repr, given))}: expected one path",
            pytrace=False,
        )
    folder = node.path.parent
    if given and given[0] is not None:
        return folder / given[0]
    return folder / "cassettes" / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', node.name).strip('-')}.loops"
