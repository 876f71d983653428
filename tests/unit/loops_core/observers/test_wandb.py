"""The Weights & Biases observer against the real wandb, offline."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.unit.loops_core.client.fakes import (
    FakeService,
    done,
    make_client,
    make_datum,
    make_link,
    output,
    threaded_service,
)

from loops_core.client.training import TrainingClient
from loops_core.errors import UsageError
from loops_core.hooks import RunEvent
from loops_core.observers import wandb as observer
from loops_core.types.training import AdamParams, OptimStepResponse, WandbConfig

wandb = pytest.importorskip("wandb")

pytestmark = pytest.mark.slow  # every W&B run starts a process

CONFIG = WandbConfig(project="loops-tests", name="a-run")
_BLOCK, _IDENT_BYTES, _HEADER = 32_768, 7, struct.Struct("<IHB")


@pytest.fixture(autouse=True)
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))


def records(path: Path) -> Iterator[bytes]:
    """Yield the records of an offline run's file: 32 KiB blocks of pieces with checksums."""
    data, position, pieces = path.read_bytes(), _IDENT_BYTES, b""
    while position < len(data):
        if _BLOCK - position % _BLOCK < _HEADER.size:
            position += _BLOCK - position % _BLOCK
            continue
        _, size, kind = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        pieces += data[position : position + size]
        position += size
        if kind in (1, 4):  # whole, or the last piece
            yield pieces
            pieces = b""


def rows(folder: Path) -> list[list[dict[str, float]]]:
    """Return what each offline run below the folder has logged, row by row."""
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # its process writes the files, and has written them all when it has ended
    record_type = cast("Any", wandb_internal_pb2).Record  # generated, without types
    found: list[list[dict[str, float]]] = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        histories = [record_type.FromString(record).history.item for record in records(path)]
        found.append([row_of(items) for items in histories if items])
    return found


def row_of(items: Any) -> dict[str, float]:
    values = {".".join(item.nested_key): json.loads(item.value_json) for item in items}
    return {name: value for name, value in values.items() if not name.startswith("_")}


def stepping() -> FakeService:
    """Return a service whose optimizer counts its steps."""
    service = threaded_service()
    step = 0

    def settle(call: object) -> object:
        nonlocal step
        if getattr(call, "route").name != "optim_step":  # noqa: B009 - a call of any kind
            return done(output(2.0 - step / 10, active_tokens=5.0))
        step += 1
        return done(OptimStepResponse(metrics={"step": float(step), "grad_norm": 0.5}))

    service.automatic = settle  # type: ignore[assignment]
    return service


def make_logged(service: FakeService) -> TrainingClient:
    link = make_link(service, observers=[observer], wandb_config=CONFIG)
    link.driver.run(link.announce_open())
    return TrainingClient(link)


def train(client: TrainingClient, num_steps: int) -> None:
    for _ in range(num_steps):
        client.forward_backward([make_datum()])
        client.optim_step(AdamParams())


def test_metrics_are_logged_by_step_though_nobody_reads_a_result(tmp_path: Path) -> None:
    client = make_logged(stepping())
    train(client, 2)
    client.close()
    passes = [
        {"forward_backward/loss": loss, "forward_backward/active_tokens": 5.0, "step": step}
        for loss, step in ((2.0, 1), (1.9, 2))
    ]
    steps = [{"optim_step/step": float(n), "optim_step/grad_norm": 0.5, "step": n} for n in (1, 2)]
    assert rows(tmp_path) == [[passes[0], steps[0], passes[1], steps[1]]]


async def test_two_clients_log_to_runs_of_their_own(tmp_path: Path) -> None:
    link = make_link(stepping(), observers=[observer], wandb_config=CONFIG)
    other = RunEvent(
        run_id="r2", client_id="c2", base_model="tiny", lora_rank=4, wandb_config=CONFIG
    )
    observer.loops_run_opened(other)
    link.driver.run(link.announce_open())
    client = TrainingClient(link)
    train(client, 1)
    await client.aclose()
    observer.loops_run_closed(other)
    assert sorted(len(history) for history in rows(tmp_path)) == [0, 2]


def test_without_a_config_nothing_is_started(tmp_path: Path) -> None:
    service = stepping()
    with make_client(service, observers=[observer]) as client:
        train(client, 1)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_wandb_refuses_is_an_error_of_the_caller() -> None:
    event = RunEvent(
        run_id="r1",
        client_id="c1",
        base_model="tiny",
        lora_rank=4,
        wandb_config=WandbConfig(project="a/b\\c"),
    )
    with pytest.raises(UsageError, match="wandb_config"):
        observer.loops_run_opened(event)


def test_closing_twice_finishes_once(tmp_path: Path) -> None:
    client = make_logged(stepping())
    client.close()
    client.close()
    assert len(rows(tmp_path)) == 1
