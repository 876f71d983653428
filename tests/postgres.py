"""A real PostgreSQL server for tests: installed and started where that can be done, else a skip."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa

_PROGRAMS: Final = ("initdb", "pg_ctl")
_INSTALL_TIMEOUT_S: Final = 300
_START_TIMEOUT_S: Final = 60


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a server that lives as long as the test run, without a database's name."""
    if not _has_driver():
        pytest.skip("psycopg is not installed: pip install 'loops-transport-http[postgres]'")
    programs = _find_programs() or _install(tmp_path_factory.getbasetemp())
    user = _account()
    with _folder(user) as folder:
        port = _free_port()
        data = folder / "data"
        _run(user, programs / "initdb", "-D", data, "-A", "trust", "-U", "loops", "--no-sync")
        options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        )
        control = (programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log")
        _run(user, *control, "-o", options, "start")
        try:
            yield f"postgresql+psycopg://loops@127.0.0.1:{port}"
        finally:
            _run(user, *control, "-m", "immediate", "stop")


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Return the URL of an empty database."""
    name = f"test_{uuid.uuid4().hex}"
    admin = sa.create_engine(f"{postgres_server}/postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    yield f"{postgres_server}/{name}"
    with admin.connect() as connection:
        connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


def _has_driver() -> bool:
    import importlib.util

    return importlib.util.find_spec("psycopg") is not None


def _find_programs() -> Path | None:
    """Return the newest folder that holds a server's programs."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    if found is not None:
        folders.insert(0, Path(found).parent)
    has_all: Callable[[Path], bool] = lambda folder: all(  # noqa: E731
        (folder / name).exists() for name in _PROGRAMS
    )
    return next(filter(has_all, folders), None)


def _install(base: Path) -> Path:
    """Install a server with apt-get, once however many processes test; skip where it cannot be."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("no PostgreSQL server is installed, and none can be: not root with apt-get")
    with (base.parent / "postgres-install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _find_programs()
        if found is None:
            try:
                for command in (["apt-get", "update"], ["apt-get", "install", "-y", "postgresql"]):
                    subprocess.run(
                        command,
                        check=True,
                        capture_output=True,
                        timeout=_INSTALL_TIMEOUT_S,
                        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                    )
            except (subprocess.SubprocessError, OSError) as error:
                pytest.skip(f"apt-get could not install a PostgreSQL server: {error}")
            found = _find_programs()
    if found is None:
        pytest.skip("apt-get installed no PostgreSQL server")
    return found


def _account() -> str | None:
    """Return whose account runs the server: it refuses to be root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.skip("PostgreSQL does not run as root, and there is no other account")


@contextlib.contextmanager
def _folder(user: str | None) -> Generator[Path]:
    """Give a folder that the account may enter, unlike those of pytest."""
    with tempfile.TemporaryDirectory(prefix="loops-postgres-") as folder:
        if user is not None:
            shutil.chown(folder, user)
        yield Path(folder)


def _run(user: str | None, program: Path, *arguments: Path | str) -> None:
    run = subprocess.run(
        [str(program), *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=_START_TIMEOUT_S,
        check=False,
        cwd="/",
        user=user,
        group=None if user is None else pwd.getpwnam(user).pw_gid,
        extra_groups=None if user is None else [],
    )
    assert run.returncode == 0, run.stderr.decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
