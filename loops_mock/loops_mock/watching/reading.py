"""Reading calls: what is remembered of a pass's data and of a sampler's answer; pure."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from typing import Final

from loops_core.client.completions import read_completions
from loops_core.errors import LoopsError
from loops_core.types.checkpoint import CheckpointAddress
from loops_core.types.datum import Datum, EncodedTextChunk, ImageChunk
from loops_core.types.operation import ForwardBody, OperationStatus
from loops_core.types.sampling import Completions, SampleBody
from loops_core.types.training import SaveWeightsResponse
from loops_mock.watching.events import Example

TOKEN_BYTES: Final = array("q").itemsize
"""Bytes of a packed token."""

_TARGETS: Final = "target_tokens"


def packed(tokens: Iterable[int]) -> bytes:
    """Return tokens as bytes; those of a prefix are a prefix."""
    return array("q", tokens).tobytes()


def examples_of(body: ForwardBody) -> tuple[Example, ...]:
    """Return what is remembered of each datum, in order."""
    return tuple(
        Example(
            _digest(datum),
            _tokens(datum),
            targets=_input(datum, "int64", _TARGETS) or b"",
            logprobs=_input(datum, "float64", "logprobs"),
            advantages=_input(datum, "float64", "advantages", "weights"),
        )
        for datum in body.data
    )


def loss_of(body: ForwardBody) -> str:
    """Return a pass's loss and its settings as one text."""
    config = sorted((body.loss_fn_config or {}).items())
    return f"{body.loss_fn}{config}" if config else body.loss_fn


def sequences_of(
    answer: Completions, body: SampleBody
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return prompt and new tokens of every sequence, and the log-probabilities of the new ones.

    There are none where the answer cannot be read.
    """
    try:
        response = read_completions(answer, body)
    except LoopsError:  # the client meets it too, and says so
        return (), ()
    prompt = response.prompt_token_ids or []
    tokens = tuple(packed([*prompt, *sequence.tokens]) for sequence in response.sequences)
    logprobs = (sequence.logprobs or [] for sequence in response.sequences)
    return tokens, tuple(array("d", each).tobytes() for each in logprobs)


def is_scoring(body: SampleBody) -> bool:
    """Tell whether a sample only scores its prompt: `compute_logprobs` draws one token for it."""
    return body.prompt_logprobs is not None and body.max_tokens == 1 and body.temperature == 0


def saved_in(status: OperationStatus) -> tuple[int | None, str | None]:
    """Return the policy version and the address that a save's result tells."""
    result = status.result
    if isinstance(result, SaveWeightsResponse):
        return result.version, result.path or None
    if not isinstance(result, dict) or "path" not in result:
        return None, None
    version, path = result.get("version"), result.get("path")
    return version if isinstance(version, int) else None, path if isinstance(path, str) else None


def run_of_path(path: str | None) -> str | None:
    """Return the run that a checkpoint's address names."""
    if path is None:
        return None
    try:
        return CheckpointAddress.parse(path).run_id
    except (LoopsError, ValueError):
        return None


def _digest(datum: Datum) -> bytes:
    seen = hashlib.blake2b(digest_size=16)
    for chunk in datum.model_input.chunks:
        if isinstance(chunk, EncodedTextChunk):
            seen.update(packed(chunk.tokens))
        elif isinstance(chunk, ImageChunk):
            seen.update(chunk.data)
        seen.update(b"|")
    for name, tensor in sorted(datum.loss_fn_inputs.items()):
        seen.update(f"{name}:{tensor.dtype}:{tensor.shape}".encode())
        seen.update(tensor.data.tobytes())
    return seen.digest()


def _input(datum: Datum, dtype: str, *names: str) -> bytes | None:
    """Return the first of these inputs that a datum has, one value a position; None = has none."""
    tensor = next((datum.loss_fn_inputs[n] for n in names if n in datum.loss_fn_inputs), None)
    if tensor is None:
        return None
    values = tensor.data.astype(dtype)
    if values.size == 1:
        values = values.repeat(datum.model_input.length)
    return values.tobytes()


def _tokens(datum: Datum) -> bytes:
    try:
        read: Sequence[int] = datum.model_input.to_ints()
    except TypeError:  # an image among the chunks
        return b""
    targets = datum.loss_fn_inputs.get(_TARGETS)
    last = [] if targets is None or targets.data.size == 0 else [int(targets.data[-1])]
    return packed([*read, *last])
