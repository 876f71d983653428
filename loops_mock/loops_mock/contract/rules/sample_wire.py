"""Rules of `POST /sample` on the wire: the completions shape, headers, refusals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from loops_mock.contract.answers import Json, ok, refused
from loops_mock.contract.rule import expect, expect_equal, rule
from loops_mock.contract.subject import Subject
from loops_mock.contract.wire import WireRun

if TYPE_CHECKING:
    import httpx

_VERSION = "x-trainers-policy-version"
_PROMPT = [5, 6, 7, 8]
_MARKER = re.compile(r"token_id:(\d+)")


def _base(subject: Subject) -> Json:
    session_id = subject.raw.open_session()
    return subject.raw.open_sampler(session_id, base_model=subject.base_model)


def _sample(subject: Subject, sampler: Json, **body: object) -> httpx.Response:
    return subject.raw.sample(sampler, headers={"X-Sampler-Id": sampler["id"]}, **body)


def _paired(subject: Subject) -> tuple[WireRun, Json]:
    run = subject.raw.open_run()
    return run, subject.raw.open_sampler(run.record["session_id"], run_id=run.id)


def _tokens(choice: Json) -> list[int]:
    """Return a choice's tokens as published clients read them."""
    if choice.get("token_ids"):
        return choice["token_ids"]
    return [int(str(text).removeprefix("token_id:")) for text in choice["logprobs"]["tokens"]]


@rule(
    "sample-wire.completions-shape",
    title="A sample is 200 with one choice per sample, each with tokens, logprobs, finish_reason",
    section="3.2",
    needs={"http", "sample"},
)
def _shape(subject: Subject) -> None:
    choices = ok(_sample(subject, _base(subject), n=3))["choices"]
    expect_equal(len(choices), 3, "the number of choices for n=3")
    for choice in choices:
        reason = choice.get("finish_reason")
        expect(reason in ("stop", "length"), "finish_reason is stop or length", reason=reason)
        tokens, logprobs = choice["logprobs"]["tokens"], choice["logprobs"]["token_logprobs"]
        expect_equal(len(logprobs), len(tokens), "the number of logprobs")
        expect(
            all(isinstance(x, float | int) and x <= 0 for x in logprobs),
            "logprobs are numbers",
            token_logprobs=logprobs,
        )


@rule(
    "sample-wire.tokens-are-marked",
    title="Tokens come as `token_id:<number>` markers, and token_ids say the same where given",
    section="3.2",
    needs={"http", "sample"},
)
def _markers(subject: Subject) -> None:
    choice = ok(_sample(subject, _base(subject)))["choices"][0]
    marked: list[int] = []
    for text in choice["logprobs"]["tokens"]:
        match = _MARKER.fullmatch(str(text))
        expect(match is not None or isinstance(text, int), "tokens are markers", token=text)
        marked.append(int(match[1]) if match else text)
    expect_equal(choice.get("token_ids") or marked, marked, "token_ids")


@rule(
    "sample-wire.max-tokens-is-kept",
    title="No more than max_tokens are drawn, and finish_reason is length at that many",
    section="3.1",
    needs={"http", "sample"},
)
def _max_tokens(subject: Subject) -> None:
    sampler = _base(subject)
    for most in (1, 3):
        choice = ok(_sample(subject, sampler, max_tokens=most))["choices"][0]
        tokens = _tokens(choice)
        expect(1 <= len(tokens) <= most, f"at most {most} tokens", tokens=tokens)
        if len(tokens) == most and choice["finish_reason"] != "stop":
            expect_equal(choice["finish_reason"], "length", "finish_reason")


@rule(
    "sample-wire.seed-repeats",
    title="The same request with the same seed draws the same tokens",
    section="3.1",
    needs={"http", "sample"},
)
def _seed(subject: Subject) -> None:
    sampler = _base(subject)
    drawn = [
        [_tokens(each) for each in ok(_sample(subject, sampler, n=2, seed=seed))["choices"]]
        for seed in (5, 5, 6)
    ]
    expect_equal(drawn[1], drawn[0], "the tokens of the second request")


