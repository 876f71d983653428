"""Rules of cancelling: what has ended stays, what never was is 404."""

from __future__ import annotations

from loops_mock.contract.answers import offered, ok
from loops_mock.contract.rule import expect, expect_equal, rule
from loops_mock.contract.subject import Subject


@rule(
    "cancel.ended-stays-ended",
    title="Cancelling an operation that has ended is 200 or 409, and its result stays",
    section="3.3",
    needs={"http"},
)
def _ended(subject: Subject) -> None:
    run = subject.raw.open_run()
    operation_id = run.accepted("forward", {"data": [subject.raw.datum()]})
    before = run.ended(operation_id)
    reply = subject.raw.post(f"{run.url}/operations/{operation_id}/cancel")
    status = offered(reply, "cancelling operations").status_code
    expect(status in (200, 409), "cancel is 200 or 409", status=status)
    expect_equal(ok(run.poll(operation_id)), before, "the result after the cancel")


@rule(
    "cancel.unknown-is-404",
    title="Cancelling an operation that is none is 404",
    section="3.3",
    needs={"http"},
)
def _unknown(subject: Subject) -> None:
    run = subject.raw.open_run()
    known = run.accepted("forward", {"data": [subject.raw.datum()]})
    offered(subject.raw.post(f"{run.url}/operations/{known}/cancel"), "cancelling operations")
    status = subject.raw.post(f"{run.url}/operations/no-such-operation/cancel").status_code
    expect_equal(status, 404, "the status of cancelling nothing")


@rule(
    "cancel.queued-never-runs-or-runs-whole",
    title="A cancelled operation ends: cancelled, with an error, or done as if never cancelled",
    section="3.3",
    needs={"http"},
)
def _queued(subject: Subject) -> None:
    run = subject.raw.open_run()
    for _ in range(4):
        run.accepted("forward_backward", {"data": [subject.raw.datum()]})
    last = run.accepted("save_state", {"name": "never"})
    reply = subject.raw.post(f"{run.url}/operations/{last}/cancel")
    offered(reply, "cancelling operations")
    ended = run.poll(last)
    while ended.status_code == 408:
        ended = run.poll(last)
    expect(ended.status_code in (200, 409), "the operation has an end", status=ended.status_code)
    params = {"run_id": run.id}
    listed = ok(subject.raw.get("/v1/loops/checkpoints", params=params))["checkpoints"]
    is_done = ended.status_code == 200 and ended.json()["status"] == "done"
    expect_equal(bool(listed), is_done, "whether the save took effect")
