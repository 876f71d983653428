"""What rules of training and sampling look at: small data, log-probabilities, and comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loops_core import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    ModelInput,
    SamplingClient,
    SamplingParams,
    TensorData,
    TrainingClient,
)
from loops_core.errors import LoopsError, RemoteOpError, UnsupportedError, UsageError
from loops_core.types.training import IGNORED_TARGET, LossFnConfig
from loops_mock.contract.rule import CheckFailed, NotOffered, expect

Floats = NDArray[np.float64]

TEXT: Final = (3, 9, 4, 17, 22, 5, 11, 8, 6)
"""Token ids that every model has; all texts here have eight positions, so that few shapes occur."""

TEXTS: Final = (TEXT, (7, 7, 19, 3, 12, 25, 4, 10, 13), (21, 5, 9, 14, 6, 18, 3, 23, 16))

PROMPT: Final = (3, 9, 4, 17)

SEED: Final = 7

ADAM: Final = AdamParams(learning_rate=2e-2, eps=1e-4, grad_clip_norm=0.0)
"""A step that moves log-probabilities by far more than `ROUNDING`; `eps` above the rounding of
gradients, so that an element that is nearly 0 does not decide by its sign."""

ROUNDING: Final = 1e-4
"""Float32 sums in another order differ by about 1e-6 in a log-probability; a hundred times that."""

MOVED: Final = 1e-2
"""A log-probability that moves by this has been changed by something else than rounding."""


def make_datum(
    tokens: Sequence[int], *, targets: ArrayLike | None = None, **inputs: ArrayLike
) -> Datum:
    """Return a datum that reads all tokens but the last, and predicts the next at each position.

    Args:
        tokens: the text.
        targets: other targets, [N] or [N, K].
        inputs: further inputs of the loss, as float32.
    """
    wanted = np.asarray(tokens[1:] if targets is None else targets, dtype=np.int64)
    tensors = {
        "target_tokens": TensorData.from_numpy(wanted),
        **{
            name: TensorData.from_numpy(np.asarray(values, dtype=np.float32))
            for name, values in inputs.items()
        },
    }
    return Datum(model_input=ModelInput.from_ints(list(tokens[:-1])), loss_fn_inputs=tensors)


DATUM: Final = make_datum(TEXT)
BATCH: Final = tuple(make_datum(text) for text in TEXTS)


def ignore_from(start: int, tokens: Sequence[int] = TEXT) -> list[int]:
    """Return the text's next tokens as targets, ignored from position `start` on."""
    return [token if place < start else IGNORED_TARGET for place, token in enumerate(tokens[1:])]


def logprobs_of(output: ForwardBackwardOutput) -> Floats:
    """Return the log-probabilities of all targets of a result, one after another."""
    rows = [tensors["logprobs"].to_numpy().ravel() for tensors in output.loss_fn_outputs]
    return np.concatenate(rows).astype(np.float64)


def look(trainer: TrainingClient, data: Sequence[Datum] = (DATUM,)) -> Floats:
    """Return the log-probabilities that the trainer gives the data's targets now."""
    return logprobs_of(trainer.forward(list(data)).result())


def step(
    trainer: TrainingClient, data: Sequence[Datum] = (DATUM,), adam: AdamParams = ADAM
) -> Mapping[str, float]:
    """Make one pass and one optimizer step; return the step's metrics."""
    trainer.forward_backward(list(data))
    return apply(trainer, adam)


def apply(trainer: TrainingClient, adam: AdamParams = ADAM) -> Mapping[str, float]:
    """Make an optimizer step with the gradients that wait; return its metrics."""
    return trainer.optim_step(adam).result().metrics or {}


def score(sampler: SamplingClient, tokens: Sequence[int] = TEXT) -> Floats:
    """Return the log-probabilities that a sampler gives each token but the first."""
    found = sampler.compute_logprobs(ModelInput.from_ints(list(tokens)))
    return np.asarray([np.nan if value is None else value for value in found[1:]])


def draw(
    sampler: SamplingClient,
    num_samples: int = 1,
    prompt: Sequence[int] = PROMPT,
    **params: object,
) -> list[list[int]]:
    """Return the tokens of new sequences after the prompt."""
    wish = SamplingParams.model_validate({"max_tokens": 4, **params})
    response = sampler.sample(ModelInput.from_ints(list(prompt)), num_samples, wish)
    return [sequence.tokens for sequence in response.sequences]


def publish(trainer: TrainingClient, name: str = "published") -> SamplingClient:
    """Publish the trainer's weights and return a client that samples from them."""
    return trainer.save_weights_and_get_sampling_client(name).result()


def run_loss(
    trainer: TrainingClient,
    data: Sequence[Datum],
    loss: str,
    config: LossFnConfig | None = None,
    *,
    backward: bool = False,
) -> ForwardBackwardOutput:
    """Return the result of one pass with a loss.

    Raises:
        NotOffered: the service does not have the loss.
    """
    call = trainer.forward_backward if backward else trainer.forward
    try:
        return call(list(data), loss, config).result()
    except UsageError as error:
        if error.field == "loss_fn":
            raise NotOffered(f"the loss {loss}: {error}") from error
        raise


def expect_near(
    message: str, seen: ArrayLike, expected: ArrayLike, *, atol: float = ROUNDING
) -> None:
    """Fail unless two arrays are equal up to `atol`; NaN equals NaN."""
    one, two = np.asarray(seen, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    is_near = one.shape == two.shape and np.allclose(one, two, rtol=0, atol=atol, equal_nan=True)
    expect(is_near, message, seen=one.tolist(), expected=two.tolist(), tolerance=atol)


def expect_same(message: str, seen: ArrayLike, expected: ArrayLike) -> None:
    """Fail unless two arrays hold the same numbers, to the last bit."""
    expect_near(message, seen, expected, atol=0.0)


def expect_moved(message: str, seen: ArrayLike, before: ArrayLike, *, by: float = MOVED) -> None:
    """Fail unless some element of two arrays differs by at least `by`."""
    one, two = np.asarray(seen, dtype=np.float64), np.asarray(before, dtype=np.float64)
    has_moved = one.shape == two.shape and float(np.nanmax(np.abs(one - two))) >= by
    expect(has_moved, message, seen=one.tolist(), before=two.tolist(), at_least=by)


def expect_refused(
    message: str, act: Callable[[], object], *names: str, kinds: Iterable[type[LoopsError]] = ()
) -> LoopsError:
    """Fail unless a call raises `UsageError`, or one of `kinds`; return the error.

    Args:
        message: the promise.
        act: makes the call.
        names: what the error's text has to contain: the argument, as the caller typed it.
        kinds: error classes that are as good.
    """
    expected = (UsageError, *kinds)
    try:
        got = act()
    except expected as error:
        missing = [name for name in names if name not in str(error)]
        expect(not missing, f"{message}: the error does not name {missing}", error=str(error))
        return error
    except LoopsError as error:
        raise CheckFailed(
            f"{message}: expected {' or '.join(kind.__name__ for kind in expected)}, not "
            f"{type(error).__name__}: {error}"
        ) from error
    raise CheckFailed(f"{message}: the call was taken, and gave {type(got).__name__}")


def expect_failed(message: str, act: Callable[[], object]) -> LoopsError:
    """Fail unless a call is refused, or runs and fails; return the error."""
    return expect_refused(message, act, kinds=(RemoteOpError,))


def unless_offered(feature: str, act: Callable[[], object]) -> None:
    """Raise `NotOffered` where a call says that the service does not have a feature."""
    try:
        act()
    except UnsupportedError as error:
        raise NotOffered(f"{feature}: {error}") from error
