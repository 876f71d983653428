"""The backend without maths counts, keeps its counts, and draws as many tokens as are wanted."""

from __future__ import annotations

import pytest
from tests.simulation.programs import train

from loops_core.errors import RemoteOpError
from loops_core.types.datum import ModelInput
from loops_core.types.sampling import SamplingParams
from loops_core.types.training import AdamParams
from loops_mock.simulation.blank import BlankBackend
from loops_mock.simulation.world import World


def test_a_loss_counts_passes_and_a_checkpoint_keeps_the_count() -> None:
    with World(1, open_backend=BlankBackend) as world:
        assert train(world, num_steps=3) == [1.0, 2.0, 3.0]
        trainer = world.service().create_lora_training_client("mock-tiny")
        with pytest.raises(RemoteOpError, match="nothing to apply"):
            trainer.optim_step(AdamParams()).result()
        sampler = trainer.save_weights_and_get_sampling_client("v").result()
        params = SamplingParams(max_tokens=3)
        answer = sampler.sample(ModelInput.from_ints([5]), num_samples=2, sampling_params=params)
        assert [len(sequence.tokens) for sequence in answer.sequences] == [3, 3]
