"""The operations of a trainer: bodies, results, states, and the table that names them all."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import (
    AliasChoices,
    Field,
    JsonValue,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from loops_core.types.base import WireModel
from loops_core.types.datum import Datum
from loops_core.types.training import (
    AdamParams,
    ForwardBackwardOutput,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    LossFnConfig,
    OptimStepResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
)


class OperationKind(StrEnum):
    """The name of an operation; its path is the same word."""

    INIT_TRAINER_SERVER = "init_trainer_server"
    FORWARD = "forward"
    FORWARD_BACKWARD = "forward_backward"
    OPTIM_STEP = "optim_step"
    SAVE_STATE = "save_state"
    SAVE_WEIGHTS_FOR_SAMPLER = "save_weights_for_sampler"
    LOAD_STATE = "load_state"
    LOAD_STATE_WITH_OPTIMIZER = "load_state_with_optimizer"


class OperationBody(WireModel):
    """What every operation's body carries.

    Attributes:
        seq_id: the client's own count of its operations; never a rule of order.
        run_id: the run that the operation belongs to.
        model: the base model; routes the request where capacity is shared.
    """

    seq_id: int | None = None
    run_id: str | None = Field(
        default=None, validation_alias=AliasChoices("run_id", "trainer_server_id")
    )
    model: str | None = None


class InitTrainerServerBody(OperationBody):
    """Asks for a fresh adapter of `lora_rank` and an empty optimizer."""

    lora_rank: int
    base_model: str | None = None


class ForwardBody(OperationBody):
    """Asks for a pass over `data`, with or without gradients."""

    data: list[Datum]
    loss_fn: str = "cross_entropy"
    loss_fn_config: LossFnConfig | None = None
    top_k_logprobs: Annotated[int, Field(ge=0, le=20)] = 0


class OptimStepBody(OperationBody):
    """Asks for one optimizer step with the gradients added up since the last one."""

    adam_params: AdamParams


class SaveStateBody(OperationBody):
    """Asks for a resumable checkpoint."""

    name: str
    ttl_seconds: Annotated[int, Field(ge=1)] | None = None


class SaveWeightsForSamplerBody(OperationBody):
    """Asks for the adapter to be published.

    Attributes:
        bump_version: absent or true: the paired sampler swaps to the new weights. False: they are
            reachable by their checkpoint path only. The policy version rises either way.
    """

    name: str
    ttl_seconds: Annotated[int, Field(ge=1)] | None = None
    bump_version: bool | None = None


class LoadStateBody(OperationBody):
    """Asks for the weights at `path`, a checkpoint address or a directory that the worker reads."""

    path: str


@dataclass(frozen=True, slots=True)
class OperationSpec:
    """One row of the table.

    Attributes:
        kind: the operation's name.
        body_type: what is submitted.
        result_type: what is retrieved.
    """

    kind: OperationKind
    body_type: type[OperationBody]
    result_type: type[WireModel]

    @property
    def path(self) -> str:
        """Return the path below the trainer's address."""
        return f"/{self.kind.value}"


OPERATIONS: Final[dict[OperationKind, OperationSpec]] = {
    spec.kind: spec
    for spec in (
        OperationSpec(
            OperationKind.INIT_TRAINER_SERVER, InitTrainerServerBody, InitTrainerServerResponse
        ),
        OperationSpec(OperationKind.FORWARD, ForwardBody, ForwardBackwardOutput),
        OperationSpec(OperationKind.FORWARD_BACKWARD, ForwardBody, ForwardBackwardOutput),
        OperationSpec(OperationKind.OPTIM_STEP, OptimStepBody, OptimStepResponse),
        OperationSpec(OperationKind.SAVE_STATE, SaveStateBody, SaveWeightsResponse),
        OperationSpec(
            OperationKind.SAVE_WEIGHTS_FOR_SAMPLER,
            SaveWeightsForSamplerBody,
            SaveWeightsForSamplerResponse,
        ),
        OperationSpec(OperationKind.LOAD_STATE, LoadStateBody, LoadWeightsResponse),
        OperationSpec(OperationKind.LOAD_STATE_WITH_OPTIMIZER, LoadStateBody, LoadWeightsResponse),
    )
}
"""Every operation; client and worker read this table and no other."""


class Accepted(WireModel):
    """The answer to a submit: the operation is in the log.

    Attributes:
        operation_id: the operation's handle.
        missing_parts: for a part of a batch: the parts that have not arrived yet. The operation is
            in the log once there are none.
    """

    operation_id: Annotated[str, Field(min_length=1)]
    schema_version: Literal[1] = 1
    missing_parts: list[int] = Field(default_factory=list[int])


ErrorField = str | int | float | None
"""A field of an error as it travels."""


class ErrorBody(WireModel):
    """An error as it is stored and travels; `loops_core.errors` turns it into its exception.

    Attributes:
        code: the exception class's name.
        message: what was wrong.
        fields: the exception's other attributes that are set.
    """

    code: str
    message: str
    fields: dict[str, ErrorField] = Field(default_factory=dict)


class OperationStatus(WireModel):
    """The answer to a poll.

    Attributes:
        status: `pending` while the operation waits or runs.
        operation: which operation it is, where the service says so.
        result: the result when done, a value of `OPERATIONS[operation].result_type`; the JSON that
            this type reads, where the service does not name the operation.
        error: the message, when failed.
        error_class: the exception class on the worker, when failed.
        error_body: the whole error, where the service sends it.
    """

    status: Literal["pending", "done", "error"]
    operation: OperationKind | None = None
    result: JsonValue | SerializeAsAny[WireModel] = None
    error: str | None = None
    error_class: str | None = None
    error_body: ErrorBody | None = None

    @field_validator("result", mode="wrap")
    @classmethod
    def _read_result(
        cls, result: object, read: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> object:
        operation: OperationKind | None = info.data.get("operation")
        if isinstance(result, dict) and operation is not None:
            expected = OPERATIONS[operation].result_type
            with contextlib.suppress(ValidationError):  # whoever waits for it says what is wrong
                return expected.model_validate(result, context=info.context)
        return read(result)


MOST_POLLED = 10_000
"""Most operations that one shared poll may ask for."""


class PollBody(WireModel):
    """Asks for whichever of these operations have ended."""

    operation_ids: Annotated[list[str], Field(min_length=1, max_length=MOST_POLLED)]


class PollReply(WireModel):
    """The answer to a shared poll: the operations that have ended, by id; none at a hold's end.

    An operation that nobody knows counts as ended, with `UnknownRequestError`.
    """

    operations: dict[str, OperationStatus]


class CancelReply(WireModel):
    """The answer to a cancel: whether the operation will never run."""

    cancelled: bool
