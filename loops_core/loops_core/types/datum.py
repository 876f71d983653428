"""What a trainer learns from: ModelInput and its chunks, and Datum."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, Self, TypeAlias, cast

from pydantic import (
    Field,
    PositiveInt,
    SerializationInfo,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_serializer,
    field_validator,
    model_validator,
)

from loops_core.types.arrays import to_array
from loops_core.types.base import WireModel
from loops_core.types.frames import FrameReader, FrameWriter
from loops_core.types.tensor import TensorData

if TYPE_CHECKING:
    import numpy as np

    IntegerSequence: TypeAlias = Sequence[int] | np.ndarray[Any, np.dtype[np.integer]]


class EncodedTextChunk(WireModel):
    """A run of token ids; the service compares them with the vocabulary.

    Attributes:
        type: tells text from other chunks.
        tokens: the ids, a list of Python integers. A whole float counts as an integer, a bool, a
            text and a fraction do not; an array must be flat and of an integer dtype.
    """

    type: Literal["encoded_text"] = "encoded_text"
    tokens: list[int]

    if TYPE_CHECKING:

        def __init__(self, *, tokens: IntegerSequence) -> None: ...

    @field_validator("tokens", mode="wrap")
    @classmethod
    def _read_tokens(
        cls, tokens: object, read: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> list[int]:
        if isinstance(info.context, FrameReader) and isinstance(tokens, dict):
            return info.context.read_integers(cast("dict[str, object]", tokens).get("frame"))
        if isinstance(tokens, list | tuple):
            given = cast("list[object]", tokens)
            wrong = {kind for kind in set(map(type, given)) if issubclass(kind, bool | str)}
            if wrong:
                names = " or ".join(sorted(kind.__name__ for kind in wrong))
                raise ValueError(f"tokens must be integers, not {names}")
            return read(given)
        if not hasattr(tokens, "__array__"):
            raise ValueError(f"tokens must be a list of integers, not {type(tokens).__name__}")
        array = to_array(tokens)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            problem = f"{array.dtype.name} of shape {list(array.shape)}"
            raise ValueError(f"tokens must be a flat array of integers, not {problem}")
        return read(array.tolist())

    @field_serializer("tokens")
    def _write_tokens(
        self, tokens: list[int], info: SerializationInfo
    ) -> list[int] | dict[str, int]:
        number = None
        if isinstance(info.context, FrameWriter):
            number = info.context.add_integers(tokens)
        return tokens if number is None else {"frame": number}

    @property
    def length(self) -> int:
        """Return the number of positions."""
        return len(self.tokens)


class ImageChunk(WireModel):
    """An image, as its encoded bytes.

    Attributes:
        data: the PNG or JPEG file's bytes; standard base64 in JSON.
        format: the file's format.
        expected_tokens: how many positions the model gives the image.
    """

    type: Literal["image"] = "image"
    data: bytes
    format: Literal["png", "jpeg"]
    expected_tokens: PositiveInt

    @field_validator("data", mode="before")
    @classmethod
    def _decode(cls, data: object) -> object:
        if not isinstance(data, str):
            return data
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error as error:
            raise ValueError(f"data must be standard base64: {error}") from error

    @field_serializer("data", when_used="json")
    def _encode(self, data: bytes) -> str:
        return base64.b64encode(data).decode("ascii")

    @classmethod
    def from_bytes(cls, raw: bytes, fmt: Literal["png", "jpeg"], expected_tokens: int) -> Self:
        """Return the image file's bytes as a chunk."""
        return cls(data=raw, format=fmt, expected_tokens=expected_tokens)

    def to_bytes(self) -> bytes:
        """Return the image file's bytes."""
        return self.data

    @property
    def length(self) -> int:
        """Return the number of positions."""
        return self.expected_tokens


class ImageAssetPointerChunk(WireModel):
    """A reference to an image elsewhere; the protocol names it and nobody accepts it.

    Raises:
        pydantic.ValidationError: always.
    """

    type: Literal["image_asset_pointer"] = "image_asset_pointer"
    format: Literal["png", "jpeg"]
    location: str
    expected_tokens: PositiveInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse(cls, _fields: object) -> NoReturn:
        raise ValueError("image asset pointers are not supported: send the bytes in an ImageChunk")


ModelInputChunk = Annotated[
    EncodedTextChunk | ImageChunk | ImageAssetPointerChunk, Field(discriminator="type")
]
"""Any part of a model input, told apart by `type`."""


class ModelInput(WireModel):
    """What the model reads, in order.

    >>> ModelInput.from_ints([5, 6]).append_int(7).to_ints()
    [5, 6, 7]
    """

    chunks: list[ModelInputChunk] = Field(default_factory=list[ModelInputChunk])

    @classmethod
    def from_ints(cls, tokens: IntegerSequence) -> Self:
        """Return the token ids, a list or a flat integer array, as one text chunk."""
        return cls(chunks=[EncodedTextChunk(tokens=tokens)])

    @classmethod
    def empty(cls) -> Self:
        """Return an input without chunks."""
        return cls()

    @property
    def length(self) -> int:
        """Return the number of positions of all chunks."""
        return sum(chunk.length for chunk in self.chunks if chunk.type != "image_asset_pointer")

    def to_ints(self) -> list[int]:
        """Return the token ids of all chunks.

        Raises:
            TypeError: a chunk is not text.
        """
        tokens: list[int] = []
        for position, chunk in enumerate(self.chunks):
            if not isinstance(chunk, EncodedTextChunk):
                raise TypeError(f"chunks[{position}] is {chunk.type}: only text has token ids")
            tokens.extend(chunk.tokens)
        return tokens

    def append(self, chunk: EncodedTextChunk | ImageChunk) -> Self:
        """Return a new input with one more chunk."""
        return type(self)(chunks=[*self.chunks, chunk])

    def append_int(self, token: int) -> Self:
        """Return a new input with one more token, in the last chunk where that is text."""
        last = self.chunks[-1] if self.chunks else None
        if isinstance(last, EncodedTextChunk):
            longer = EncodedTextChunk(tokens=[*last.tokens, token])
            return type(self)(chunks=[*self.chunks[:-1], longer])
        return self.append(EncodedTextChunk(tokens=[token]))


class ExternalRef(WireModel):
    """A reference to a payload that is kept outside the message."""

    uri: str
    version: PositiveInt


class Datum(WireModel):
    """One training example.

    Position `i` of `model_input` predicts `target_tokens[i]`: nothing is shifted on the way.

    Attributes:
        model_input: what the model reads, N positions.
        loss_fn_inputs: the loss function's tensors by name, such as `target_tokens` int64 [N].
        routed_experts_ref: the routing of a mixture-of-experts sampler, to be replayed.
    """

    model_input: ModelInput
    loss_fn_inputs: dict[str, TensorData] = Field(default_factory=dict)
    routed_experts_ref: ExternalRef | None = None

    @field_validator("loss_fn_inputs", mode="before")
    @classmethod
    def _check_tensors(cls, inputs: object) -> object:
        if not isinstance(inputs, dict):
            return inputs
        named: dict[Any, Any] = inputs  # type: ignore[assignment]  # whatever the caller gave
        for name, value in named.items():
            if not isinstance(value, TensorData | dict):
                raise ValueError(  # noqa: TRY004 - pydantic turns nothing else into its own error
                    f"loss_fn_inputs[{name!r}] must be TensorData, not {type(value).__name__}: "
                    "use TensorData.from_numpy or TensorData(data=, dtype=, shape=)"
                )
        return named
