"""Rules of this project's extensions; they apply to services that advertise them.

`X-Loops-Features` on a response says what may be used: packed tensors, shared polls, batches in
parts. A service that never heard of them has no such header and is asked none of this.
"""

from __future__ import annotations

from loops_core.types.datum import Datum
from loops_core.types.frames import pack, unpack
from loops_core.types.operation import ForwardBody, OperationStatus
from loops_core.types.training import ForwardBackwardOutput
from loops_mock.contract.answers import Json, ok, refused
from loops_mock.contract.rule import expect, expect_equal, rule
from loops_mock.contract.subject import Subject
from loops_mock.contract.wire import WireRun

_TENSORS = "application/vnd.loops.tensors.v1"
_PART = "X-Loops-Part"


@rule(
    "extensions.advertised-everywhere",
    title="A service with extensions advertises them on every response, refusals too",
    section="8.1",
    needs={"http", "feature:poll/1"},
)
def _everywhere(subject: Subject) -> None:
    run = subject.raw.open_run()
    wanted = " ".join(sorted(subject.raw.advertised()))
    for reply in (
        subject.raw.post("/v1/loops/sessions"),
        subject.raw.get("/no-such-path"),
        run.poll("no-such-operation"),
        run.submit("forward", {"data": 3}),
    ):
        seen = " ".join(sorted(reply.headers.get("X-Loops-Features", "").split()))
        expect_equal(seen, wanted, f"X-Loops-Features of {reply.request.url.path}")


@rule(
    "extensions.final-refusals-are-marked",
    title="A refusal that must not be repeated has X-Baseten-Error-Source 06 and an error code",
    section="8.1",
    needs={"http", "feature:poll/1"},
)
def _marked(subject: Subject) -> None:
    run = subject.raw.open_run()
    for reply in (
        run.submit("forward", {"data": 3}),
        run.poll("no-such-operation"),
        subject.raw.get("/no-such-path"),
    ):
        source = reply.headers.get("X-Baseten-Error-Source")
        expect_equal(source, "06", f"the source of the {reply.status_code}")
        expect(
            reply.headers.get("X-Baseten-Error-Code"), "there is a code", status=reply.status_code
        )


@rule(
    "extensions.packed-bodies-mean-the-same",
    title="A packed body means what its JSON means, and a packed result is the same result",
    section="8.2",
    needs={"http", "feature:tensors/1"},
)
def _packed(subject: Subject) -> None:
    run = subject.raw.open_run()
    datum = subject.raw.datum()
    plain = run.done("forward", data=[datum])
    content = pack(ForwardBody(data=[Datum.model_validate(datum)]))
    headers = {"Content-Type": _TENSORS, "X-Run-Id": run.id}
    accepted = subject.raw.request("POST", f"{run.url}/forward", content=content, headers=headers)
    operation_id = ok(accepted)["operation_id"]
    run.ended(operation_id)
    reply = run.get(f"/operations/{operation_id}", headers={"Accept": _TENSORS})
    expect_equal(reply.headers.get("content-type"), _TENSORS, "the content type of the result")
    result = unpack(reply.content, OperationStatus).result
    expect_equal(
        ForwardBackwardOutput.model_validate(result),
        ForwardBackwardOutput.model_validate(plain),
        "the packed result",
    )


@rule(
    "extensions.damaged-packed-body-is-refused",
    title="A packed body that is damaged is refused for good",
    section="8.2",
    needs={"http", "feature:tensors/1"},
)
def _damaged(subject: Subject) -> None:
    run = subject.raw.open_run()
    whole = pack(ForwardBody(data=[Datum.model_validate(subject.raw.datum())]))
    headers = {"Content-Type": _TENSORS, "X-Run-Id": run.id}
    for content in (b"LOOPSF1\n", whole[:-3], b"nothing"):
        reply = subject.raw.request("POST", f"{run.url}/forward", content=content, headers=headers)
        refused(reply, f"a damaged body of {len(content)} bytes")


