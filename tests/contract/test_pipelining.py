"""Many operations may be under way: they apply in order of submission, each once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contract.conftest import TRANSPORTS, make_datum
from tests.serving import KEY

from loops_core import (
    AdamParams,
    ForwardBackwardFuture,
    OperationFuture,
    OptimStepResponse,
    ServiceClient,
)

NUM_THREADS = 8
NUM_EACH = 125


@pytest.fixture(params=TRANSPORTS)
def url(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    served: Callable[[str], str],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    if request.param == "inproc":
        return f"inproc:mock?data_dir={tmp_path}"
    monkeypatch.setenv("LOOPS_API_KEY", KEY)
    return served("mock")


@pytest.mark.slow
def test_a_thousand_operations_from_eight_threads_apply_in_order_each_once(url: str) -> None:
    """A step's number tells its place; gradients of the pass before it tell that none was lost."""
    datum = make_datum([3, 4, 5, 6])
    submitted: list[ForwardBackwardFuture | OperationFuture[OptimStepResponse]] = []
    turn = threading.Lock()

    def work() -> None:
        for number in range(NUM_EACH):
            with turn:
                if len(submitted) % 2 == 0:
                    submitted.append(client.forward_backward([datum]))
                else:
                    adam_params = AdamParams(learning_rate=1e-3 * (1 + number))
                    submitted.append(client.optim_step(adam_params))

    with ServiceClient(base_url=url) as service:
        client = service.create_lora_training_client("mock-tiny", rank=2)
        threads = [threading.Thread(target=work) for _ in range(NUM_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(submitted) == NUM_THREADS * NUM_EACH
        steps = [
            future.result().metrics or {}
            for future in submitted
            if isinstance(future, OperationFuture)
        ]
        assert [metrics["step"] for metrics in steps] == list(range(1, len(steps) + 1))
        assert {metrics["active_tokens"] for metrics in steps} == {3.0}


@pytest.mark.slow
def test_threads_that_do_not_take_turns_lose_nothing(url: str) -> None:
    datum = make_datum([3, 4, 5, 6])

    def work() -> None:
        futures.extend(client.forward_backward([datum]) for _ in range(NUM_EACH))

    futures: list[ForwardBackwardFuture] = []
    with ServiceClient(base_url=url) as service:
        client = service.create_lora_training_client("mock-tiny", rank=2)
        threads = [threading.Thread(target=work) for _ in range(NUM_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        metrics = client.optim_step(AdamParams()).result().metrics or {}
        assert metrics["active_tokens"] == 3 * NUM_THREADS * NUM_EACH
        assert len({future.operation_id for future in futures}) == NUM_THREADS * NUM_EACH
