"""Splitting a batch that is too large for one request, and joining the results of its parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from loops_core.errors import UsageError
from loops_core.types.datum import Datum, EncodedTextChunk, ImageChunk, ModelInput
from loops_core.types.tensor import TensorData
from loops_core.types.training import ForwardBackwardOutput

LARGEST_BODY_BYTES: Final = 24 * 1024 * 1024
"""The protocol's bound of one request's JSON body."""

_PACKED_DATUM_BYTES: Final = 192
_PACKED_CHUNK_BYTES: Final = 160
_PACKED_TENSOR_BYTES: Final = 192
_PACKED_DIMENSION_BYTES: Final = 21
"""More than the header of a packed body says of each."""

_WRAPPER_BYTES: Final = 1024
"""More than a body takes besides its data and its loss's name and config."""

_DATUM_BYTES: Final = 128
_CHUNK_BYTES: Final = 96
_TENSOR_BYTES: Final = 64
_INTEGER_BYTES: Final = 21
"""The longest that an int64 and its comma can be."""

_FLOAT_BYTES: Final = {"float16": 24, "bfloat16": 24, "float32": 25, "float64": 26}
"""The longest that a float of each dtype and its comma can be, printed as JSON numbers are."""


def datum_bytes(datum: Datum, *, is_rough: bool = False) -> int:
    """Return an upper bound of the datum's size in compact JSON.

    Nothing is printed: whole numbers count with the digits of the largest of their tensor, floats
    with the longest form of their dtype. A rough bound looks at no value: every whole number counts
    as the longest int64.
    """
    size = _DATUM_BYTES + _input_bytes(datum.model_input, is_rough=is_rough)
    for name, tensor in datum.loss_fn_inputs.items():
        size += 6 * len(name) + _tensor_bytes(tensor, is_rough=is_rough)
    if datum.routed_experts_ref is not None:
        size += _DATUM_BYTES + 6 * len(datum.routed_experts_ref.uri)
    return size


def packed_datum_bytes(datum: Datum) -> int:
    """Return an upper bound of the datum's size in a packed body."""
    size = _PACKED_DATUM_BYTES
    for chunk in datum.model_input.chunks:
        size += _PACKED_CHUNK_BYTES
        match chunk:
            case EncodedTextChunk(tokens=tokens):
                size += 8 * len(tokens)
            case ImageChunk(data=data):
                size += 4 * (len(data) + 2) // 3
            case _:
                pass
    for name, tensor in datum.loss_fn_inputs.items():
        size += _PACKED_TENSOR_BYTES + 6 * len(name) + _PACKED_DIMENSION_BYTES * len(tensor.shape)
        size += int(tensor.data.nbytes)
    if datum.routed_experts_ref is not None:
        size += 6 * len(datum.routed_experts_ref.uri)
    return size


def _input_bytes(model_input: ModelInput, *, is_rough: bool) -> int:
    size = 0
    for chunk in model_input.chunks:
        match chunk:
            case EncodedTextChunk(tokens=tokens):
                each = _INTEGER_BYTES
                if tokens and not is_rough:
                    each = _digits(min(tokens), max(tokens)) + 1
                size += _CHUNK_BYTES + len(tokens) * each
            case ImageChunk(data=data):
                size += _CHUNK_BYTES + 4 * (len(data) + 2) // 3
            case _:
                size += _CHUNK_BYTES
    return size


def _tensor_bytes(tensor: TensorData, *, is_rough: bool) -> int:
    size = _TENSOR_BYTES + _INTEGER_BYTES * len(tensor.shape)
    if tensor.data.size == 0:
        return size
    if tensor.dtype in _FLOAT_BYTES:
        each = _FLOAT_BYTES[tensor.dtype]
    elif tensor.dtype == "bool":
        each = len("false,")
    elif is_rough:
        each = _INTEGER_BYTES
    else:
        each = _digits(int(np.min(tensor.data)), int(np.max(tensor.data))) + 1
    return size + each * int(tensor.data.size)


def _digits(low: int, high: int) -> int:
    return max(len(str(low)), len(str(high)))


