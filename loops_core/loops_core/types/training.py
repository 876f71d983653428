"""What goes to a trainer and comes back: Adam, losses and results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from loops_core.types.base import WireModel
from loops_core.types.tensor import TensorData

LossFnType = Literal["cross_entropy", "importance_sampling", "ppo", "cispo", "dro", "dpo", "dppo"]
"""The names of the protocol's losses; plugins may bring more."""

LossFnConfig = Mapping[str, float | int | bool | str]
"""Settings of a loss by name."""

IGNORED_TARGET = -100
"""A target that asks for no loss, no gradient and no count."""

Tensors = dict[str, TensorData]
"""Tensors by name."""

_Finite = Field(allow_inf_nan=False)


class AdamParams(WireModel):
    """One optimizer step's settings; a schedule is a new value at every call.

    Attributes:
        learning_rate: step size, >= 0.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        eps: added to the root of the second moment, > 0.
        weight_decay: decoupled decay: weights shrink by learning_rate * weight_decay, >= 0.
        grad_clip_norm: largest global gradient norm after normalisation; 0 turns clipping off.
    """

    learning_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-4
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.95
    eps: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-12
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    grad_clip_norm: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0


class ForwardBackwardOutput(WireModel):
    """The result of `forward` and `forward_backward`.

    Attributes:
        loss: mean over the request's active positions, in nats where the loss is a log-likelihood.
        loss_fn_output_type: what `loss_fn_outputs` holds, such as `per_token_logprobs`.
        loss_fn_outputs: tensors by name for every datum, in the order of the data; `logprobs` is
            float32 in the shape of `target_tokens`, NaN where a position is ignored.
        metrics: finite numbers by name.
    """

    loss: Annotated[float, _Finite] = 0.0
    loss_fn_output_type: str = ""
    loss_fn_outputs: list[dict[str, TensorData]] = Field(
        default_factory=list[dict[str, TensorData]]
    )
    metrics: dict[str, Annotated[float, _Finite]] = Field(default_factory=dict)


class OptimStepResponse(WireModel):
    """The result of `optim_step`: `grad_norm`, `learning_rate`, `step`, `active_tokens`, ..."""

    metrics: dict[str, Annotated[float, _Finite]] | None = None


class SaveWeightsResponse(WireModel):
    """The result of `save_state` and, with a version, of the saves for the sampler.

    Attributes:
        mode: how the weights were kept: `local`, or `local+published`.
        path: the checkpoint's `bt://` address.
        version: the published policy version; None where nothing was published.
    """

    mode: str = ""
    path: str = ""
    version: int | None = None


class SaveWeightsForSamplerResponse(SaveWeightsResponse):
    """The result of publishing weights to the paired sampler."""

    version: int = 0  # pyright: ignore[reportIncompatibleVariableOverride]  # never None here


class LoadWeightsResponse(WireModel):
    """The result of `load_state` and `load_state_with_optimizer`: the trainer's step afterwards."""

    step: int = 0


class InitTrainerServerResponse(WireModel):
    """The result of `init_trainer_server`: a fresh adapter of `lora_rank` at step 0."""

    step: int = 0
    lora_rank: int


class ModelData(WireModel):
    """Names of the base model."""

    arch: str | None = None
    model_name: str | None = None
    tokenizer_id: str | None = None


class GetInfoResponse(WireModel):
    """What a training client knows of its session without asking the service."""

    model_data: ModelData = Field(default_factory=ModelData)
    model_name: str | None = None
    is_lora: bool | None = None
    lora_rank: int | None = None
    max_seq_len: int | None = None


class WandbConfig(WireModel):
    """Where Weights & Biases should keep a run's metrics."""

    project: str
    name: str | None = None
