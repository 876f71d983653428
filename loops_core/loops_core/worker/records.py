"""The control plane's tables: sessions, runs, samplers, checkpoints; SQLite by default, any URL."""

from __future__ import annotations

import secrets
import string
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, final

import sqlalchemy as sa
from sqlalchemy.event import listen
from sqlalchemy.pool import StaticPool

from loops_core.types.checkpoint import CheckpointTarget

_META: Final = sa.MetaData()
_ID_ALPHABET: Final = string.ascii_lowercase + string.digits
_ID_LENGTH: Final = 7

SESSIONS: Final = sa.Table(
    "sessions",
    _META,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("created_s", sa.Float, nullable=False),
)
RUNS: Final = sa.Table(
    "runs",
    _META,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("session_id", sa.String, nullable=False),
    sa.Column("base_model", sa.String, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("max_seq_len", sa.Integer),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("created_s", sa.Float, nullable=False),
)
SAMPLERS: Final = sa.Table(
    "samplers",
    _META,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("base_model", sa.String, nullable=False),
    sa.Column("run_id", sa.String, unique=True),
    sa.Column("model_path", sa.String),
    sa.Column("max_seq_len", sa.Integer),
    sa.Column("created_s", sa.Float, nullable=False),
)
CHECKPOINTS: Final = sa.Table(
    "checkpoints",
    _META,
    sa.Column("id", sa.String, primary_key=True),
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """One ServiceClient's life."""

    id: str
    created_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One trainer identity; `seed` draws its adapters."""

    id: str
    session_id: str
    base_model: str
    seed: int
    max_seq_len: int | None
    name: str
    created_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerEntry:
    """One sampler identity: paired with a run, or standalone on a base model or checkpoint."""

    id: str
    base_model: str
    run_id: str | None
    model_path: str | None
    max_seq_len: int | None
    created_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """One saved checkpoint.

    Attributes:
        key: where the store keeps its files.
        version: the policy version that it was published as; None for trainer checkpoints.
        live: whether the paired sampler swapped to it.
        expires_s: when it may be deleted; None = never.
        replaced_s: when its name was saved again; None = the name means this checkpoint.
    """

    id: str
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


Row = TypeVar("Row", SessionRecord, RunRecord, SamplerEntry, CheckpointRecord)


def make_id() -> str:
    """Return a fresh id of seven letters and digits."""
    return "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_LENGTH))


@final
class Records:
    """Typed access to the tables; safe from many threads and processes."""

    def __init__(self, url: str) -> None:
        """Open the database at an SQLAlchemy URL and make missing tables."""
        options: dict[str, Any] = {}
        if url == "sqlite://":
            options = {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        self._engine = sa.create_engine(url, **options)
        if self._engine.dialect.name == "sqlite":
            listen(self._engine, "connect", _tune_sqlite)
        _META.create_all(self._engine)

    @classmethod
    def open(cls, directory: Path | None) -> Records:
        """Open `control.db` in the directory, or in memory."""
        return cls("sqlite://" if directory is None else f"sqlite:///{directory / 'control.db'}")

    def add(self, row: SessionRecord | RunRecord | SamplerEntry) -> None:
        """Insert one row."""
        with self._engine.begin() as connection:
            connection.execute(sa.insert(_table(type(row))).values(**asdict(row)))

    def session(self, session_id: str) -> SessionRecord | None:
        """Return a session."""
        return self._one(SessionRecord, SESSIONS.c.id == session_id)

    def run(self, run_id: str) -> RunRecord | None:
        """Return a run."""
        return self._one(RunRecord, RUNS.c.id == run_id)

    def sampler(self, sampler_id: str) -> SamplerEntry | None:
        """Return a sampler."""
        return self._one(SamplerEntry, SAMPLERS.c.id == sampler_id)

    def paired_sampler(self, run_id: str) -> SamplerEntry | None:
        """Return the sampler that is paired with a run."""
        return self._one(SamplerEntry, SAMPLERS.c.run_id == run_id)

    def add_checkpoint(self, row: CheckpointRecord) -> None:
        """Insert a checkpoint and let its name mean it, at once."""
        same_name = sa.and_(
            CHECKPOINTS.c.run_id == row.run_id,
            CHECKPOINTS.c.target == row.target,
            CHECKPOINTS.c.name == row.name,
            CHECKPOINTS.c.replaced_s.is_(None),
        )
        replace = sa.update(CHECKPOINTS).where(same_name).values(replaced_s=row.created_s)
        with self._engine.begin() as connection:
            connection.execute(replace)
            connection.execute(sa.insert(CHECKPOINTS).values(**asdict(row)))

    def checkpoint(self, checkpoint_id: str) -> CheckpointRecord | None:
        """Return a checkpoint by its id."""
        return self._one(CheckpointRecord, CHECKPOINTS.c.id == checkpoint_id)

    def named_checkpoint(
        self, run_id: str, target: CheckpointTarget, name: str, *, as_of_s: float | None = None
    ) -> CheckpointRecord | None:
        """Return what a name means, or meant at `as_of_s`."""
        where = sa.and_(
            CHECKPOINTS.c.run_id == run_id,
            CHECKPOINTS.c.target == target,
            CHECKPOINTS.c.name == name,
        )
        if as_of_s is not None:
            where = sa.and_(where, CHECKPOINTS.c.created_s <= as_of_s)
        return self._one(CheckpointRecord, where)

    def live_checkpoint(self, run_id: str) -> CheckpointRecord | None:
        """Return the weights that the run's paired sampler swapped to last."""
        return self._one(
            CheckpointRecord, sa.and_(CHECKPOINTS.c.run_id == run_id, CHECKPOINTS.c.live.is_(True))
        )

    def checkpoints(
        self, *, run_id: str | None = None, base_model: str | None = None
    ) -> list[CheckpointRecord]:
        """Return the checkpoints that names mean, of a run or a base model, newest first."""
        where: list[sa.ColumnElement[bool]] = [CHECKPOINTS.c.replaced_s.is_(None)]
        if run_id is not None:
            where.append(CHECKPOINTS.c.run_id == run_id)
        if base_model is not None:
            where.append(CHECKPOINTS.c.base_model == base_model)
        return self._all(CheckpointRecord, sa.and_(*where))

    def removable(self, *, now_s: float, retention_s: float) -> list[CheckpointRecord]:
        """Return checkpoints that have expired, or were replaced longer than the retention ago."""
        return self._all(
            CheckpointRecord,
            sa.or_(
                CHECKPOINTS.c.expires_s <= now_s, CHECKPOINTS.c.replaced_s <= now_s - retention_s
            ),
        )

    def remove_checkpoint(self, checkpoint_id: str) -> None:
        """Forget a checkpoint."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(CHECKPOINTS).where(CHECKPOINTS.c.id == checkpoint_id))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _one(self, row_type: type[Row], where: sa.ColumnElement[bool]) -> Row | None:
        found = self._all(row_type, where)
        return found[0] if found else None

    def _all(self, row_type: type[Row], where: sa.ColumnElement[bool]) -> list[Row]:
        table = _table(row_type)
        newest: list[sa.ColumnElement[Any]] = [table.c.created_s.desc()]
        if "replaced_s" in table.c:
            newest.append(sa.case((table.c.replaced_s.is_(None), 0), else_=1))
        query = sa.select(table).where(where).order_by(*newest)
        with self._engine.connect() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        for row in rows:
            if "target" in row:
                row["target"] = CheckpointTarget(row["target"])
        return [row_type(**row) for row in rows]


def _table(row_type: type[object]) -> sa.Table:
    tables: dict[type[object], sa.Table] = {
        SessionRecord: SESSIONS,
        RunRecord: RUNS,
        SamplerEntry: SAMPLERS,
        CheckpointRecord: CHECKPOINTS,
    }
    return tables[row_type]


def _tune_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=20000")
    cursor.close()
