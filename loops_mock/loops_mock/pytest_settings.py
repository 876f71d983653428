"""What the marker and the options ask of one test."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pytest

_SEED_BITS: Final = 31
KEYWORDS: Final = ("seed", "faults", "strict", "allow", "max_lag")
"""What the marker may be given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One test's settings.

    Attributes:
        seed: of its service, its world and its faults.
        faults: the marker's fault plan, as it was given.
        strict: whether the mistakes that the watch finds fail the test.
        allow: mistakes that do not, as in `Watch.findings`.
        max_lag: as in `Watch.assert_on_policy`.
    """

    seed: int
    faults: object = None
    strict: bool = False
    allow: tuple[str, ...] = ()
    max_lag: int = 0


def settings_of(item: pytest.Item) -> Settings:
    """Return the settings of a test; of several markers the closest counts, keyword by keyword."""
    import pytest

    given: dict[str, object] = {}
    for marker in item.iter_markers("loops"):
        unknown = [*map(repr, marker.args), *(set(marker.kwargs) - set(KEYWORDS))]
        if unknown:
            pytest.fail(
                f"@pytest.mark.loops got {', '.join(unknown)}: expected keywords among "
                f"{', '.join(KEYWORDS)}",
                pytrace=False,
            )
        given = {**marker.kwargs, **given}
    option = item.config.getoption("--loops-seed")
    seed = option if option is not None else given.get("seed")
    strict = given.get("strict")
    if strict is None:
        strict = item.config.getoption("--loops-strict") or item.config.getini("loops_strict")
    return Settings(
        seed=seed_of(item) if seed is None else _checked_int("seed", seed),
        faults=given.get("faults"),
        strict=bool(strict),
        allow=_checked_texts("allow", given.get("allow", ())),
        max_lag=_checked_int("max_lag", given.get("max_lag", 0)),
    )


def seed_of(item: pytest.Item) -> int:
    """Return the seed that a test's file and name make: the same in every run, on every machine."""
    path, _, name = item.location
    digest = hashlib.sha256(f"{path}::{name}".replace("\\", "/").encode()).digest()
    return int.from_bytes(digest[:8]) >> (64 - _SEED_BITS)


def _checked_int(name: str, value: object) -> int:
    import pytest

    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        pytest.fail(
            f"@pytest.mark.loops({name}={value!r}): expected an integer from 0", pytrace=False
        )
    return value


def _checked_texts(name: str, value: object) -> tuple[str, ...]:
    import pytest

    entries: tuple[object, ...] = (value,)
    if isinstance(value, list | tuple | set | frozenset):
        entries = tuple(cast("Iterable[object]", value))
    texts = [entry for entry in entries if isinstance(entry, str)]
    if len(texts) < len(entries):
        pytest.fail(f"@pytest.mark.loops({name}={value!r}): expected texts", pytrace=False)
    return tuple(texts)
