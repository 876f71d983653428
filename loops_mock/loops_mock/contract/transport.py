"""A base class of tests for a transport: what it carries arrives, whatever happens on the way.

```python
class TestMyTransport(TransportContract):
    base_model = "mock-tiny"

    def open_transport(self) -> Transport:
        return Plugins.load().open_transport("my:address")
```
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator
from typing import Any, ClassVar

import pytest

from loops_core.errors import ConflictError, NotFoundError, UnknownRequestError, UsageError
from loops_core.protocols import Transport
from loops_core.types import routes
from loops_core.types.checkpoint import Checkpoint
from loops_core.types.deployment import CreateTrainerBody, Run
from loops_core.types.frames import pack
from loops_core.types.operation import (
    Accepted,
    ForwardBody,
    InitTrainerServerBody,
    OperationKind,
    OperationStatus,
    SaveStateBody,
)
from loops_core.types.routes import Call
from loops_core.types.training import ForwardBackwardOutput
from loops_mock.strategies.program import Row

_NUM_THREADS = 8
_HOLD_S = 30.0
_TIMEOUT_S = 60.0

Submit = OperationKind.FORWARD


class TransportContract:
    """The tests of a transport and the service behind it; the service trains `base_model`.

    Attributes:
        base_model: a model that the service trains.
        takes_downloads: whether the transport reads the links of checkpoint files.
    """

    base_model: ClassVar[str] = "mock-tiny"
    takes_downloads: ClassVar[bool] = True

    def open_transport(self) -> Transport:
        """Return a new transport to a service that stays the same while the class's tests run."""
        raise NotImplementedError("a subclass returns the Transport that is to be tested")

    @pytest.fixture
    def transport(self) -> Generator[Transport]:
        """Open a transport for one test."""
        opened = self.open_transport()
        yield opened
        opened.close()

    @pytest.fixture
    def run(self, transport: Transport) -> Run:
        """Make a run with a fresh adapter."""
        session = transport.send(Call(route=routes.CREATE_SESSION, timeout_s=_TIMEOUT_S)).session
        body = CreateTrainerBody(
            session_id=session.id, base_model=self.base_model, lora_rank=2, seed=7
        )
        made = transport.send(Call(route=routes.CREATE_TRAINER, body=body, timeout_s=_TIMEOUT_S))
        fresh = InitTrainerServerBody(lora_rank=2)
        accepted = transport.send(submit(made.run, fresh, OperationKind.INIT_TRAINER_SERVER, "0"))
        assert wait(transport, made.run, accepted).status == "done"
        return made.run

    def test_a_call_and_its_reply_arrive(self, transport: Transport, run: Run) -> None:
        """Check that a body and a result, tensors included, come through unchanged."""
        first = wait(transport, run, transport.send(submit(run, forward(), Submit, "a")))
        again = wait(transport, run, transport.send(submit(run, forward(), Submit, "b")))
        assert isinstance(first.result, ForwardBackwardOutput)
        assert first.result == again.result, "equal calls give equal results"
        logprobs = first.result.loss_fn_outputs[0]["logprobs"]
        assert logprobs.dtype == "float32"
        assert logprobs.shape == [3]
        assert str(logprobs.tolist()[2]) == "nan", "an ignored position is NaN on arrival"

    def test_a_call_is_not_changed_by_being_sent(self, transport: Transport, run: Run) -> None:
        """Check that sending leaves the caller's body as it was."""
        body = forward()
        before = pack(body)
        transport.send(submit(run, body, Submit, "a"))
        assert pack(body) == before

    def test_both_ways_of_sending_answer_alike(self, transport: Transport, run: Run) -> None:
        """Check that `send` and `send_async` mean the same."""
        call = Call(route=routes.GET_RUN, path_args={"run_id": run.id}, timeout_s=_TIMEOUT_S)
        assert asyncio.run(_sent(transport, call)) == transport.send(call)

    def test_a_repeated_key_is_one_operation(self, transport: Transport, run: Run) -> None:
        """Check that the idempotency key arrives, and a conflict comes back as one."""
        one, two = (transport.send(submit(run, forward(), Submit, "same")) for _ in range(2))
        assert one.operation_id == two.operation_id
        with pytest.raises(ConflictError) as caught:
            transport.send(submit(run, forward(num_rows=2), Submit, "same"))
        assert caught.value.first_operation_id == one.operation_id

    def test_errors_arrive_with_class_and_fields(self, transport: Transport, run: Run) -> None:
        """Check that what the service refuses is raised here as the service raised it."""
        with pytest.raises(UsageError) as refused:
            transport.send(submit(run, forward(loss_fn="no_such_loss"), Submit, "x"))
        assert refused.value.field == "loss_fn"
        with pytest.raises(NotFoundError):
            transport.send(
                Call(route=routes.GET_RUN, path_args={"run_id": "nobody"}, timeout_s=_TIMEOUT_S)
            )
        with pytest.raises(UnknownRequestError):
            transport.send(poll(run, "no-such-operation", hold_s=0.0))

    def test_texts_arrive_unescaped(self, transport: Transport) -> None:
        """Check that path arguments of any characters mean themselves."""
        for text in ("a/b", "a b", "ä", "%2F", "?x=1", "#", ".."):
            with pytest.raises((NotFoundError, UsageError)):
                transport.send(
                    Call(route=routes.GET_RUN, path_args={"run_id": text}, timeout_s=_TIMEOUT_S)
                )

    def test_a_poll_that_may_not_wait_returns_at_once(self, transport: Transport, run: Run) -> None:
        """Check that a poll without a hold says how an operation is now."""
        accepted = transport.send(submit(run, forward(), Submit, "a"))
        status = transport.send(poll(run, accepted.operation_id, hold_s=0.0))
        assert status.status in ("pending", "done")

    def test_many_threads_share_it(self, transport: Transport, run: Run) -> None:
        """Check that calls from several threads get their own replies."""
        found: dict[int, int] = {}

        def ask(number: int) -> None:
            body = forward(num_rows=number + 1)
            status = wait(transport, run, transport.send(submit(run, body, Submit, f"t{number}")))
            assert isinstance(status.result, ForwardBackwardOutput)
            found[number] = len(status.result.loss_fn_outputs)

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(_NUM_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(_TIMEOUT_S)
        assert found == {number: number + 1 for number in range(_NUM_THREADS)}

    def test_links_lead_to_the_bytes_that_were_promised(
        self, transport: Transport, run: Run, tmp_path: Any
    ) -> None:
        """Check that checkpoint files are read whole, and refused with another size."""
        if not self.takes_downloads:
            pytest.skip("this transport reads no links")
        body = SaveStateBody(name="kept", run_id=run.id)
        saved = transport.send(submit(run, body, OperationKind.SAVE_STATE, "s"))
        assert wait(transport, run, saved).status == "done"
        files = _files(transport, run)
        assert files
        for number, file in enumerate(files):
            target = tmp_path / str(number)
            transport.download(file.url, target, size_bytes=file.size_bytes)
            assert target.stat().st_size == file.size_bytes

    def test_after_close_every_call_is_refused(self) -> None:
        """Check that a transport may be closed twice, in both ways, and then says so."""
        transport = self.open_transport()
        transport.close()
        transport.close()
        asyncio.run(transport.aclose())
        with pytest.raises(UsageError):
            transport.send(Call(route=routes.GET_CAPABILITIES))

    def test_what_it_says_of_itself_is_constant(self, transport: Transport) -> None:
        """Check the bounds and habits that clients ask for."""
        assert transport.body_limits(None) == transport.body_limits(None)
        assert transport.repeats_creates == transport.repeats_creates
        limit = transport.body_limits(None).max_bytes
        assert limit is None or limit > 0


def submit(run: Run, body: Any, kind: OperationKind, key: str) -> Call[Accepted]:
    """Return the call that hands an operation over."""
    return Call(
        route=routes.SUBMIT[kind],
        base_url=run.base_url,
        run_id=run.id,
        body=body,
        idempotency_key=f"{run.id}-{key}",
        timeout_s=_TIMEOUT_S,
    )


def forward(*, num_rows: int = 1, loss_fn: str = "cross_entropy") -> ForwardBody:
    """Return a small pass, its last position ignored."""
    return ForwardBody(data=[Row((3, 4, 5), (4, 5, -100)).datum()] * num_rows, loss_fn=loss_fn)


def poll(run: Run, operation_id: str, *, hold_s: float) -> Call[OperationStatus]:
    """Return the call that asks for a result."""
    return Call(
        route=routes.RETRIEVE,
        base_url=run.base_url,
        run_id=run.id,
        path_args={"operation_id": operation_id},
        hold_s=hold_s,
        timeout_s=_TIMEOUT_S,
    )


def wait(transport: Transport, run: Run, accepted: Accepted) -> OperationStatus:
    """Return how an operation ended."""
    while True:
        status = transport.send(poll(run, accepted.operation_id, hold_s=_HOLD_S))
        if status.status != "pending":
            if isinstance(status.result, dict):
                status.result = ForwardBackwardOutput.model_validate(status.result)
            return status


async def _sent(transport: Transport, call: Call[Any]) -> Any:
    return await transport.send_async(call)


def _files(transport: Transport, run: Run) -> list[Any]:
    listing = transport.send(
        Call(route=routes.LIST_CHECKPOINTS, query={"run_id": run.id}, timeout_s=_TIMEOUT_S)
    )
    (checkpoint,) = listing.checkpoints
    assert isinstance(checkpoint, Checkpoint)
    page = transport.send(
        Call(
            route=routes.GET_CHECKPOINT_FILES,
            path_args={"checkpoint_id": checkpoint.id},
            query={"page_size": 100, "page_token": 0},
            timeout_s=_TIMEOUT_S,
        )
    )
    return list(page.presigned_urls)
