"""Rules of size and of many at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from loops_mock.contract.answers import Json, refused
from loops_mock.contract.rule import expect, expect_equal, rule
from loops_mock.contract.subject import Subject

_CHUNK_BYTES = 24 * 1024 * 1024
"""Where published clients split a batch."""


@rule(
    "limits.large-bodies-are-taken",
    title="A body of 25 MiB is taken: published clients split at 24 MiB and go a little over",
    section="2.10",
    needs={"http"},
)
def _large(subject: Subject) -> None:
    run = subject.raw.open_run()
    body = {"data": [subject.raw.datum()], "ignored": "x" * (_CHUNK_BYTES + 1024 * 1024)}
    content = json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "X-Run-Id": run.id}
    reply = subject.raw.request("POST", f"{run.url}/forward", content=content, headers=headers)
    expect_equal(reply.status_code, 202, "the status of a large submit")
    expect_equal(run.ended(reply.json()["operation_id"])["status"], "done", "its status")


@rule(
    "limits.too-long-sequence-is-refused",
    title="A datum beyond the model's context is refused for good, or fails",
    section="1.3",
    needs={"http"},
)
def _too_long(subject: Subject) -> None:
    run = subject.raw.open_run()
    chunks = [{"type": "encoded_text", "tokens": [5] * 2_000_000}]
    reply = run.submit("forward", {"data": [{"model_input": {"chunks": chunks}}]})
    if reply.is_success:
        status = run.ended(reply.json()["operation_id"])["status"]
        expect_equal(status, "error", "the status of a sequence of 2,000,000 tokens")
    else:
        refused(reply, "a sequence of 2,000,000 tokens")


@rule(
    "limits.concurrent-submits-are-all-taken",
    title="Chunks of one batch that are submitted at once all run, whatever their order",
    section="2.4",
    needs={"http"},
)
def _concurrent(subject: Subject) -> None:
    run = subject.raw.open_run()
    datum = subject.raw.datum()
    with ThreadPoolExecutor(8) as threads:
        bodies: list[Json] = [{"data": [datum], "seq_id": number} for number in range(16)]
        ids = list(threads.map(run.accepted, ["forward"] * 16, bodies))
    expect_equal(len(set(ids)), 16, "the number of operations")
    expect_equal({run.ended(each)["status"] for each in ids}, {"done"}, "their statuses")


@rule(
    "limits.concurrent-repeats-run-once",
    title="One key that arrives many times at once is one operation",
    section="2.3",
    needs={"http"},
)
def _repeats(subject: Subject) -> None:
    run, other = subject.raw.open_run(), subject.raw.open_run()
    body = {"data": [subject.raw.datum()]}
    with ThreadPoolExecutor(8) as threads:
        asked = [
            threads.submit(run.accepted, "forward_backward", body, key="d" * 32) for _ in range(8)
        ]
        ids = {each.result() for each in asked}
    expect_equal(len(ids), 1, "the number of operations")
    other.accepted("forward_backward", body)
    adam = {"learning_rate": 0.01, "grad_clip_norm": 0.0}
    norms = [
        each.done("optim_step", adam_params=adam)["metrics"]["grad_norm"] for each in (run, other)
    ]
    expect_equal(norms[0], norms[1], "the gradient of a batch that arrived many times")


@rule(
    "limits.polls-wait-in-parallel",
    title="Many polls of one run at once are all answered",
    section="2.9",
    needs={"http"},
)
def _polls(subject: Subject) -> None:
    run = subject.raw.open_run()
    ids = [run.accepted("forward", {"data": [subject.raw.datum()]}) for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        ended = list(threads.map(run.ended, ids))
    expect_equal({status["status"] for status in ended}, {"done"}, "their statuses")


@rule(
    "limits.long-headers-are-answered",
    title="A header of 100 kB is answered with a 4xx, or taken; the connection is not just dropped",
    section="2.1",
    needs={"http"},
)
def _headers(subject: Subject) -> None:
    reply = subject.raw.get("/v1/loops/capabilities", headers={"X-Long": "a" * 100_000})
    status = reply.status_code
    expect(status == 200 or 400 <= status < 500, "it is answered", status=status)
