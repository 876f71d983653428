"""Faults of the client and of its HTTP transport: what is not sent, not read, or read wrongly."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_STEPS: Final = "loops_core.client.steps"
_FUTURE: Final = "loops_core.client.waiting:BaseFuture"
_BODY: Final = "loops_core.client.completions:sample_body"
_HEADERS: Final = "loops_transport_http.client.requests:_add_call_headers"

CLIENT: Final = (
    Mutant(
        "client.timeout-is-final",
        "a future whose wait timed out can never be read again",
        "client",
        (
            Edit(
                f"{_FUTURE}.wait_flow",
                "raise self.timed_out()",
                "self._settle(Outcome(error=self.timed_out()))",
            ),
        ),
    ),
    Mutant(
        "client.own-key-ignored",
        "a retry by the caller doubles gradients: idempotency_key is not passed on",
        "client",
        (
            Edit(
                "loops_core.client.link:TrainerLink.submit_all",
                "idempotency_key or new_key()",
                "new_key()",
            ),
            Edit(
                "loops_core.client.link:TrainerLink.submit_parts",
                "idempotency_key or new_key()",
                "new_key()",
            ),
        ),
    ),
    Mutant(
        "client.adam-params-dropped",
        "optim_step uses default settings whatever it is given",
        "client",
        (
            Edit(
                f"{_STEPS}:optim_step",
                "AdamParams.model_validate(given.model_dump())",
                "AdamParams()",
            ),
        ),
    ),
    Mutant(
        "client.loss-config-dropped",
        "the settings of a loss are not sent",
        "client",
        (
            Edit(
                "loops_core.client.passes:_bodies",
                "ForwardBody(data=data, loss_fn=loss_fn, loss_fn_config=loss_fn_config, "
                "top_k_logprobs=top_k_logprobs)",
                "ForwardBody(data=data, loss_fn=loss_fn, top_k_logprobs=top_k_logprobs)",
            ),
        ),
    ),
    Mutant(
        "client.ttl-dropped",
        "ttl_seconds is not sent",
        "client",
        (Edit(f"{_STEPS}:save_state", "_ttl(ttl_seconds)", "None"),),
    ),
    Mutant(
        "client.publishes-silently",
        "save_weights_for_sampler never reaches the live sampler: it says bump_version false",
        "client",
        (
            Edit(
                f"{_STEPS}:save_weights_for_sampler",
                "SaveWeightsForSamplerBody("
                "name=name, ttl_seconds=_ttl(ttl_seconds), bump_version=True)",
                "SaveWeightsForSamplerBody("
                "name=name, ttl_seconds=_ttl(ttl_seconds), bump_version=False)",
            ),
        ),
    ),
    Mutant(
        "client.loads-swapped",
        "load_state_with_optimizer asks for load_state",
        "client",
        (
            Edit(
                f"{_STEPS}:load",
                "link.submit(kind, LoadWeightsResponse, body)",
                "link.submit(OperationKind.LOAD_STATE, LoadWeightsResponse, body)",
            ),
        ),
    ),
    Mutant(
        "client.custom-loss-sign",
        "a custom loss goes up: its gradient is sent with the wrong sign",
        "client",
        (Edit("loops_core.client.custom_loss:custom_pass", "-grad", "grad"),),
    ),
    Mutant(
        "client.pin-dropped",
        "create_sampling_client(model_path) samples from live weights",
        "client",
        (
            Edit(
                "loops_core.client.publishing:_client",
                "checkpoint_path",
                "None",
            ),
        ),
    ),
    Mutant(
        "client.seed-not-sent",
        "SamplingParams(seed=...) has no effect",
        "client",
        (Edit(_BODY, "given.seed", "None"),),
    ),
    Mutant(
        "client.stop-not-sent",
        "SamplingParams(stop=[...]) has no effect",
        "client",
        (
            Edit(
                _BODY,
                "stop_ids, stop_texts = _stops(given.stop)",
                "stop_ids, stop_texts = (None, None)",
            ),
        ),
    ),
    Mutant(
        "client.scores-shifted",
        "compute_logprobs returns one score too few and shifts the rest",
        "client",
        (
            Edit(
                "loops_core.client.completions:_actual",
                "return values",
                "return [*values[1:], None]",
            ),
        ),
    ),
    Mutant(
        "client.echo-always-cut",
        "a completion that begins like its prompt loses its beginning",
        "client",
        (
            Edit(
                "loops_core.client.completions:_read_choice",
                "0 if choice.token_ids else _echoed(tokens, body)",
                "sum(1 for a, b in zip(tokens[:1], body.prompt[:1]) if a == b)",
            ),
        ),
    ),
    Mutant(
        "client.errors-swallowed",
        "a failed operation reads as a result of defaults",
        "client",
        (
            Edit(
                "loops_core.client.polling:read_status",
                "return Outcome(error=ref.own(_error_of(status)))",
                "return Outcome(value=ref.result_type.model_construct())",
            ),
        ),
    ),
    Mutant(
        "client.sends-out-of-order",
        "calls of several threads overtake each other while one is being sent",
        "client",
        (
            Edit(
                "loops_core.client.turns:Turnstile._is_first",
                "next(iter(self._queue)) is turn",
                "True",
            ),
        ),
    ),
    Mutant(
        "client.hammers",
        "a client whose polls come back early asks again without a pause",
        "client",
        (
            Edit(
                "loops_core.client.futures:OperationFuture._after_pending",
                "polling.pause_after_early_answer(self._early, held_s=held_s, hold_s=hold_s)",
                "0.0",
            ),
        ),
    ),
    Mutant(
        "client.retries-with-new-keys",
        "a lost answer doubles an operation: each attempt has a key of its own",
        "client",
        (
            Edit(
                "loops_core.client.drivers:Driver.persist",
                "_within(call, left_s if attempts else budget_s)",
                "dataclasses.replace(_within(call, left_s if attempts else budget_s), "
                "idempotency_key=call.idempotency_key and "
                "f'{call.idempotency_key}-{attempts}')",
            ),
        ),
    ),
    Mutant(
        "client.gives-up-at-once",
        "one lost connection ends a run: nothing is retried",
        "client",
        (
            Edit(
                "loops_core.client.drivers:Driver.persist",
                "pause is None",
                "True",
            ),
        ),
    ),
    Mutant(
        "client.never-gives-up",
        "a service that answers 5xx for ever is asked for ever",
        "client",
        (
            Edit(
                "loops_core.client.polling:pause_after_failure",
                "pause if pause <= left_s else None",
                "pause",
            ),
        ),
    ),
    Mutant(
        "client.retry-after-ignored",
        "the pause that a busy service asks for is not kept",
        "client",
        (
            Edit(
                "loops_core.client.polling:pause_after_failure",
                "error.retry_after_s if isinstance(error, BusyError) else None",
                "None",
            ),
        ),
    ),
    Mutant(
        "client.poll-failure-is-final",
        "one 502 on a poll loses the result, though the operation goes on",
        "client",
        (
            Edit(
                "loops_core.client.futures:OperationFuture.advance",
                "self._after_trouble(error)",
                "self._settle(Outcome(error=self._ref.own(error)))",
            ),
        ),
    ),
    Mutant(
        "transport.key-not-sent",
        "the header Idempotency-Key is missing: every retry runs again",
        "transport",
        (Edit(_HEADERS, "call.idempotency_key is not None", "False"),),
    ),
    Mutant(
        "transport.path-not-sent",
        "the header X-Checkpoint-Path is missing: pinned clients sample live weights",
        "transport",
        (Edit(_HEADERS, "pin.checkpoint_path is not None", "False"),),
    ),
    Mutant(
        "transport.floor-not-sent",
        "the header X-Min-Policy-Version is missing: a client made from a path never follows",
        "transport",
        (Edit(_HEADERS, "if pin.min_policy_version:\n"
              "    headers[names.MIN_POLICY_VERSION] = str(pin.min_policy_version)", "pass"),),
    ),
    Mutant(
        "transport.version-not-read",
        "policy_version of every response is None",
        "transport",
        (
            Edit(
                "loops_transport_http.client.replies:read_reply",
                "int(version) if version.isascii() and version.isdigit() else None",
                "None",
            ),
        ),
    ),
    Mutant(
        "transport.zero-version-not-read",
        "samples of the base model have no policy version",
        "transport",
        (
            Edit(
                "loops_transport_http.client.replies:read_reply",
                "int(version) if version.isascii() and version.isdigit() else None",
                "(int(version) or None) if version.isdigit() else None",
            ),
        ),
    ),
    Mutant(
        "transport.results-mixed-up",
        "of several operations that are polled at once each gets the result of another",
        "transport",
        (
            Edit(
                "loops_transport_http.client.polls:ThreadPolls._ask_for",
                "self._carry(_shared(call, asking)).operations",
                "(lambda got: dict(zip(got, list(got.values())[::-1])))"
                "(self._carry(_shared(call, asking)).operations)",
            ),
        ),
    ),
    Mutant(
        "transport.pending-is-an-error",
        "an operation that takes longer than one poll fails in the client",
        "transport",
        (
            Edit(
                "loops_transport_http.client.replies:_known_answer",
                "call.route.name == routes.RETRIEVE.name and is_timeout",
                "False",
            ),
            Edit(
                "loops_transport_http.client.replies:_refusal",
                "error = read_error(status, headers, content)",
                "error = read_error(status, headers, content)\n"
                "if status == 408:\n"
                "    return UsageError('408')",
            ),
        ),
    ),
    Mutant(
        "transport.gone-is-retried",
        "a result that has expired is asked for until the time is over",
        "transport",
        (
            Edit(
                "loops_transport_http.client.replies:_refusal",
                "error = read_error(status, headers, content)",
                "error = read_error(status, headers, content)\n"
                "if status in _GONE:\n"
                "    return UnreachableError('404')",
            ),
        ),
    ),
)
"""The faults of clients."""
