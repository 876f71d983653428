"""Which weights answer a sample: live versions, floors, pinned checkpoints; the answer's shape."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, final

from loops_core import chance
from loops_core.errors import BusyError, NotFoundError, UnsupportedError, UsageError
from loops_core.protocols import SampledTokens, SampleOutcome, SamplerDescription, SampleRequest
from loops_core.types.routes import SamplerPin
from loops_core.types.sampling import (
    ChoiceLogprobs,
    CompletionChoice,
    Completions,
    PromptLogprob,
    SampleBody,
)
from loops_core.worker.checkpoints import Checkpoints
from loops_core.worker.engine import Answer, Choose, SamplerEngine, Weights
from loops_core.worker.records import CheckpointRecord, Records, SamplerEntry

FLOOR_WAIT_S: Final = 30.0
"""How long a request waits for its policy version before its caller is asked to come back."""

_MAX_SAMPLES: Final = 1024
_SEED_BITS: Final = 31


@final
class LiveWeights:
    """The newest published weights of every run in this process."""

    def __init__(self) -> None:
        """Start with base models everywhere."""
        self._lock = threading.Lock()
        self._live: dict[str, Weights] = {}

    def set(self, run_id: str, weights: Weights) -> None:
        """Let these weights answer for the run from now on."""
        with self._lock:
            self._live[run_id] = weights

    def begin(self, run_id: str, weights: Weights) -> None:
        """Let these weights answer for the run, unless others do already."""
        with self._lock:
            self._live.setdefault(run_id, weights)

    def knows(self, run_id: str) -> bool:
        """Tell whether it was said which weights answer for the run."""
        with self._lock:
            return run_id in self._live

    def get(self, run_id: str) -> Weights:
        """Return the weights that answer for the run."""
        with self._lock:
            return self._live.get(run_id, Weights())


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a pin leads: the base model whose engine answers, and how the weights are chosen."""

    base_model: str
    choose: Choose


