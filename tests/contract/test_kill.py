"""A worker that is killed loses nothing and does nothing twice; a save is whole or not there."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from tests.contract.conftest import Setup, folder_digest
from tests.serving import KEY

from loops_core import Datum, ServiceClient
from loops_core.plugins import Plugins
from loops_core.protocols import Transport
from loops_core.types import routes
from loops_core.types.operation import (
    ForwardBody,
    OperationKind,
    OptimStepBody,
    SaveStateBody,
)
from loops_core.types.routes import Call
from loops_core.types.training import AdamParams

NUM_STEPS = 6

_SAVER = """
import sys
from loops_core import ServiceClient
from loops_core.types.datum import Datum
url, base_model, datum = sys.argv[1:]
data = [Datum.model_validate_json(datum)]
service = ServiceClient(base_url=url)
client = service.create_lora_training_client(base_model, rank=8, seed=1)
print(client.run_id, flush=True)
while True:
    client.forward_backward(data)
    from loops_core import AdamParams
    client.optim_step(AdamParams(learning_rate=1e-2))
    print(client.save_state("again").result().path, flush=True)
"""

_TRAINER = """
import json, sys
from loops_core import AdamParams, ServiceClient
from loops_core.types.datum import Datum
url, base_model, datum, keys = sys.argv[1:]
data = [Datum.model_validate_json(datum)]
service = ServiceClient(base_url=url)
client = service.create_lora_training_client(base_model, rank=4, seed=1)
print(client.run_id, flush=True)
for number, (one, two) in enumerate(json.loads(keys)):
    first = client.forward_backward(data, idempotency_key=one)
    second = client.optim_step(AdamParams(learning_rate=1e-2), idempotency_key=two)
    if number == 2:
        first.result()
        print("under way", flush=True)
input()
"""


def _start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("num_saves", [1, 3])
def test_a_kill_during_a_save_leaves_the_earlier_state_readable(
    setup: Setup, batch: list[Datum], tmp_path: Path, num_saves: int
) -> None:
    process = _start(_SAVER, setup.url, setup.base_model, batch[0].model_dump_json())
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    saved = [process.stdout.readline().strip() for _ in range(num_saves)]
    _kill(process)
    path = f"bt://loops:{run_id}/weights/again"
    assert saved == [path] * num_saves
    with (
        ServiceClient(base_url=setup.url) as service,
        service.create_lora_training_client(setup.base_model, rank=2) as client,
    ):
        assert client.load_state_with_optimizer(path).result().step >= num_saves
        listed = service.list_checkpoints(run_id)
        assert [checkpoint.checkpoint_id for checkpoint in listed] == ["again"]


@pytest.mark.slow
def test_a_killed_worker_finishes_what_it_had_accepted_each_once(
    setup: Setup, batch: list[Datum], tmp_path: Path
) -> None:
    keys = [(uuid.uuid4().hex, uuid.uuid4().hex) for _ in range(NUM_STEPS)]
    process = _start(
        _TRAINER, setup.url, setup.base_model, batch[0].model_dump_json(), json.dumps(keys)
    )
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    assert process.stdout.readline().strip() == "under way"
    _kill(process)
    transport = Plugins.load().open_transport(setup.url, api_key=KEY)
    try:
        steps = _submit_all_again(transport, run_id, setup.base_model, batch[0], keys)
        body = SaveStateBody(name="end")
        _do(transport, run_id, OperationKind.SAVE_STATE, body, uuid.uuid4().hex)
    finally:
        transport.close()
    killed = _saved_state(setup, run_id, tmp_path / "killed")
    assert steps == list(range(1, NUM_STEPS + 1))
    assert killed == _uninterrupted(setup, batch[0], tmp_path / "whole")


def _submit_all_again(
    transport: Transport,
    run_id: str,
    base_model: str,
    datum: Datum,
    keys: list[tuple[str, str]],
) -> list[float]:
    """Repeat every submit with its first key, as a client that lost the answers would."""
    steps: list[float] = []
    for one, two in keys:
        forward = ForwardBody(data=[datum], run_id=run_id, model=base_model)
        _do(transport, run_id, OperationKind.FORWARD_BACKWARD, forward, one)
        adam_params = AdamParams(learning_rate=1e-2)
        step = OptimStepBody(adam_params=adam_params, run_id=run_id, model=base_model)
        result = _do(transport, run_id, OperationKind.OPTIM_STEP, step, two)
        steps.append(result.metrics["step"])  # type: ignore[attr-defined]
    return steps


def _do(
    transport: Transport,
    run_id: str,
    kind: OperationKind,
    body: ForwardBody | OptimStepBody | SaveStateBody,
    key: str,
) -> object:
    """Submit an operation as the client did, but for its count, and return its result."""
    base_url = f"/trainers/{run_id}"
    submit = Call(
        route=routes.SUBMIT[kind],
        base_url=base_url,
        body=body,
        run_id=run_id,
        idempotency_key=key,
    )
    accepted = transport.send(submit)
    path = {"operation_id": accepted.operation_id}
    poll = Call(
        route=routes.RETRIEVE, base_url=base_url, path_args=path, run_id=run_id, hold_s=30.0
    )
    status = transport.send(poll)
    assert status.status == "done", status
    return status.result


def _saved_state(setup: Setup, run_id: str, folder: Path) -> str:
    """Return the digest of the state that the run has saved as `end`."""
    with ServiceClient(base_url=setup.url) as service:
        service.download_checkpoint(name="end", run_id=run_id, target="trainer", dest_dir=folder)
    return folder_digest(folder)


def _uninterrupted(setup: Setup, datum: Datum, folder: Path) -> str:
    with (
        ServiceClient(base_url=setup.url) as service,
        service.create_lora_training_client(setup.base_model, rank=4, seed=1) as client,
    ):
        for _ in range(NUM_STEPS):
            client.forward_backward([datum])
            client.optim_step(AdamParams(learning_rate=1e-2)).result()
        client.save_state("end").result()
        client.download_checkpoint(name="end", target="trainer", dest_dir=folder)
    return folder_digest(folder)
