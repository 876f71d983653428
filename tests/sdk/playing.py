"""Serves a backend, lets the SDK play its sections against it, then looks with our own client."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.sdk.environment import clean_environ
from tests.serving import KEY, Server

from loops_core import Datum, ModelInput, ServiceClient, TensorData
from loops_core.errors import LoopsError
from loops_core.worker.records import LOCAL_OWNER

PROGRAM: Final = Path(__file__).parent / "program" / "play.py"

SECTIONS: Final = ("life", "refusals", "local_mode", "rollouts")
"""What is played against the first process of the server; `restart` needs a second one."""

_SECTION_TIMEOUT_S: Final = 300


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend, a small model of it with the name that it is served by, and its package."""

    name: str
    base_model: str
    source: str
    package: str


@dataclass(frozen=True, slots=True)
class Stage:
    """Where sections are played: the SDK's interpreter, a server, and a directory to write into."""

    python: Path
    server: Server
    base_model: str
    folder: Path


def play_all(backend: Backend, python: Path, folder: Path) -> dict[str, Any]:
    """Return what every section saw, what our client then finds, and how the server ended."""
    folder.mkdir()
    models = [f"{backend.base_model}={backend.source}"]
    with Server(folder / "data", backend=backend.name, base_models=models) as server:
        stage = Stage(python, server, backend.base_model, folder)
        seen = {section: play(stage, section) for section in SECTIONS}
        if seen["life"]["seen"] is not None:
            seen["our_client"] = try_look(server.url, seen["life"]["seen"], folder / "ours")
        seen["restart"] = play(stage, "restart")
        server.stop()
        return {**seen, "exit_codes": server.exit_codes}


def play(stage: Stage, section: str) -> dict[str, Any]:
    """Return what one section printed; `seen` is None where it failed, and `stderr` says why.

    A section that says that it waits gets a restarted server.
    """
    folder = stage.folder / section
    folder.mkdir()
    with (folder / "stderr").open("w+") as told:
        program = subprocess.Popen(
            [str(stage.python), str(PROGRAM), section],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            cwd=folder,
            env=clean_environ(),
        )
        watch = threading.Timer(_SECTION_TIMEOUT_S, program.kill)
        watch.start()
        try:
            printed = _talk(program, json.dumps(_setup(stage, folder)), stage.server)
        finally:
            watch.cancel()
            program.kill()
            program.communicate()
        told.seek(0)
        seen = json.loads(printed) if program.returncode == 0 else None
        return {"seen": seen, "stderr": f"exit code {program.returncode}: {told.read()}"}


def _talk(program: subprocess.Popen[str], setup: str, server: Server) -> str:
    """Return the last line that the program prints."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(f"{setup}\n")
    program.stdin.flush()
    line = program.stdout.readline()
    if line.strip() == "waiting":
        server.restart()
        program.stdin.write("go\n")
        program.stdin.flush()
        line = program.stdout.readline()
    program.wait()
    return line


def _setup(stage: Stage, folder: Path) -> dict[str, str]:
    server = stage.server
    return {
        "url": server.url,
        "api_key": KEY,
        "trainer_url": f"{server.url}/trainers/local",
        "sampler_url": f"{server.url}/samplers/local",
        "base_model": stage.base_model,
        "team": LOCAL_OWNER,
        "folder": str(folder),
    }


def try_look(url: str, life: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what `look` finds, or the error it met, as a section's outcome."""
    try:
        return {"seen": look(url, life, folder), "stderr": ""}
    except LoopsError as error:
        return {"seen": None, "stderr": repr(error)}


def look(url: str, life: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return what our own client finds of what the SDK left behind."""
    with ServiceClient(base_url=url, api_key=KEY) as service:
        names = [row.checkpoint_id for row in service.list_checkpoints(life["run_id"])]
        found: dict[str, Any] = {"names": names}
        for name, target in (("state", "trainer"), ("staged", "sampler")):
            to = folder / name
            service.download_checkpoint(
                name=name, run_id=life["run_id"], target=target, dest_dir=to
            )
            found[name] = {"ours": digests(to), "sdk": digests(Path(life["files"][name]["folder"]))}
        path = life["resume"]["path"]
        with service.create_training_client_from_state_with_optimizer(path) as trainer:
            train = life["train"]
            data = [_datum(*row) for row in zip(train["tokens"], train["targets"], strict=True)]
            output = trainer.forward(data).result()
            rows = [one["logprobs"].tolist() for one in output.loss_fn_outputs]
            found["logprobs"] = [[v if v == v else None for v in row] for row in rows]
    return found


def digests(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder by its name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _datum(tokens: list[int], targets: list[int]) -> Datum:
    return Datum(
        model_input=ModelInput.from_ints(tokens),
        loss_fn_inputs={"target_tokens": TensorData.from_list(targets, "int64")},
    )