@final
class SamplingDesk:
    """Turns a pin into weights and a body into an answer."""

    def __init__(
        self,
        records: Records,
        checkpoints: Checkpoints,
        live: LiveWeights,
        engine_of: Callable[[str], SamplerEngine],
    ) -> None:
        """Use `engine_of` to find or start the engine of a base model."""
        self._records = records
        self._checkpoints = checkpoints
        self._live = live
        self._engine_of = engine_of

    def sample(self, body: SampleBody, pin: SamplerPin, *, owner: str) -> Future[Answer]:
        """Queue a request; the future brings the outcome and the weights that made it.

        Raises:
            UsageError: the body asks for what the model cannot do; the field is named.
            NotFoundError: the pin names a run, sampler or checkpoint that the owner has not.
            BusyError: too many requests are waiting.
        """
        target = self._target(pin, owner)
        engine = self._engine_of(target.base_model)
        check_sample(body, engine.describe())
        seed = chance.draw_bits(_SEED_BITS) if body.seed is None else body.seed
        floor = pin.min_policy_version

        def late() -> BusyError:
            return BusyError(
                f"the sampler is behind policy version {floor}: waited {FLOOR_WAIT_S:.0f} s",
                retry_after_s=0.0,
            )

        def make_request(weights: Weights) -> SampleRequest:
            return to_request(body, weights, seed)

        return engine.submit(make_request, target.choose, wait_s=FLOOR_WAIT_S, late=late)

    def loaded(self, record: CheckpointRecord) -> Weights:
        """Return a sampler checkpoint as weights."""
        path = self._checkpoints.open_local(record)
        return Weights(adapter_id=record.key, path=path, version=record.version)

    def live_of(self, run_id: str) -> Weights:
        """Return the weights that answer for a run.

        Those of a run that nobody has opened since the last restart are found in the records.
        """
        if not self._live.knows(run_id):
            record = self._records.live_checkpoint(run_id)
            self._live.begin(run_id, Weights() if record is None else self.loaded(record))
        return self._live.get(run_id)

    def base_model(self, pin: SamplerPin, *, owner: str) -> str:
        """Return the base model that a pin leads to; raises as `sample` does."""
        return self._target(pin, owner).base_model

    def paired_run(self, pin: SamplerPin, *, owner: str) -> str | None:
        """Return the run whose live weights the pin follows, if it follows any."""
        if pin.run_id is not None or pin.sampler_id is None:
            return pin.run_id
        return self._sampler(pin.sampler_id, owner).run_id

    def _target(self, pin: SamplerPin, owner: str) -> Target:
        if pin.checkpoint_path is not None:
            record = self._checkpoints.find(pin.checkpoint_path, owner=owner)
            return Target(base_model=record.base_model, choose=self._pinned(record, pin))
        if pin.run_id is not None:
            return Target(base_model=self._run_model(pin.run_id, owner), choose=self._floor(pin))
        if pin.sampler_id is None:
            raise UsageError("a sample needs a run, a sampler or a checkpoint to come from")
        return self._standalone(self._sampler(pin.sampler_id, owner), pin)

    def _run_model(self, run_id: str, owner: str) -> str:
        run = self._records.run(run_id, owner=owner)
        if run is None or run.ended_s is not None:
            raise NotFoundError(
                f"run_id {run_id!r}: there is no such active run", kind="run", name=run_id
            )
        return run.base_model

    def _sampler(self, sampler_id: str, owner: str) -> SamplerEntry:
        sampler = self._records.sampler(sampler_id, owner=owner)
        if sampler is None:
            message = f"sampler_id {sampler_id!r}: there is no such sampler"
            raise NotFoundError(message, kind="sampler", name=sampler_id)
        return sampler

    def _standalone(self, sampler: SamplerEntry, pin: SamplerPin) -> Target:
        if sampler.model_path is not None:
            record = self._checkpoints.find(sampler.model_path, owner=sampler.owner)
            return Target(base_model=record.base_model, choose=self._pinned(record, SamplerPin()))
        if sampler.run_id is not None:
            self._run_model(sampler.run_id, sampler.owner)
            paired = SamplerPin(run_id=sampler.run_id, min_policy_version=pin.min_policy_version)
            return Target(base_model=sampler.base_model, choose=self._floor(paired))
        return Target(base_model=sampler.base_model, choose=Weights)

    def _floor(self, pin: SamplerPin) -> Choose:
        run_id, floor = pin.run_id or "", pin.min_policy_version or 0
        self.live_of(run_id)

        def choose() -> Weights | None:
            weights = self._live.get(run_id)
            return weights if (weights.version or 0) >= floor else None

        return choose

    def _pinned(self, record: CheckpointRecord, pin: SamplerPin) -> Choose:
        """Serve the checkpoint, until the run's live weights have reached the floor."""
        checkpoint = self.loaded(record)
        if pin.run_id is not None:
            self.live_of(pin.run_id)

        def choose() -> Weights:
            if pin.run_id is None or pin.min_policy_version is None:
                return checkpoint
            live = self._live.get(pin.run_id)
            return live if (live.version or 0) >= pin.min_policy_version else checkpoint

        return choose


def check_sample(body: SampleBody, sampler: SamplerDescription) -> None:
    """Raise `UsageError` for a request that this sampler cannot answer."""
    _check_prompt(body, sampler)
    if body.n > _MAX_SAMPLES:
        raise UsageError(f"num_samples must be from 1 to {_MAX_SAMPLES}, not {body.n}", field="n")
    top_k = body.prompt_logprobs
    if top_k is not None and not 0 <= top_k <= sampler.vocab_size:
        raise UsageError(
            f"topk_prompt_logprobs is {top_k}: expected 0 to {sampler.vocab_size}, the number of "
            "tokens there are",
            field="topk_prompt_logprobs",
        )
    if body.seed is not None and not 0 <= body.seed < 2**63:
        raise UsageError(f"seed must be from 0 to 2**63 - 1, not {body.seed}", field="seed")
    asked = {
        "top_k": body.top_k is not None and body.top_k > 0,
        "top_p": body.top_p < 1.0,
        "stop_strings": body.stop is not None and len(body.stop) > 0,
        "prompt_logprobs": body.prompt_logprobs is not None,
        "structured_outputs": body.structured_outputs is not None,
    }
    for feature, wanted in asked.items():
        if wanted and feature not in sampler.features:
            raise UnsupportedError(
                f"{feature} is not offered by this sampler: it offers "
                f"{', '.join(sorted(sampler.features)) or 'none of the optional features'}",
                field=feature,
            )
    _check_stop(body, sampler)
    if body.include_routed_experts:
        raise UnsupportedError(
            "include_routed_experts is not offered by this sampler", field="include_routed_experts"
        )