@rule(
    "extensions.shared-poll-tells-those-that-ended",
    title="A shared poll tells those that have ended, by id; an unknown one has, with an error",
    section="8.3",
    needs={"http", "feature:poll/1"},
)
def _shared(subject: Subject) -> None:
    run = subject.raw.open_run()
    ids = [run.accepted("forward", {"data": [subject.raw.datum()]}) for _ in range(3)]
    for each in ids:
        run.ended(each)
    body = {"operation_ids": [*ids, "nobody"]}
    found: Json = ok(subject.raw.post(f"{run.url}/operations/poll", body))["operations"]
    statuses = {each: found.get(each, {}).get("status") for each in (*ids, "nobody")}
    expect_equal(statuses, {**dict.fromkeys(ids, "done"), "nobody": "error"}, "the statuses")


@rule(
    "extensions.shared-poll-of-nothing-is-refused",
    title="A shared poll for no operation is refused",
    section="8.3",
    needs={"http", "feature:poll/1"},
)
def _nothing(subject: Subject) -> None:
    run = subject.raw.open_run()
    refused(subject.raw.post(f"{run.url}/operations/poll", {"operation_ids": []}), "an empty poll")


@rule(
    "extensions.hold-of-zero-answers-at-once",
    title="`X-Loops-Hold: 0` lets a poll answer at once; text that is no number is refused",
    section="8.3",
    needs={"http", "feature:poll/1"},
)
def _hold(subject: Subject) -> None:
    run = subject.raw.open_run()
    operation_id = run.accepted("forward", {"data": [subject.raw.datum()]})
    reply = run.get(f"/operations/{operation_id}", headers={"X-Loops-Hold": "0"})
    expect(reply.status_code in (200, 408), "it is 200 or 408", status=reply.status_code)
    wrong = run.get(f"/operations/{operation_id}", headers={"X-Loops-Hold": "long"})
    refused(wrong, "a hold that is no number")


def _send(run: WireRun, part: str, data: list[Json], operation: str = "forward") -> list[int]:
    headers = {_PART: part}
    reply = run.submit(operation, {"data": data}, key="batch", headers=headers)
    expect(reply.is_success, f"part {part} is taken", status=reply.status_code, body=reply.text)
    return reply.json()["missing_parts"]


@rule(
    "extensions.parts-become-one-operation",
    title="The parts of a batch become one operation once all are there, in any order",
    section="8.4",
    needs={"http", "feature:parts/1"},
)
def _parts(subject: Subject) -> None:
    run = subject.raw.open_run()
    data = [subject.raw.datum() for _ in range(2)]
    whole = run.done("forward", data=data)
    expect_equal(_send(run, "1/2", data[1:]), [0], "the missing parts after the second")
    expect_equal(run.poll("batch").status_code, 404, "the status before all are there")
    expect_equal(_send(run, "0/2", data[:1]), [], "the missing parts after the first")
    expect_equal(run.ended("batch")["result"], whole, "the result of the batch")


@rule(
    "extensions.part-repeated-is-one-part",
    title="A part that is sent again counts once",
    section="8.4",
    needs={"http", "feature:parts/1"},
)
def _part_again(subject: Subject) -> None:
    run = subject.raw.open_run()
    data = [subject.raw.datum() for _ in range(2)]
    expect_equal(_send(run, "0/2", data[:1]), [1], "the missing parts")
    expect_equal(_send(run, "0/2", data[:1]), [1], "the missing parts after a repeat")
    expect_equal(_send(run, "1/2", data[1:]), [], "the missing parts at the end")
    outputs = run.ended("batch")["result"]["loss_fn_outputs"]
    expect_equal(len(outputs), 2, "the number of outputs")


@rule(
    "extensions.wrong-parts-are-refused",
    title="A part that is none, such as 2/2 or x, is refused for good",
    section="8.4",
    needs={"http", "feature:parts/1"},
)
def _wrong_parts(subject: Subject) -> None:
    run = subject.raw.open_run()
    data = {"data": [subject.raw.datum()]}
    for part in ("2/2", "0/0", "x", "1", "-1/2"):
        reply = run.submit("forward", data, key=f"wrong-{part}", headers={_PART: part})
        refused(reply, f"part {part}")
