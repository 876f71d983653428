"""Forms of methods that other versions of the API have, for code that was written for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loops_core.client.sampling import SamplingClient
    from loops_core.client.training import TrainingClient


def save_weights_and_get_sampling_client(
    training_client: TrainingClient, name: str = "default"
) -> SamplingClient:
    """Return the sampling client itself, where `TrainingClient` returns a future of it.

    Blocks until the weights are published and the sampler has them.

    Args:
        training_client: whose weights to publish.
        name: what to call the checkpoint.

    Raises:
        UsageError: an argument is wrong; nothing was submitted.
        TransportError: the service accepted nothing within the client's `timeout`.
        StalePolicyError: (a RuntimeError) the sampler did not get there in time.
    """
    return training_client.save_weights_and_get_sampling_client(name).result()


async def save_weights_and_get_sampling_client_async(
    training_client: TrainingClient, name: str = "default"
) -> SamplingClient:
    """Return the sampling client itself, as `save_weights_and_get_sampling_client` does."""
    return await training_client.save_weights_and_get_sampling_client_async(name)
