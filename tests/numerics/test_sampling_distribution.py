"""Tokens come as often as the exact softmax of the model's logits says, cut and heated as asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.numerics.cases import final_logits

from loops_backend_jax.config import BackendSettings
from loops_backend_jax.resolvers.builtin import write_builtin_model
from loops_backend_jax.sampler import JaxSampler
from loops_backend_jax.weights.load import load_base_model
from loops_core.protocols import SampleRequest, SamplerSpec

pytestmark = pytest.mark.slow  # thousands of draws

PROMPT = (2, 40, 41, 300, 7)
NUM_SAMPLES = 4096
REQUEST = SampleRequest(
    prompt=PROMPT, adapter_id=None, seed=0, num_samples=NUM_SAMPLES, max_tokens=1
)


@dataclasses.dataclass(frozen=True, slots=True)
class Drawer:
    """A sampler, and the exact logits of its model after PROMPT and after PROMPT and a token."""

    sampler: JaxSampler
    logits: np.ndarray


@pytest.fixture(scope="module")
def drawer(tmp_path_factory: pytest.TempPathFactory) -> Drawer:
    directory: Path = tmp_path_factory.mktemp("loops-tiny")
    write_builtin_model(directory)
    base = load_base_model(directory, BackendSettings(decode_steps=1, max_sample_rows=512))
    logits = final_logits(base, np.array([PROMPT]), None, scale=0.0)[0, -1]
    sampler = JaxSampler(base, SamplerSpec(base_model="test", model_dir=directory))
    return Drawer(sampler, logits.astype(np.float64))


def first_tokens(sampler: JaxSampler, request: SampleRequest) -> np.ndarray:
    """Return the first token of each sample."""
    handle = sampler.submit(request)
    while not (outcomes := sampler.step()):
        pass
    assert outcomes[0].handle == handle
    return np.array([sequence.tokens[0] for sequence in outcomes[0].sequences])


def exact(logits: np.ndarray, request: SampleRequest) -> np.ndarray:
    """Return probabilities by sorting, in float64."""
    odds = np.exp((logits - logits.max()) / request.temperature)
    order = np.argsort(-odds, kind="stable")
    if request.top_k is not None:
        odds[order[request.top_k :]] = 0.0
    sums = np.cumsum(odds[order]) / odds.sum()
    odds[order[1 + int(np.searchsorted(sums, request.top_p)) :]] = 0.0
    return odds / odds.sum()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, None, 1.0), (0.4, None, 1.0), (1.6, 30, 1.0), (0.8, None, 0.7), (1.3, 40, 0.9)],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_frequencies_fit_the_exact_softmax(
    drawer: Drawer, temperature: float, top_k: int | None, top_p: float, seed: int
) -> None:
    request = dataclasses.replace(
        REQUEST, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    expected = exact(drawer.logits, request) * NUM_SAMPLES
    counts = np.bincount(first_tokens(drawer.sampler, request), minlength=len(expected))
    assert not counts[expected == 0].any()
    # A chi-square needs some 5 expected draws a class: tokens of like probability are put together.
    order = np.argsort(expected, kind="stable")
    classes = np.floor(np.cumsum(expected[order]) / 8).astype(int)
    found, wanted = (np.bincount(classes, x[order]) for x in (counts, expected))
    found, wanted = found[wanted > 0], wanted[wanted > 0]
    chi_square = float(((found - wanted) ** 2 / wanted).sum())
    freedom = len(wanted) - 1
    assert freedom >= 5
    # Mean `freedom`, variance twice that: four deviations happen to one honest seed in 10,000.
    assert chi_square < freedom + 4 * (2 * freedom) ** 0.5
