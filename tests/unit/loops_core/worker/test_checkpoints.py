"""Named checkpoints: whole or not there, replaced by name, over after their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.postgres import postgres_server, postgres_url

from loops_core.errors import NotFoundError, UsageError
from loops_core.types.checkpoint import CheckpointAddress, CheckpointTarget
from loops_core.worker.checkpoints import RETENTION_S, Checkpoints, NewCheckpoint
from loops_core.worker.local_store import LocalStore
from loops_core.worker.records import LOCAL_OWNER, CheckpointRecord, Records

__all__ = ["postgres_server", "postgres_url"]


@dataclass
class HandClock:
    """A clock that goes on when told."""

    time_s: float = 1_000_000.0

    def now(self) -> float:
        return self.time_s

    def monotonic(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.time_s += seconds


@dataclass
class Room:
    """Checkpoints over a directory, and what they stand on."""

    checkpoints: Checkpoints
    records: Records
    clock: HandClock
    root: Path

    def save(
        self,
        name: str,
        text: str,
        *,
        target: CheckpointTarget = CheckpointTarget.TRAINER,
        version: int | None = None,
        live: bool = False,
        ttl_seconds: int | None = None,
    ) -> CheckpointRecord:
        self.clock.time_s += 1
        new = NewCheckpoint(
            address=CheckpointAddress("r1", target, name),
            base_model="m",
            rank=2,
            version=version,
            live=live,
            ttl_seconds=ttl_seconds,
        )
        return self.checkpoints.save(new, _writes(text))

    def text(self, path: str, *, as_of_s: float | None = None) -> str:
        record = self.checkpoints.find(path, owner=LOCAL_OWNER, as_of_s=as_of_s)
        return (self.checkpoints.open_local(record) / "part" / "weights").read_text()


def _writes(text: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "part").mkdir()
        (folder / "part" / "weights").write_text(text)

    return fill


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    clock = HandClock()
    is_sqlite = request.param == "sqlite"
    url = None if is_sqlite else str(request.getfixturevalue("postgres_url"))
    records = Records.open(tmp_path, url=url)
    checkpoints = Checkpoints(LocalStore(tmp_path / "store"), records, clock)
    yield Room(checkpoints, records, clock, tmp_path / "store")
    records.close()


PATH = "bt://loops:r1/weights/a"


def test_a_saved_name_reads_back(room: Room) -> None:
    room.save("a", "one")
    assert room.text(PATH) == "one"


def test_a_name_saved_again_means_the_newest(room: Room) -> None:
    first = room.save("a", "one")
    room.save("a", "two")
    assert room.text(PATH) == "two"
    assert room.text(PATH, as_of_s=first.created_s) == "one"
    assert len(room.checkpoints.listing(owner=LOCAL_OWNER, run_id="r1")) == 1


def test_a_save_that_fails_leaves_the_earlier_one(room: Room) -> None:
    room.save("a", "one")

    def breaks(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("disk full")

    new = NewCheckpoint(
        address=CheckpointAddress("r1", CheckpointTarget.TRAINER, "a"), base_model="m", rank=2
    )
    with pytest.raises(OSError, match="disk full"):
        room.checkpoints.save(new, breaks)
    assert room.text(PATH) == "one"
    assert not list(room.root.rglob("half"))


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "a" * 129, "a b", "ä", "a\n"])
def test_a_name_with_other_characters_is_refused(room: Room, name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        room.save(name, "x")
    assert room.checkpoints.listing(owner=LOCAL_OWNER, run_id="r1") == []


def test_one_name_may_stand_for_a_trainer_and_a_sampler_checkpoint(room: Room) -> None:
    room.save("a", "trainer")
    room.save("a", "sampler", target=CheckpointTarget.SAMPLER, version=1)
    assert room.text(PATH) == "trainer"
    assert room.text("bt://loops:r1/sampler_weights/a") == "sampler"


def test_after_its_ttl_a_checkpoint_is_not_found_and_then_removed(room: Room) -> None:
    record = room.save("a", "one", ttl_seconds=60)
    room.clock.time_s += 61
    with pytest.raises(NotFoundError, match="ttl_seconds"):
        room.checkpoints.find(PATH, owner=LOCAL_OWNER)
    assert room.checkpoints.listing(owner=LOCAL_OWNER, run_id="r1") == []
    room.checkpoints.remove_expired()
    assert not (room.root / record.key).exists()


def test_a_replaced_checkpoint_goes_after_the_retention(room: Room) -> None:
    first = room.save("a", "one")
    room.save("a", "two")
    room.clock.time_s += RETENTION_S + 1
    room.checkpoints.remove_expired()
    assert not (room.root / first.key).exists()
    assert room.text(PATH) == "two"


def test_weights_that_answer_samples_stay_whatever_their_ttl(room: Room) -> None:
    record = room.save(
        "a", "live", target=CheckpointTarget.SAMPLER, version=1, live=True, ttl_seconds=5
    )
    room.clock.time_s += 10
    room.checkpoints.remove_expired()
    assert (room.root / record.key).exists()
    room.save("b", "newer", target=CheckpointTarget.SAMPLER, version=2, live=True)
    assert not (room.root / record.key).exists()


def test_files_are_listed_in_pages(room: Room) -> None:
    def fill(folder: Path) -> None:
        for name in "abc":
            (folder / name).write_text(name)

    new = NewCheckpoint(
        address=CheckpointAddress("r1", CheckpointTarget.TRAINER, "a"), base_model="m", rank=2
    )
    record = room.checkpoints.save(new, fill)
    page = room.checkpoints.files(record.id, owner=LOCAL_OWNER, page_size=2, page_token=0)
    rest = room.checkpoints.files(
        record.id, owner=LOCAL_OWNER, page_size=2, page_token=page.next_page_token or 0
    )
    names = [file.relative_file_name for file in (*page.presigned_urls, *rest.presigned_urls)]
    assert names == ["a", "b", "c"]
    assert (page.total_count, rest.next_page_token) == (3, None)
    with pytest.raises(UsageError, match="page_size"):
        room.checkpoints.files(record.id, owner=LOCAL_OWNER, page_size=0, page_token=0)
    with pytest.raises(NotFoundError, match="checkpoint_id"):
        room.checkpoints.files("nothing", owner=LOCAL_OWNER, page_size=1, page_token=0)


@pytest.mark.parametrize("path", ["bt://loops:r1/weights/..", "bt://loops:r1/x/a", "r1/weights/a"])
def test_a_path_that_is_no_address_is_refused(room: Room, path: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        room.checkpoints.find(path, owner=LOCAL_OWNER)