def _check_stop(body: SampleBody, sampler: SamplerDescription) -> None:
    strings = [body.stop] if isinstance(body.stop, str) else body.stop or []
    if strings and not sampler.has_tokenizer:
        raise UnsupportedError(
            "stop strings need a tokenizer, which the model's directory does not have: "
            "use stop token ids",
            field="stop",
        )
    if "" in strings:
        raise UsageError("stop holds '': expected texts of at least one character", field="stop")
    for token in body.stop_token_ids or ():
        if not 0 <= token < sampler.vocab_size:
            raise UsageError(
                f"stop holds {token}: expected token ids from 0 to {sampler.vocab_size - 1}",
                field="stop",
            )


def _check_prompt(body: SampleBody, sampler: SamplerDescription) -> None:
    if body.model_input_chunks is not None:
        raise UnsupportedError("image prompts are not read by this sampler", field="prompt")
    if not body.prompt:
        raise UsageError("prompt is empty: expected at least one token id", field="prompt")
    for position, token in enumerate(body.prompt):
        if not 0 <= token < sampler.vocab_size:
            raise UsageError(
                f"prompt[{position}] is {token}: expected a token id from 0 to "
                f"{sampler.vocab_size - 1}",
                field="prompt",
            )
    room = sampler.max_seq_len - len(body.prompt)
    if room < 1:
        raise UsageError(
            f"prompt has {len(body.prompt)} tokens: expected at most {sampler.max_seq_len - 1}, so "
            "that one more fits into the context",
            field="prompt",
        )
    if body.max_tokens is not None and body.max_tokens > room:
        raise UsageError(
            f"max_tokens is {body.max_tokens}, but after a prompt of {len(body.prompt)} tokens the "
            f"context of {sampler.max_seq_len} has room for {room}",
            field="max_tokens",
        )


def to_request(body: SampleBody, weights: Weights, seed: int) -> SampleRequest:
    """Return the body as a sampler reads it."""
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return SampleRequest(
        prompt=tuple(body.prompt),
        adapter_id=weights.adapter_id,
        seed=seed,
        num_samples=body.n,
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        top_k=body.top_k if body.top_k is not None and body.top_k > 0 else None,
        top_p=body.top_p,
        stop_token_ids=tuple(body.stop_token_ids or ()),
        stop_strings=stop,
        top_k_prompt_logprobs=body.prompt_logprobs,
    )


def to_completions(body: SampleBody, answer: Answer) -> Completions:
    """Return an answer in the completions shape."""
    prompt_logprobs = _prompt_logprobs(answer.outcome)
    choices = [
        _choice(index, sequence, body, prompt_logprobs)
        for index, sequence in enumerate(answer.outcome.sequences)
    ]
    return Completions(choices=choices, seed=answer.seed, policy_version=answer.weights.version)


def _choice(
    index: int,
    sequence: SampledTokens,
    body: SampleBody,
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None,
) -> CompletionChoice:
    markers: list[str | int] = [f"token_id:{token}" for token in sequence.tokens]
    return CompletionChoice(
        index=index,
        text=sequence.text,
        finish_reason=sequence.stop_reason,
        logprobs=ChoiceLogprobs(tokens=markers, token_logprobs=list(sequence.logprobs)),
        token_ids=list(sequence.tokens),
        prompt_token_ids=list(body.prompt) if index == 0 else None,
        prompt_logprobs=prompt_logprobs if index == 0 else None,
    )


def _prompt_logprobs(outcome: SampleOutcome) -> list[dict[str, PromptLogprob] | None] | None:
    if outcome.prompt_logprobs is None:
        return None
    return [
        None
        if pairs is None
        else {str(token): PromptLogprob(logprob=logprob) for token, logprob in pairs}
        for pairs in outcome.prompt_logprobs
    ]
