"""Rules about the wire are broken by the defects that they are there for, and else kept."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from typing import Final

import pytest
import uvicorn
from tests.contract.defects import NONE, Change, Defect, Defective, Exchange, Json

from loops_core.plugins import Plugins
from loops_core.worker.opening import CHECKPOINTS, ServiceOptions, open_service
from loops_mock.contract.profiles import select_rules
from loops_mock.contract.rule import all_rules
from loops_mock.contract.running import Outcome, run_rules
from loops_mock.contract.target import Target
from loops_transport_http.server.app import Front
from loops_transport_http.server.files import FileLinks
from loops_transport_http.server.keys import KeyRing
from loops_transport_http.server.running import make_config, open_socket
from loops_transport_http.server.settings import ServerSettings

pytestmark = pytest.mark.slow  # a server on a port

KEY: Final = "a-key"
_NUMBERS: Final = itertools.count()


def answers(change: Callable[[Json], object], *, of: str = "") -> Defect:
    """Return the defect that changes the JSON of answers to paths with this text in them."""
    return Defect(after=lambda each: each.edit(change) if re.search(of, each.path) else None)


def asks(change: Callable[[Json], object], *, of: str) -> Defect:
    """Return the defect that changes the JSON of requests."""
    return Defect(before=lambda each: each.edit_asked(change) if re.search(of, each.path) else None)


def loses(header: str) -> Defect:
    """Return the defect that a request's header is not read."""
    return Defect(before=lambda each: each.asked.pop(header, None))


def after(change: Change) -> Defect:
    """Return the defect that changes answers."""
    return Defect(after=change)


def _plain_400(each: Exchange) -> None:
    if each.status == 422:
        each.status = 400
        each.headers.pop("x-baseten-error-source", None)


def _submits_are_200(each: Exchange) -> None:
    if each.status == 202:
        each.status = 200


def _keyless_trainers(each: Exchange) -> None:
    if each.path.startswith("/trainers"):
        each.asked["authorization"] = f"Api-Key {KEY}"


def _only_api_key(each: Exchange) -> None:
    if each.asked.get("authorization", "").startswith("Bearer"):
        each.asked.pop("authorization")


def _links_want_a_key(each: Exchange) -> None:
    if each.path.startswith("/files") and "authorization" not in each.asked:
        each.status, each.body = 401, b"{}"


def _pending_forever(each: Exchange) -> None:
    if each.is_poll and each.status == 404:
        each.status, each.body = 200, b'{"status": "pending"}'


def _html_errors(each: Exchange) -> None:
    if each.status >= 400:
        each.body, each.headers["content-type"] = b"<h1>no</h1>", "text/html"


def _crashes_on_garbage(each: Exchange) -> None:
    if each.status == 422:
        each.status = 500


def _silent_refusals(each: Exchange) -> None:
    if each.status >= 400:
        each.headers.pop("x-loops-features", None)


def _versionless(each: Exchange) -> None:
    each.headers.pop("x-trainers-policy-version", None)


def _consumed(each: Exchange) -> None:
    """Let every second read of anything be of nothing."""
    if each.is_poll and each.status == 200 and next(_NUMBERS) % 2:
        each.status, each.body = 404, b'{"message": "gone"}'


def _no_nulls(found: Json) -> None:
    for output in found.get("result", {}).get("loss_fn_outputs", []):
        tensor = output["logprobs"]
        tensor["data"] = [0.0 if value is None else value for value in tensor["data"]]


def _outputs_backwards(found: Json) -> None:
    found.get("result", {}).get("loss_fn_outputs", []).reverse()


def _choices(change: Callable[[Json], object]) -> Defect:
    def edit(found: Json) -> None:
        for choice in found.get("choices", []):
            change(choice)

    return answers(edit, of="/sample$")


def _checkpoints(change: Callable[[Json], object]) -> Defect:
    def edit(found: Json) -> None:
        for checkpoint in found.get("checkpoints", []):
            change(checkpoint)

    return answers(edit, of="/checkpoints$")


def _unmarked(choice: Json) -> None:
    choice["logprobs"]["tokens"] = ["word" for _ in choice["logprobs"]["tokens"]]


def _metrics(change: Callable[[Json], object]) -> Defect:
    def edit(found: Json) -> None:
        result: Json = found.get("result", {})
        if "metrics" in result:
            change(result["metrics"])

    return answers(edit, of="/operations/")