@rule(
    "sample-wire.version-header",
    title="An answer tells in x-trainers-policy-version which weights drew it; 0 is the base",
    section="3.7",
    needs={"http", "sample"},
)
def _version(subject: Subject) -> None:
    run, sampler = _paired(subject)
    headers = {"X-Run-Id": run.id}
    before = subject.raw.sample(sampler, headers=headers)
    expect_equal(before.headers.get(_VERSION), "0", "the version before a publish")
    published = run.done("save_weights_for_sampler", name="one", bump_version=True)["version"]
    floor = {**headers, "X-Min-Policy-Version": str(published)}
    after = subject.raw.sample(sampler, headers=floor)
    ok(after)
    expect_equal(after.headers.get(_VERSION), str(published), "the version after the publish")


@rule(
    "sample-wire.staged-weights-do-not-swap",
    title="Weights saved with bump_version false answer at their path only; the live ones stay",
    section="6.4",
    needs={"http", "sample"},
)
def _staged(subject: Subject) -> None:
    run, sampler = _paired(subject)
    path = run.done("save_weights_for_sampler", name="staged", bump_version=False)["path"]
    live = subject.raw.sample(sampler, headers={"X-Run-Id": run.id})
    expect_equal(live.headers.get(_VERSION), "0", "the version of the live weights")
    ok(subject.raw.sample(sampler, headers={"X-Run-Id": run.id, "X-Checkpoint-Path": path}))


@rule(
    "sample-wire.floor-is-kept",
    title="A sample below its floor is held, or 408; it is never answered by older weights",
    section="3.7",
    needs={"http", "sample"},
)
def _floor(subject: Subject) -> None:
    import httpx

    run, sampler = _paired(subject)
    headers = {"X-Run-Id": run.id, "X-Min-Policy-Version": "7"}
    url = f"{sampler['base_url']}/sample"
    body = {"prompt": _PROMPT, "max_tokens": 1}
    try:
        reply = subject.raw.post(url, body, headers=headers, timeout_s=0.5)
    except httpx.ReadTimeout:
        return  # it is held, as it should be
    expect(reply.status_code in (408, 503), "it is not answered", status=reply.status_code)


