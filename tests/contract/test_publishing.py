"""Published weights reach the sampler, and sampler and trainer agree on them."""

from __future__ import annotations

import pickle
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.contract.conftest import ADAM, Setup, make_datum

from loops_core import Datum, ModelInput, SamplingParams, ServiceClient, TrainingClient
from loops_core.errors import UsageError

PROMPT = ModelInput.from_ints([3, 4, 5, 6, 7])


def _step(client: TrainingClient, batch: list[Datum]) -> None:
    client.forward_backward(batch)
    client.optim_step(ADAM).result()


def test_sampled_logprobs_are_the_trainers_forward_logprobs(
    trainer: TrainingClient, batch: list[Datum]
) -> None:
    for _ in range(3):
        _step(trainer, batch)
    sampler = trainer.save_weights_and_get_sampling_client("now").result()
    params = SamplingParams(max_tokens=12, seed=1)
    response = sampler.sample(PROMPT, num_samples=3, sampling_params=params)
    assert len({tuple(sequence.tokens) for sequence in response.sequences}) > 1
    for sequence in response.sequences:
        tokens = [*PROMPT.to_ints(), *sequence.tokens]
        output = trainer.forward([make_datum(tokens)]).result().loss_fn_outputs[0]["logprobs"]
        expected = output.to_numpy()[-len(sequence.tokens) :]
        # float32 on both sides; the sums run in another order, about 1e-6 at these sizes.
        np.testing.assert_allclose(sequence.logprobs or [], expected, atol=1e-5)


def test_the_policy_version_counts_published_weights(trainer: TrainingClient) -> None:
    assert trainer.policy_version == 0
    trainer.save_weights_for_sampler("one").result()
    sampler = trainer.save_weights_and_get_sampling_client("two").result()
    assert trainer.policy_version == 2
    assert sampler.sample(PROMPT, sampling_params=SamplingParams(max_tokens=1)).policy_version == 2
    trainer.init_trainer_server(2).result()
    trainer.save_state("kept").result()
    assert trainer.policy_version == 2


def test_a_pinned_checkpoint_keeps_answering_with_its_own_weights(
    service: ServiceClient, trainer: TrainingClient, batch: list[Datum]
) -> None:
    first = trainer.save_weights_for_sampler("first").result().path
    pinned = service.create_sampling_client(model_path=first)
    before = pinned.compute_logprobs(PROMPT)
    for _ in range(3):
        _step(trainer, batch)
    newest = trainer.save_weights_and_get_sampling_client("second").result()
    assert pinned.compute_logprobs(PROMPT) == before
    assert newest.compute_logprobs(PROMPT) != before


def test_a_base_model_can_be_sampled_without_a_trainer(
    service: ServiceClient, setup: Setup
) -> None:
    sampler = service.create_sampling_client(base_model=setup.base_model)
    greedy = SamplingParams(max_tokens=5, temperature=0.0)
    one, two = (sampler.sample(PROMPT, sampling_params=greedy) for _ in range(2))
    assert one.sequences == two.sequences
    assert one.policy_version == 0


def test_a_seed_makes_samples_repeatable(trainer: TrainingClient) -> None:
    sampler = trainer.save_weights_and_get_sampling_client("now").result()
    params = SamplingParams(max_tokens=8, seed=5)
    one, two = (sampler.sample(PROMPT, 2, params) for _ in range(2))
    assert one.sequences == two.sequences


@pytest.mark.parametrize(
    ("prompt", "params", "says"),
    [
        ([], SamplingParams(max_tokens=1), "prompt"),
        ([3, 10**6], SamplingParams(max_tokens=1), "1000000"),
        ([3], SamplingParams(max_tokens=10**7), "max_tokens"),
        ([3], SamplingParams(max_tokens=1, structured_outputs={"regex": "a"}), "structured"),
        ([3], SamplingParams(max_tokens=1, seed=-1), "seed"),
    ],
)
def test_a_sample_that_cannot_be_honoured_is_refused(
    trainer: TrainingClient, prompt: list[int], params: SamplingParams, says: str
) -> None:
    sampler = trainer.save_weights_and_get_sampling_client("now").result()
    with pytest.raises(UsageError, match=says):
        sampler.sample(ModelInput.from_ints(prompt), 1, params)
    assert sampler.sample(PROMPT, 1, SamplingParams(max_tokens=1)).sequences[0].tokens


def test_a_published_adapter_loads_from_its_directory_with_its_own_rank(
    service: ServiceClient,
    setup: Setup,
    trainer: TrainingClient,
    batch: list[Datum],
    tmp_path: Path,
) -> None:
    _step(trainer, batch)
    trainer.save_weights_for_sampler("adapter").result()
    folder = tmp_path / "adapter"
    trainer.download_checkpoint(name="adapter", target="sampler", dest_dir=folder)
    with service.create_lora_training_client(setup.base_model, rank=2) as other:
        assert other.load_state(str(folder)).result().step == 0
        there, here = other.forward(batch).result(), trainer.forward(batch).result()
        for one, two in zip(there.loss_fn_outputs, here.loss_fn_outputs, strict=True):
            np.testing.assert_array_equal(one["logprobs"].data, two["logprobs"].data)
        other.save_state("adopted").result()
        (saved,) = other.list_checkpoints()
        assert saved.lora_adapter_config.rank == 4


def test_published_weights_answer_after_a_restart_that_no_trainer_has_noticed(
    service: ServiceClient, trainer: TrainingClient, batch: list[Datum]
) -> None:
    _step(trainer, batch)
    sampler = trainer.save_weights_and_get_sampling_client("now").result()
    params = SamplingParams(max_tokens=8, seed=1)
    before = sampler.sample(PROMPT, sampling_params=params)
    kept = pickle.dumps(sampler)
    service.close()  # in process the worker ends with it
    with closing(pickle.loads(kept)) as reopened:
        after = reopened.sample(PROMPT, sampling_params=params)
    assert after.policy_version == before.policy_version == 1
    assert after.sequences[0].tokens == before.sequences[0].tokens
