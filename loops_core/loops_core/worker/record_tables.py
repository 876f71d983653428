"""The control plane's tables and their rows: sessions, runs, samplers, checkpoints, creates."""

from __future__ import annotations

import string
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from loops_core import chance
from loops_core.types.checkpoint import CheckpointTarget

META: Final = sa.MetaData()
FORMAT: Final = 1
"""The version of the tables; a database of another one is refused."""

LOCAL_OWNER: Final = "local"
"""Whose everything is where there is only one owner."""

_ID_ALPHABET: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 7

FORMATS: Final = sa.Table("formats", META, sa.Column("format", sa.Integer, primary_key=True))
SESSIONS: Final = sa.Table(
    "sessions",
    META,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
)
RUNS: Final = sa.Table(
    "runs",
    META,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("owner", sa.String, nullable=False, index=True),
    sa.Column("session_id", sa.String, nullable=False),
    sa.Column("base_model", sa.String, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("max_seq_len", sa.Integer),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("ended_s", sa.Float),
)
SAMPLERS: Final = sa.Table(
    "samplers",
    META,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("owner", sa.String, nullable=False, index=True),
    sa.Column("base_model", sa.String, nullable=False),
    sa.Column("run_id", sa.String, unique=True),
    sa.Column("model_path", sa.String),
    sa.Column("max_seq_len", sa.Integer),
    sa.Column("created_s", sa.Float, nullable=False),
)
CHECKPOINTS: Final = sa.Table(
    "checkpoints",
    META,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("owner", sa.String, nullable=False, index=True),
    sa.Column("run_id", sa.String, nullable=False, index=True),
    sa.Column("target", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("key", sa.String, nullable=False),
    sa.Column("base_model", sa.String, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer),
    sa.Column("live", sa.Boolean, nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
    sa.Column("expires_s", sa.Float),
    sa.Column("replaced_s", sa.Float),
)
CREATES: Final = sa.Table(
    "creates",
    META,
    sa.Column("owner", sa.String, primary_key=True),
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("route", sa.String, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("record_id", sa.String, nullable=False),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One ServiceClient's life."""

    id: str
    owner: str
    created_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One trainer identity.

    Attributes:
        owner: who may know of it.
        seed: draws its adapters.
        ended_s: when it was deactivated; None = it is active.
    """

    id: str
    owner: str = LOCAL_OWNER
    session_id: str
    base_model: str
    seed: int
    max_seq_len: int | None
    name: str
    created_s: float
    ended_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerEntry:
    """One sampler identity: paired with a run, or standalone on a base model or checkpoint."""

    id: str
    owner: str = LOCAL_OWNER
    base_model: str
    run_id: str | None
    model_path: str | None
    max_seq_len: int | None
    created_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """One saved checkpoint.

    Attributes:
        owner: who may know of it.
        key: where the store keeps its files.
        version: the policy version that it was published as; None for trainer checkpoints.
        live: whether the paired sampler swapped to it.
        expires_s: when it may be deleted; None = never.
        replaced_s: when its name was saved again; None = the name means this checkpoint.
    """

    id: str
    owner: str = LOCAL_OWNER
    run_id: str
    target: CheckpointTarget
    name: str
    key: str
    base_model: str
    rank: int
    version: int | None
    live: bool
    size_bytes: int
    created_s: float
    expires_s: float | None = None
    replaced_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRecord:
    """What a create's idempotency key has made.

    Attributes:
        route: the call's name.
        digest: the SHA-256 of its body.
        record_id: the id of what was made.
    """

    owner: str
    key: str
    route: str
    digest: bytes
    record_id: str


def make_id() -> str:
    """Return a fresh id of seven letters and digits."""
    return chance.draw_text(_ID_LENGTH)