@rule(
    "sample-wire.prompt-logprobs",
    title="prompt_logprobs 0 gives one entry a prompt token: null first, then the token's own",
    section="3.4",
    needs={"http", "sample"},
)
def _prompt_logprobs(subject: Subject) -> None:
    body = {"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    choice = ok(_sample(subject, _base(subject), **body))["choices"][0]
    entries = choice["prompt_logprobs"]
    expect_equal(len(entries), len(_PROMPT), "the number of entries")
    expect_equal(entries[0], None, "the first entry")
    for token, entry in zip(_PROMPT[1:], entries[1:], strict=True):
        expect_equal(list(entry), [str(token)], "the keys of an entry")
        expect(entry[str(token)]["logprob"] <= 0, "logprob is a logarithm", entry=entry)


@rule(
    "sample-wire.prompt-logprobs-top-k",
    title="prompt_logprobs k gives k entries a prompt token, and its own beside them",
    section="3.4",
    needs={"http", "sample"},
)
def _top_k(subject: Subject) -> None:
    body = {"max_tokens": 1, "prompt_logprobs": 3}
    choice = ok(_sample(subject, _base(subject), **body))["choices"][0]
    for token, entry in zip(_PROMPT[1:], choice["prompt_logprobs"][1:], strict=True):
        expect(len(entry) in (3, 4), "an entry has 3 or 4 tokens", entry=entry)
        expect(str(token) in entry, "the prompt's own token is there", entry=entry)
        best = max(value["logprob"] for value in entry.values())
        first = min(value.get("rank") or 1 for value in entry.values())
        expect_equal(first, 1, "the lowest rank")
        expect(best <= 0, "logprobs are logarithms", entry=entry)


@rule(
    "sample-wire.no-prompt-logprobs-unasked",
    title="Without prompt_logprobs in the request there are none in the answer",
    section="3.4",
    needs={"http", "sample"},
)
def _unasked(subject: Subject) -> None:
    choice = ok(_sample(subject, _base(subject)))["choices"][0]
    expect_equal(choice.get("prompt_logprobs"), None, "prompt_logprobs")


@rule(
    "sample-wire.stop-token-ends",
    title="A stop_token_ids entry ends a sequence with finish_reason stop",
    section="3.1",
    needs={"http", "sample", "stop_tokens"},
)
def _stop(subject: Subject) -> None:
    sampler = _base(subject)
    greedy: Json = {"temperature": 0, "max_tokens": 4}
    tokens = _tokens(ok(_sample(subject, sampler, **greedy))["choices"][0])
    choice = ok(_sample(subject, sampler, **greedy, stop_token_ids=[tokens[0]]))["choices"][0]
    expect_equal(choice["finish_reason"], "stop", "finish_reason")
    expect_equal(_tokens(choice), tokens[:1], "the tokens up to the stop")


@rule(
    "sample-wire.affinity-is-taken",
    title="`X-Baseten-Session-ID` is taken",
    section="3.1",
    needs={"http", "sample"},
)
def _affinity(subject: Subject) -> None:
    sampler = _base(subject)
    headers = {"X-Sampler-Id": sampler["id"], "X-Baseten-Session-ID": "conversation-1"}
    ok(subject.raw.sample(sampler, headers=headers))


@rule(
    "sample-wire.unknown-fields-are-ignored",
    title="Fields of a sample that nobody knows are ignored",
    section="3.1",
    needs={"http", "sample"},
)
def _unknown(subject: Subject) -> None:
    ok(_sample(subject, _base(subject), something_new={"deep": [1]}))


@rule(
    "sample-wire.prompt-alone-is-enough",
    title="A sample needs its prompt alone; what is left out has a default",
    section="3.1",
    needs={"http", "sample"},
)
def _prompt_alone(subject: Subject) -> None:
    sampler = _base(subject)
    body = {"prompt": _PROMPT, "max_tokens": 2}
    reply = subject.raw.post(f"{sampler['base_url']}/sample", body)
    expect_equal(len(ok(reply)["choices"]), 1, "the number of choices")


_WRONG: dict[str, tuple[str, dict[str, Any]]] = {
    "negative-temperature": ("a negative temperature", {"temperature": -1.0}),
    "top-p-zero": ("a top_p of 0", {"top_p": 0.0}),
    "no-samples": ("n of 0", {"n": 0}),
    "no-tokens": ("max_tokens of 0", {"max_tokens": 0}),
    "empty-prompt": ("an empty prompt", {"prompt": []}),
    "foreign-token": ("a prompt token outside the vocabulary", {"prompt": [5, 10**7]}),
    "text-prompt": ("a prompt of numbers and text", {"prompt": [5, "x"]}),
}


def _refuse(name: str, what: str, body: dict[str, Any]) -> None:
    @rule(
        f"sample-wire.{name}-is-refused",
        title=f"A sample with {what} is refused for good",
        section="3.2",
        needs={"http", "sample"},
    )
    def _check(subject: Subject) -> None:
        refused(_sample(subject, _base(subject), **body), what)


for _name, (_what, _body) in _WRONG.items():
    _refuse(_name, _what, _body)


@rule(
    "sample-wire.floor-of-text-is-refused",
    title="An X-Min-Policy-Version that is no whole number is refused for good",
    section="3.7",
    needs={"http", "sample"},
)
def _floor_of_text(subject: Subject) -> None:
    run, sampler = _paired(subject)
    headers = {"X-Run-Id": run.id, "X-Min-Policy-Version": "new"}
    refused(subject.raw.sample(sampler, headers=headers), "a floor that is text")


@rule(
    "sample-wire.unknown-checkpoint-is-refused",
    title="A sample pinned to a checkpoint that is none is refused for good",
    section="3.7",
    needs={"http", "sample"},
)
def _unknown_checkpoint(subject: Subject) -> None:
    run, sampler = _paired(subject)
    path = f"bt://loops:{run.id}/sampler_weights/nothing"
    headers = {"X-Run-Id": run.id, "X-Checkpoint-Path": path}
    refused(subject.raw.sample(sampler, headers=headers), "an unknown checkpoint")
