"""A batch that travels in parts: a fault in any of them, and it runs whole and once, or not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.faults.clocks import SkippingClock
from tests.faults.plan import (
    LOST_RESPONSE,
    PASS,
    TWICE,
    Fault,
    answered,
    cut_request,
    cut_response,
    reset_request,
)
from tests.faults.proxy import Proxy
from tests.faults.training import SUBMIT, Training, make_data
from tests.serving import KEY, Server

from loops_core import Datum, ModelInput, ServiceClient, TensorData
from loops_core.errors import TransportError, UsageError

pytestmark = pytest.mark.slow

POSITIONS = 50
NUM_DATA = 30
ACTIVE = POSITIONS * NUM_DATA
PARTS = 3


def make_wide_data() -> list[Datum]:
    """Return a batch of many bytes and few positions: 150 targets for each, 90 kB a datum."""
    tokens = [1 + index % 50 for index in range(POSITIONS)]
    targets = np.arange(POSITIONS * 150).reshape(POSITIONS, 150) % 200
    inputs = {
        "target_tokens": TensorData.from_numpy(targets),
        "weights": TensorData.from_numpy(np.ones(targets.shape, np.float32)),
    }
    return [Datum(model_input=ModelInput.from_ints(tokens), loss_fn_inputs=inputs)] * NUM_DATA


DATA = make_wide_data()


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve with a bound of bodies that is low enough for small batches to be split."""
    data_dir = tmp_path_factory.mktemp("serving") / "data"
    with Server(data_dir, options=["--max-body-mib", "1"]) as server:
        yield server


@pytest.fixture
def training(proxy: Proxy) -> Iterator[Training]:
    """Train with a bound of a minute on each submit."""
    clock = SkippingClock()
    with ServiceClient(base_url=proxy.url, api_key=KEY, clock=clock) as service:
        client = service.create_lora_training_client("mock-tiny", rank=2, timeout=60)
        yield Training(client, proxy, clock)


@pytest.mark.parametrize(
    ("part", "fault", "sent"),
    [
        (0, PASS, PARTS),
        (0, cut_response(100), PARTS + 1),
        (1, cut_request(500_000), PARTS + 1),
        (1, TWICE, PARTS),
        (2, answered(503), PARTS + 1),
        (2, TWICE, PARTS),
        (2, LOST_RESPONSE, 2 * PARTS),  # the whole is not kept to be compared with a part
    ],
    ids=["undisturbed", "first-cut", "second-cut", "second-twice", "refused", "twice", "lost"],
)
def test_a_batch_of_parts_runs_once_whatever_happens_to_a_part(
    training: Training, part: int, fault: Fault, sent: int
) -> None:
    training.proxy.inject(SUBMIT, [*[PASS] * part, fault])
    result = training.client.forward_backward(DATA).result()
    assert len(result.loss_fn_outputs) == len(DATA)
    submits = training.proxy.matching(SUBMIT)
    assert len(submits) == sent
    assert len({seen.key for seen in submits}) == 1
    training.check_active(ACTIVE)


@pytest.mark.parametrize("part", [0, PARTS - 1])
def test_nothing_runs_of_a_batch_whose_part_never_arrives(training: Training, part: int) -> None:
    training.proxy.inject(SUBMIT, [*[PASS] * part, *[reset_request(1000)] * 1000])
    with pytest.raises(TransportError, match="forward_backward was tried"):
        training.client.forward_backward(DATA, idempotency_key="mine")
    training.proxy.clear()
    training.check_nothing_active()
    training.client.forward_backward(DATA, idempotency_key="mine").result()
    training.check_active(ACTIVE)


def test_a_refused_part_refuses_the_batch(training: Training) -> None:
    wrong = [*DATA[:-1], *make_data(POSITIONS)]
    with pytest.raises(UsageError):
        training.client.forward_backward(wrong)
    training.check_nothing_active()


def test_parts_that_a_crash_made_forget_are_sent_again(training: Training, serving: Server) -> None:
    def crash() -> None:
        serving.kill()
        serving.start()

    training.proxy.inject(SUBMIT, [PASS, PASS, Fault(before=crash)])
    training.client.forward_backward(DATA).result()
    training.check_active(ACTIVE)
    assert len(training.proxy.matching(SUBMIT)) > PARTS + 1
