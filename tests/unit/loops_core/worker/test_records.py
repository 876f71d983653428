"""Records of an earlier version are read; records in memory are safe from many threads."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from loops_core.types.checkpoint import CheckpointTarget
from loops_core.worker.records import (
    LOCAL_OWNER,
    CheckpointRecord,
    Records,
    RunRecord,
    SessionRecord,
)

BEFORE = """
CREATE TABLE sessions (id VARCHAR PRIMARY KEY, created_s FLOAT NOT NULL);
CREATE TABLE runs (id VARCHAR PRIMARY KEY, session_id VARCHAR NOT NULL, base_model VARCHAR NOT NULL,
    seed BIGINT NOT NULL, max_seq_len INTEGER, name VARCHAR NOT NULL, created_s FLOAT NOT NULL);
CREATE TABLE samplers (id VARCHAR PRIMARY KEY, base_model VARCHAR NOT NULL, run_id VARCHAR UNIQUE,
    model_path VARCHAR, max_seq_len INTEGER, created_s FLOAT NOT NULL);
CREATE TABLE checkpoints (id VARCHAR PRIMARY KEY, run_id VARCHAR NOT NULL, target VARCHAR NOT NULL,
    name VARCHAR NOT NULL, key VARCHAR NOT NULL, base_model VARCHAR NOT NULL, rank INTEGER NOT NULL,
    version INTEGER, live BOOLEAN NOT NULL, size_bytes BIGINT NOT NULL, created_s FLOAT NOT NULL,
    expires_s FLOAT, replaced_s FLOAT);
INSERT INTO sessions VALUES ('s1', 1.0);
INSERT INTO runs VALUES ('r1', 's1', 'm', 7, NULL, 'm', 2.0);
"""


def test_records_from_before_there_were_owners_are_the_local_owners(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "control.db")) as before:
        before.executescript(BEFORE)
    for _ in range(2):  # once changed, they are as any others
        records = Records.open(tmp_path)
        assert records.run("r1", owner=LOCAL_OWNER) == RunRecord(
            id="r1",
            session_id="s1",
            base_model="m",
            seed=7,
            max_seq_len=None,
            name="m",
            created_s=2.0,
        )
        assert records.run("r1", owner="somebody") is None
        records.close()


@pytest.fixture
def eager_threads() -> Iterator[None]:
    """Let threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_records_in_memory_are_used_by_one_thread_at_a_time(eager_threads: None) -> None:
    records = Records.open(None)

    def use(number: int) -> int:
        for turn in range(25):
            session_id = f"{number}-{turn}"
            records.add(SessionRecord(id=session_id, owner="me", created_s=0.0))
            assert records.session(session_id, owner="me") is not None
            assert records.session("nobody", owner="me") is None
        return number

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(use, range(8))) == list(range(8))
    records.close()


def published(version: int, *, name: str, created_s: float) -> CheckpointRecord:
    return CheckpointRecord(
        id=f"c{version}",
        run_id="r1",
        target=CheckpointTarget.SAMPLER,
        name=name,
        key=f"k{version}",
        base_model="m",
        rank=1,
        version=version,
        live=True,
        size_bytes=1,
        created_s=created_s,
    )


def test_the_live_weights_are_of_the_highest_version_though_the_clock_went_back() -> None:
    records = Records.open(None)
    for version, created_s in ((1, 50.0), (2, 60.0), (3, 40.0)):
        records.add_checkpoint(published(version, name=f"v{version}", created_s=created_s))
    live = records.live_checkpoint("r1")
    records.close()
    assert live is not None
    assert live.version == 3


def test_a_name_means_what_was_saved_last_though_the_clock_went_back() -> None:
    records = Records.open(None)
    for version, created_s in ((1, 50.0), (2, 40.0)):
        records.add_checkpoint(published(version, name="same", created_s=created_s))
    target = CheckpointTarget.SAMPLER
    meant = records.named_checkpoint("r1", target, "same", owner=LOCAL_OWNER)
    records.close()
    assert meant is not None
    assert meant.version == 2
