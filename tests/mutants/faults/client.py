"""Faults of the client: what is not sent, not read, or read wrongly."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_STEPS: Final = "loops_core.client.steps"
_BODY: Final = "loops_core.client.completions:sample_body"

CLIENT: Final = (
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
)
"""The faults of the client."""