DEFECTS: Final[dict[str, tuple[Defect, str]]] = {
    "submits are answered 200": (after(_submits_are_200), "submit.accepted-with-an-id"),
    "keys of submits are not read": (loses("idempotency-key"), "submit.repeat-runs-once"),
    "keys of submits are not read, late": (
        loses("idempotency-key"),
        "submit.repeat-after-the-end-runs-once",
    ),
    "keys race": (loses("idempotency-key"), "limits.concurrent-repeats-run-once"),
    "refusals can be repeated": (after(_plain_400), "errors.name-missing"),
    "bad samples can be repeated": (after(_plain_400), "sample-wire.top-p-zero-is-refused"),
    "garbage crashes": (after(_crashes_on_garbage), "errors.garbage-is-refused"),
    "trainers ask for no key": (Defect(before=_keyless_trainers), "addressing.no-key-is-refused"),
    "Bearer is unknown": (Defect(before=_only_api_key), "addressing.bearer-scheme"),
    "errors are pages": (after(_html_errors), "addressing.unknown-path-says-why"),
    "unknown operations wait": (after(_pending_forever), "retrieve.unknown-is-404"),
    "results are read once": (after(_consumed), "retrieve.reading-does-not-consume"),
    "another word for done": (
        answers(lambda found: found.update(status="ok"), of="/operations/"),
        "retrieve.done-shape",
    ),
    "errors without text": (
        answers(lambda found: found.pop("error", None), of="/operations/"),
        "retrieve.error-shape",
    ),
    "ignored positions are 0": (
        answers(_no_nulls, of="/operations/"),
        "retrieve.ignored-positions-are-null",
    ),
    "outputs in another order": (
        answers(_outputs_backwards, of="/operations/"),
        "retrieve.forward-result-is-complete",
    ),
    "no echo of skip": (
        _metrics(lambda metrics: metrics.pop("skip_token_normalization", None)),
        "retrieve.skip-is-echoed",
    ),
    "a null among the metrics": (
        _metrics(lambda metrics: metrics.update(grad_norm=None)),
        "retrieve.optim-step-metrics",
    ),
    "steps from 0": (
        _metrics(lambda metrics: metrics.update(step=metrics.get("step", 0) - 1)),
        "submit.order-is-arrival",
    ),
    "relative addresses": (
        answers(lambda found: found["run"].update(base_url="/trainers/x"), of="/trainers$"),
        "runs.base-url-answers",
    ),
    "a new sampler each time": (
        answers(lambda found: found["sampler"].update(id=str(next(_NUMBERS))), of="/samplers$"),
        "samplers.paired-is-one-per-run",
    ),
    "no rank in listings": (
        _checkpoints(lambda each: each.update(lora_adapter_config={})),
        "checkpoint-files.listing-has-every-field",
    ),
    "times without a zone": (
        _checkpoints(lambda each: each.update(created_at="2026-01-01T00:00:00")),
        "checkpoint-files.listing-has-every-field",
    ),
    "one page alone": (
        answers(lambda found: found.update(next_page_token=None), of="/files$"),
        "checkpoint-files.pages-cover-every-file-once",
    ),
    "links want a key": (after(_links_want_a_key), "checkpoint-files.links-answer-without-a-key"),
    "no version of samples": (after(_versionless), "sample-wire.version-header"),
    "the floor is not read": (loses("x-min-policy-version"), "sample-wire.floor-is-kept"),
    "the checkpoint is not read": (
        loses("x-checkpoint-path"),
        "sample-wire.unknown-checkpoint-is-refused",
    ),
    "an ending of another kind": (
        _choices(lambda each: each.update(finish_reason="abort")),
        "sample-wire.completions-shape",
    ),
    "tokens as words": (_choices(_unmarked), "sample-wire.tokens-are-marked"),
    "a prompt logprob too few": (
        _choices(lambda each: (each.get("prompt_logprobs") or [None]).pop(0)),
        "sample-wire.prompt-logprobs",
    ),
    "prompt logprobs for all": (
        _choices(lambda each: each.update(prompt_logprobs=[None])),
        "sample-wire.no-prompt-logprobs-unasked",
    ),
    "the seed is not read": (
        asks(lambda body: body.pop("seed", None), of="/sample$"),
        "sample-wire.seed-repeats",
    ),
    "n is not read": (
        asks(lambda body: body.pop("n", None), of="/sample$"),
        "sample-wire.completions-shape",
    ),
    "stops are not read": (
        asks(lambda body: body.pop("stop_token_ids", None), of="/sample$"),
        "sample-wire.stop-token-ends",
    ),
    "staged weights go live": (
        asks(lambda body: body.pop("bump_version", None), of="/save_weights_for_sampler$"),
        "sample-wire.staged-weights-do-not-swap",
    ),
    "refusals say nothing of features": (
        after(_silent_refusals),
        "extensions.advertised-everywhere",
    ),
}
"""What may be wrong on the wire, and the rule that must notice."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Defective, Target]]:
    """Serve the mock on a port, behind a defect that can be chosen."""
    files = tmp_path_factory.mktemp("served")
    options = ServiceOptions(
        backend="mock", files=files, directory=None, served={"mock-tiny": "mock-tiny"}
    )
    service = open_service(Plugins.load(), options)
    links = FileLinks.open(files, root=files / CHECKPOINTS, kept_s=3600)
    front = Front(service, KeyRing.of_keys([KEY]), links, ServerSettings())
    defective = Defective(front)
    config = make_config(front)
    config.app = defective
    server = uvicorn.Server(config)
    with open_socket("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        port = listener.getsockname()[1]
        with Target(f"http://127.0.0.1:{port}", api_key=KEY) as target:
            yield defective, target
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_breaks_its_rule(name: str, served: tuple[Defective, Target]) -> None:
    defective, target = served
    defective.defect, rule_id = DEFECTS[name]
    try:
        (result,) = run_rules(target.subject, select_rules(all_rules(), [rule_id])).results
    finally:
        defective.defect = NONE
    assert not result.is_kept
    assert result.calls


def test_without_a_defect_the_same_rules_are_kept(served: tuple[Defective, Target]) -> None:
    _, target = served
    rules = select_rules(all_rules(), sorted({rule_id for _, rule_id in DEFECTS.values()}))
    report = run_rules(target.subject, rules, num_at_once=4)
    assert {result.outcome for result in report.results} == {Outcome.PASSED}
