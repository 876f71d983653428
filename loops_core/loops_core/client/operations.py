"""The operations that a training client hands to its trainer, each with its `*_async` twin."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from loops_core.client import steps
from loops_core.client.custom_loss import CustomLossFn, Framework, custom_pass
from loops_core.client.drivers import twin_of
from loops_core.client.futures import ForwardBackwardFuture, OperationFuture
from loops_core.client.link import TrainerLink
from loops_core.client.passes import submit_pass
from loops_core.types.datum import Datum
from loops_core.types.operation import OperationKind
from loops_core.types.training import (
    AdamParams,
    InitTrainerServerResponse,
    LoadWeightsResponse,
    LossFnConfig,
    OptimStepResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
)


class TrainingOperations(ABC):
    """What a trainer can be asked to do; `TrainingClient` is the one class of it.

    Operations are sent one after another in the order of the calls, from whatever threads and event
    loops, and run in that order. A call returns once the service has accepted its operation; any
    number may be accepted before a result is read.
    """

    def __init__(self, link: TrainerLink) -> None:
        self._link = link
        self._run = link.driver.run
        self._run_async = link.driver.run_async

    @property
    @abstractmethod
    def run_id(self) -> str | None:
        """Return the run that this client is bound to."""

    def forward_backward(
        self,
        data: Sequence[Datum],
        loss_fn: str = "cross_entropy",
        loss_fn_config: LossFnConfig | None = None,
        *,
        top_k_logprobs: int = 0,
        idempotency_key: str | None = None,
    ) -> ForwardBackwardFuture:
        """Submit a forward and backward pass, whose gradients add up until the next `optim_step`.

        Args:
            data: the examples, at least one.
            loss_fn: the loss's name.
            loss_fn_config: the loss's settings by name.
            top_k_logprobs: how many most likely tokens to return with each position; 0 = none.
            idempotency_key: your own name for this pass: the same call again under it, after a
                failure or from another process, never adds the gradients twice. None makes one.

        Returns:
            A future of the loss, the per-token outputs and the metrics.

        Raises:
            UsageError: an argument is wrong; nothing was submitted.
            TransportError: the service accepted nothing within the client's `timeout`.
        """
        return self._run(
            submit_pass(
                self._link,
                OperationKind.FORWARD_BACKWARD,
                data,
                loss_fn,
                loss_fn_config,
                top_k_logprobs=top_k_logprobs,
                idempotency_key=idempotency_key,
            )
        )

    @twin_of(forward_backward)
    async def forward_backward_async(
        self,
        data: Sequence[Datum],
        loss_fn: str = "cross_entropy",
        loss_fn_config: LossFnConfig | None = None,
        *,
        top_k_logprobs: int = 0,
        idempotency_key: str | None = None,
    ) -> ForwardBackwardFuture:
        return await self._run_async(
            submit_pass(
                self._link,
                OperationKind.FORWARD_BACKWARD,
                data,
                loss_fn,
                loss_fn_config,
                top_k_logprobs=top_k_logprobs,
                idempotency_key=idempotency_key,
            )
        )

    def forward(
        self,
        data: Sequence[Datum],
        loss_fn: str = "cross_entropy",
        loss_fn_config: LossFnConfig | None = None,
        *,
        top_k_logprobs: int = 0,
        idempotency_key: str | None = None,
    ) -> ForwardBackwardFuture:
        """Submit a forward pass, which leaves the gradients as they are.

        Args:
            data: the examples, at least one.
            loss_fn: the loss's name.
            loss_fn_config: the loss's settings by name.
            top_k_logprobs: how many most likely tokens to return with each position; 0 = none.
            idempotency_key: your own name for this pass; None makes one.

        Returns:
            A future of the loss, the per-token outputs and the metrics.

        Raises:
            UsageError: an argument is wrong; nothing was submitted.
            TransportError: the service accepted nothing within the client's `timeout`.
        """
        return self._run(
            submit_pass(
                self._link,
                OperationKind.FORWARD,
                data,
                loss_fn,
                loss_fn_config,
                top_k_logprobs=top_k_logprobs,
                idempotency_key=idempotency_key,
            )
        )

    @twin_of(forward)
    async def forward_async(
        self,
        data: Sequence[Datum],
        loss_fn: str = "cross_entropy",
        loss_fn_config: LossFnConfig | None = None,
        *,
        top_k_logprobs: int = 0,
        idempotency_key: str | None = None,
    ) -> ForwardBackwardFuture:
        return await self._run_async(
            submit_pass(
                self._link,
                OperationKind.FORWARD,
                data,
                loss_fn,
                loss_fn_config,
                top_k_logprobs=top_k_logprobs,
                idempotency_key=idempotency_key,
            )
        )

    def forward_backward_custom(
        self,
        data: Sequence[Datum],
        loss_fn: CustomLossFn,
        *,
        loss_type_input: str = "logprobs",
        framework: Framework | None = None,
    ) -> ForwardBackwardFuture:
        """Submit a pass whose loss is your own function of the targets' log-probabilities.

        Fetches the log-probabilities with one forward pass and waits for it, differentiates
        `loss_fn`, and submits a backward pass that gives the adapter exactly that gradient.
        Gradients are plain sums, not divided by token counts, and do not mix with other passes
        before one `optim_step`.

        Args:
            data: the examples; their `loss_fn_inputs` hold `target_tokens` only.
            loss_fn: takes the data and a list of log-probabilities, one tensor a datum in the shape
                of its `target_tokens`, 0 where ignored; returns a scalar and a dict of metrics.
            loss_type_input: what `loss_fn` reads; `logprobs` is all there is.
            framework: what `loss_fn` is written with, `torch` or `jax`. None takes the one that is
                installed; of two, the one that the function's code refers to; else torch.

        Returns:
            A future of the backward pass's result; its metrics hold `custom_loss`, the value of
            `loss_fn`, and the metrics that it returned. Its `loss` is that of the backward pass.

        Raises:
            UsageError: an argument is wrong, or `loss_fn` gave no usable loss or gradient.
            UnsupportedError: the framework is not installed, or the service cannot run this.
            ResultTimeoutError: the forward pass took longer than `ready_timeout`.
        """
        return self._run(custom_pass(self._link, data, loss_fn, loss_type_input, framework))

    @twin_of(forward_backward_custom)
    async def forward_backward_custom_async(
        self,
        data: Sequence[Datum],
        loss_fn: CustomLossFn,
        *,
        loss_type_input: str = "logprobs",
        framework: Framework | None = None,
    ) -> ForwardBackwardFuture:
        return await self._run_async(
            custom_pass(self._link, data, loss_fn, loss_type_input, framework)
        )

    def optim_step(
        self, adam_params: AdamParams, *, idempotency_key: str | None = None
    ) -> OperationFuture[OptimStepResponse]:
        """Submit one optimizer step with the gradients added up since the last one.

        Args:
            adam_params: the step's settings; a schedule passes new ones at every call.
            idempotency_key: your own name for this step: the same call again under it never steps
                twice. None makes one.

        Returns:
            A future of the metrics: `grad_norm`, `learning_rate`, `step`, `active_tokens`.

        Raises:
            UsageError: an argument is wrong; nothing was submitted.
            TransportError: the service accepted nothing within the client's `timeout`.
        """
        return self._run(steps.optim_step(self._link, adam_params, idempotency_key))

    @twin_of(optim_step)
    async def optim_step_async(
        self, adam_params: AdamParams, *, idempotency_key: str | None = None
    ) -> OperationFuture[OptimStepResponse]:
        return await self._run_async(steps.optim_step(self._link, adam_params, idempotency_key))

    def save_state(
        self, name: str, ttl_seconds: int | None = None
    ) -> OperationFuture[SaveWeightsResponse]:
        """Submit the save of a checkpoint that training can be resumed from.

        Args:
            name: what to call it; saving a name again replaces what the name means.
            ttl_seconds: it may be deleted this long after it was made; None = kept.

        Returns:
            A future of the checkpoint's address.

        Raises:
            UsageError: an argument is wrong; nothing was submitted.
            TransportError: the service accepted nothing within the client's `timeout`.
        """
        return self._run(steps.save_state(self._link, name, ttl_seconds))

    @twin_of(save_state)
    async def save_state_async(
        self, name: str, ttl_seconds: int | None = None
    ) -> OperationFuture[SaveWeightsResponse]:
        return await self._run_async(steps.save_state(self._link, name, ttl_seconds))

    def save_weights_for_sampler(
        self, name: str, ttl_seconds: int | None = None
    ) -> OperationFuture[SaveWeightsForSamplerResponse]:
        """Submit the publishing of the adapter to the paired sampler, which swaps to it.

        Args:
            name: what to call the checkpoint.
            ttl_seconds: it may be deleted this long after it was made; None = kept.

        Returns:
            A future of the checkpoint's address and the published policy version.

        Raises:
            UsageError: an argument is wrong; nothing was submitted.
            TransportError: the service accepted nothing within the client's `timeout`.
        """
        return self._run(steps.save_weights_for_sampler(self._link, name, ttl_seconds))

    @twin_of(save_weights_for_sampler)
    async def save_weights_for_sampler_async(
        self, name: str, ttl_seconds: int | None = None
    ) -> OperationFuture[SaveWeightsForSamplerResponse]:
        return await self._run_async(steps.save_weights_for_sampler(self._link, name, ttl_seconds))

    def load_state(self, path: str) -> OperationFuture[LoadWeightsResponse]:
        """Submit the load of a checkpoint's weights; the optimizer starts fresh.

        Args:
            path: `bt://loops:<run_id>/weights/<name>`, or a directory that the trainer can read.

        Returns:
            A future of the trainer's step.

        Raises:
            UsageError: an argument is wrong; nothing was submitted.
            TransportError: the service accepted nothing within the client's `timeout`.
        """
        return self._run(steps.load(self._link, OperationKind.LOAD_STATE, path))

    @twin_of(load_state)
    async def load_state_async(self, path: str) -> OperationFuture[LoadWeightsResponse]:
        return await self._run_async(steps.load(self._link, OperationKind.LOAD_STATE, path))

    def load_state_with_optimizer(self, path: str) -> OperationFuture[LoadWeightsResponse]:
        """Submit the load of a checkpoint's weights, moments and step: resumes bit-exactly.

        Args:
            path: `bt://loops:<run_id>/weights/<name>`.

        Returns:
            A future of the trainer's step.

        Raises:
            UsageError: an argument is wrong; nothing was submitted.
            TransportError: the service accepted nothing within the client's `timeout`.
        """
        kind = OperationKind.LOAD_STATE_WITH_OPTIMIZER
        return self._run(steps.load(self._link, kind, path))

    @twin_of(load_state_with_optimizer)
    async def load_state_with_optimizer_async(
        self, path: str
    ) -> OperationFuture[LoadWeightsResponse]:
        kind = OperationKind.LOAD_STATE_WITH_OPTIMIZER
        return await self._run_async(steps.load(self._link, kind, path))

    def init_trainer_server(self, lora_rank: int) -> OperationFuture[InitTrainerServerResponse]:
        """Submit the reset of the trainer to a fresh adapter, an empty optimizer and step 0.

        Args:
            lora_rank: the adapter's rank.

        Returns:
            A future of the rank and the step.

        Raises:
            UsageError: an argument is wrong; nothing was submitted.
            TransportError: the service accepted nothing within the client's `timeout`.
        """
        return self._run(steps.init_trainer_server(self._link, lora_rank))

    @twin_of(init_trainer_server)
    async def init_trainer_server_async(
        self, lora_rank: int
    ) -> OperationFuture[InitTrainerServerResponse]:
        return await self._run_async(steps.init_trainer_server(self._link, lora_rank))