def split(
    data: Sequence[Datum],
    *,
    largest_bytes: int | None,
    group: int,
    config_bytes: int = 0,
    size_of: Callable[[Datum], int] = datum_bytes,
) -> list[list[Datum]]:
    """Return the data in as few requests as a greedy pass in order finds.

    Args:
        data: the whole batch.
        largest_bytes: bound of one request's body; None = one request takes all.
        group: how many neighbours belong together and are never separated: 2 for dpo's pairs.
        config_bytes: what the loss's name and config take in every request.
        size_of: returns an upper bound of a datum's size in a body.

    Raises:
        UsageError: the data does not divide into groups, or one group is too large by itself.
    """
    if len(data) % group:
        raise UsageError(
            f"data holds {len(data)} datums: dpo expects pairs, chosen and rejected in turn",
            field="data",
        )
    if largest_bytes is None:
        return [list(data)]
    room = largest_bytes - _WRAPPER_BYTES - config_bytes
    if sum(datum_bytes(datum, is_rough=True) for datum in data) <= room:
        return [list(data)]
    parts: list[list[Datum]] = [[]]
    used = 0
    for start in range(0, len(data), group):
        neighbours = data[start : start + group]
        size = sum(size_of(datum) for datum in neighbours)
        if size > room:
            raise _too_large(start, group, size, room)
        if used + size > room:
            parts.append([])
            used = 0
        parts[-1].extend(neighbours)
        used += size
    return parts


def _too_large(start: int, group: int, size: int, room: int) -> UsageError:
    what = f"data[{start}]" if group == 1 else f"data[{start}] and data[{start + 1}], one pair,"
    return UsageError(
        f"{what} would take about {size:,} bytes, and a request has room for {room:,}: shorten it",
        field="data",
    )


def join(
    outputs: Sequence[ForwardBackwardOutput], num_data: Sequence[int]
) -> ForwardBackwardOutput:
    """Return the parts' results as the one result that the whole batch would have given.

    The loss and means are weighted by the parts' `active_tokens` where every part reports them, by
    their numbers of datums otherwise. `:sum` metrics and `active_tokens` are added, `:max` and
    `:min` are extremes, `skip_token_normalization` is 1 where it is 1 in every part.

    Args:
        outputs: the parts' results, in order; at least one.
        num_data: how many datums each part held.
    """
    if len(outputs) == 1:
        return outputs[0]
    weights = _weights(outputs, num_data)
    names = dict.fromkeys(name for output in outputs for name in output.metrics)
    return ForwardBackwardOutput(
        loss=_mean([output.loss for output in outputs], weights),
        loss_fn_output_type=next(
            (output.loss_fn_output_type for output in outputs if output.loss_fn_output_type), ""
        ),
        loss_fn_outputs=[tensors for output in outputs for tensors in output.loss_fn_outputs],
        metrics={name: _metric(name, outputs, weights) for name in names},
    )


def _weights(outputs: Sequence[ForwardBackwardOutput], num_data: Sequence[int]) -> list[float]:
    tokens = [output.metrics.get("active_tokens") for output in outputs]
    known = [count for count in tokens if count is not None]
    if len(known) == len(outputs) and sum(known) > 0:
        return known
    return [float(count) for count in num_data]


def _metric(name: str, outputs: Sequence[ForwardBackwardOutput], weights: Sequence[float]) -> float:
    having = [position for position, output in enumerate(outputs) if name in output.metrics]
    values = [outputs[position].metrics[name] for position in having]
    if name == "skip_token_normalization":
        return 1.0 if values == [1.0] * len(outputs) else 0.0
    if name == "active_tokens" or name.endswith(":sum"):
        return sum(values)
    if name.endswith(":max"):
        return max(values)
    if name.endswith(":min"):
        return min(values)
    return _mean(values, [weights[position] for position in having])


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    total = sum(weights)
    if total <= 0:
        return sum(values) / len(values)
    terms = zip(values, weights, strict=True)
    return sum(value * weight for value, weight in terms) / total
