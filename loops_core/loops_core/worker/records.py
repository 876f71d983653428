"""Typed access to the control plane's tables; SQLite by default, any database by URL."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar, final

import sqlalchemy as sa
from sqlalchemy.event import listen
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from loops_core.errors import CheckpointError, TransportError, UsageError
from loops_core.types.checkpoint import CheckpointTarget
from loops_core.worker.record_tables import (
    CHECKPOINTS,
    CREATES,
    FORMAT,
    FORMATS,
    LOCAL_OWNER,
    META,
    RUNS,
    SAMPLERS,
    SESSIONS,
    CheckpointRecord,
    CreateRecord,
    RunRecord,
    SamplerEntry,
    SessionRecord,
    make_id,
)

__all__ = [
    "LOCAL_OWNER",
    "CheckpointRecord",
    "CreateRecord",
    "Records",
    "RunRecord",
    "SamplerEntry",
    "SessionRecord",
    "make_id",
]

Row = TypeVar("Row", SessionRecord, RunRecord, SamplerEntry, CheckpointRecord, CreateRecord)


@final
class Records:
    """The tables; safe from many threads and processes.

    What has an owner is found under that owner only: to everybody else it does not exist.
    """

    def __init__(self, url: str) -> None:
        """Open the database at an SQLAlchemy URL and make missing tables.

        Raises:
            UsageError: the URL is none, or its driver is not installed.
            TransportError: the database cannot be reached.
            CheckpointError: its tables are of another version.
        """
        options: dict[str, Any] = {}
        if url == "sqlite://":
            # The one connection is the database: who uses it, uses it alone, whatever the thread.
            options = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
            options["connect_args"] = {"check_same_thread": False}
        try:
            self._engine = sa.create_engine(url, pool_pre_ping=True, **options)
        except (ArgumentError, NoSuchModuleError, ImportError) as error:
            raise UsageError(
                f"records_url is no database that can be opened here: {error}; expected "
                "sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE",
                field="records_url",
            ) from error
        if self._engine.dialect.name == "sqlite":
            listen(self._engine, "connect", _tune_sqlite)
        try:
            self._prepare()
        except SQLAlchemyError as error:
            self._engine.dispose()
            raise TransportError(f"the records' database does not answer: {error}") from error

    @classmethod
    def open(cls, directory: Path | None, *, url: str | None = None) -> Records:
        """Open the database at `url`, else `control.db` in the directory, else one in memory."""
        if url is not None:
            return cls(url)
        return cls("sqlite://" if directory is None else f"sqlite:///{directory / 'control.db'}")

    def add(
        self, row: SessionRecord | RunRecord | SamplerEntry, *, create: CreateRecord | None = None
    ) -> None:
        """Insert one row and, in the same commit, the create that made it."""
        with self._engine.begin() as connection:
            connection.execute(sa.insert(_table(type(row))).values(**asdict(row)))
            if create is not None:
                connection.execute(sa.insert(CREATES).values(**asdict(create)))

    def created(self, owner: str, key: str) -> CreateRecord | None:
        """Return what this idempotency key has made."""
        return self._one(CreateRecord, sa.and_(CREATES.c.owner == owner, CREATES.c.key == key))

    def session(self, session_id: str, *, owner: str) -> SessionRecord | None:
        """Return a session of the owner's."""
        return self._owned(SessionRecord, owner, SESSIONS.c.id == session_id)

    def run(self, run_id: str, *, owner: str) -> RunRecord | None:
        """Return a run of the owner's."""
        return self._owned(RunRecord, owner, RUNS.c.id == run_id)

    def runs(self, *, owner: str) -> list[RunRecord]:
        """Return the owner's runs, newest first."""
        return self._all(RunRecord, RUNS.c.owner == owner)

    def end_run(self, run_id: str, *, now_s: float) -> None:
        """Write down that a run was deactivated."""
        with self._engine.begin() as connection:
            connection.execute(sa.update(RUNS).where(RUNS.c.id == run_id).values(ended_s=now_s))

    def sampler(self, sampler_id: str, *, owner: str) -> SamplerEntry | None:
        """Return a sampler of the owner's."""
        return self._owned(SamplerEntry, owner, SAMPLERS.c.id == sampler_id)

    def samplers(self, *, owner: str) -> list[SamplerEntry]:
        """Return the owner's samplers, newest first."""
        return self._all(SamplerEntry, SAMPLERS.c.owner == owner)

    def paired_sampler(self, run_id: str, *, owner: str) -> SamplerEntry | None:
        """Return the sampler that is paired with a run of the owner's."""
        return self._owned(SamplerEntry, owner, SAMPLERS.c.run_id == run_id)

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

    def checkpoint(self, checkpoint_id: str, *, owner: str) -> CheckpointRecord | None:
        """Return a checkpoint of the owner's by its id."""
        return self._owned(CheckpointRecord, owner, CHECKPOINTS.c.id == checkpoint_id)

    def named_checkpoint(
        self,
        run_id: str,
        target: CheckpointTarget,
        name: str,
        *,
        owner: str,
        as_of_s: float | None = None,
    ) -> CheckpointRecord | None:
        """Return what a name of the owner's means, or meant at `as_of_s`."""
        where = sa.and_(
            CHECKPOINTS.c.run_id == run_id,
            CHECKPOINTS.c.target == target,
            CHECKPOINTS.c.name == name,
        )
        if as_of_s is not None:
            where = sa.and_(where, CHECKPOINTS.c.created_s <= as_of_s)
        return self._owned(CheckpointRecord, owner, where)

    def live_checkpoint(self, run_id: str) -> CheckpointRecord | None:
        """Return the weights that the run's paired sampler swapped to last.

        They are those of the highest version: a wall clock may go back, a version never does.
        """
        published = self._all(
            CheckpointRecord, sa.and_(CHECKPOINTS.c.run_id == run_id, CHECKPOINTS.c.live.is_(True))
        )
        return max(published, key=lambda record: record.version or 0, default=None)

    def checkpoints(
        self, *, owner: str, run_id: str | None = None, base_model: str | None = None
    ) -> list[CheckpointRecord]:
        """Return the owner's checkpoints that names mean, of a run or a model, newest first."""
        where = [CHECKPOINTS.c.owner == owner, CHECKPOINTS.c.replaced_s.is_(None)]
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

    def _prepare(self) -> None:
        """Make missing tables, add owners to those of before; refuse those of another version."""
        found = sa.inspect(self._engine)
        if found.has_table("sessions"):
            columns = {column["name"] for column in found.get_columns("sessions")}
            if "owner" not in columns:
                self._add_owners()
        META.create_all(self._engine)
        with self._engine.begin() as connection:
            formats = list(connection.execute(sa.select(FORMATS.c.format)).scalars())
            if not formats:
                connection.execute(sa.insert(FORMATS).values(format=FORMAT))
        if formats not in ([], [FORMAT]):
            self._engine.dispose()
            raise CheckpointError(
                f"the records are of format {formats[0]}: expected {FORMAT}; open them with the "
                "version of Loops that wrote them"
            )

    def _add_owners(self) -> None:
        """Give what was recorded before there were owners to the one owner there was."""
        owner = f"owner VARCHAR NOT NULL DEFAULT '{LOCAL_OWNER}'"
        with self._engine.begin() as connection:
            for table in ("sessions", "runs", "samplers", "checkpoints"):
                connection.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN {owner}"))
            connection.execute(sa.text("ALTER TABLE runs ADD COLUMN ended_s FLOAT"))

    def _owned(self, row_type: type[Row], owner: str, where: sa.ColumnElement[bool]) -> Row | None:
        return self._one(row_type, sa.and_(_table(row_type).c.owner == owner, where))

    def _one(self, row_type: type[Row], where: sa.ColumnElement[bool]) -> Row | None:
        found = self._all(row_type, where)
        return found[0] if found else None

    def _all(self, row_type: type[Row], where: sa.ColumnElement[bool]) -> list[Row]:
        table = _table(row_type)
        newest: list[sa.ColumnElement[Any]] = []
        if "replaced_s" in table.c:  # the last of a name, though the wall clock went back
            newest.append(sa.case((table.c.replaced_s.is_(None), 0), else_=1))
        if "created_s" in table.c:
            newest.append(table.c.created_s.desc())
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
        CreateRecord: CREATES,
    }
    return tables[row_type]


def _tune_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA busy_timeout=20000")
    cursor.close()
