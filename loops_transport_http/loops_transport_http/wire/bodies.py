"""Bodies: a model as bytes of the agreed media type, and back."""

from __future__ import annotations

import functools
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from loops_core.errors import UnsupportedError, UsageError
from loops_core.types.frames import pack, unpack
from loops_transport_http.wire import names

ModelT = TypeVar("ModelT", bound=BaseModel)

ZSTD: Final = "zstd"
_ZSTD_LEVEL: Final = 1


def encode(model: BaseModel, *, media_type: str) -> bytes:
    """Return the model as JSON or packed, as the media type says."""
    if media_type == names.TENSORS:
        return pack(model)
    return model.model_dump_json(by_alias=True).encode()


def decode(content: bytes, model_type: type[ModelT], *, media_type: str) -> ModelT:
    """Return the model that the bytes hold; without content, one of defaults.

    Raises:
        UsageError: the bytes are not such a model; `field` names the first place that is wrong.
        UnsupportedError: the media type is none that is read here.
    """
    kind = media_type.partition(";")[0].strip().lower()
    try:
        if kind == names.TENSORS:
            return unpack(content, model_type)
        if kind in ("", names.JSON) or kind.endswith("+json"):
            return model_type.model_validate_json(content or b"{}")
    except ValidationError as error:
        raise _refusal(error) from error
    except ValueError as error:
        raise UsageError(f"body: {error}", field="body") from error
    raise UnsupportedError(
        f"Content-Type {kind!r} is not read here: expected {names.JSON} or {names.TENSORS}",
        field="Content-Type",
    )


def compress(content: bytes) -> bytes:
    """Return the bytes compressed.

    Raises:
        UnsupportedError: the package zstandard is not installed.
    """
    if not has_zstd():
        raise _no_zstd()
    import zstandard

    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(content)


def decompress(content: bytes, *, max_bytes: int) -> bytes:
    """Return the bytes as they were before `compress`.

    Raises:
        UsageError: they are damaged, or would be larger than `max_bytes`.
        UnsupportedError: the package zstandard is not installed.
    """
    if not has_zstd():
        raise _no_zstd()
    import zstandard

    try:
        reader = zstandard.ZstdDecompressor().stream_reader(content)
        plain = reader.read(max_bytes + 1)
    except zstandard.ZstdError as error:
        raise UsageError(f"body is not zstd: {error}", field="Content-Encoding") from error
    if len(plain) > max_bytes:
        raise UsageError(
            f"body is larger than {max_bytes} bytes once decompressed", field="Content-Encoding"
        )
    return plain


@functools.cache
def has_zstd() -> bool:
    """Tell whether bodies can be compressed here."""
    import importlib.util

    return importlib.util.find_spec("zstandard") is not None


def _no_zstd() -> UnsupportedError:
    return UnsupportedError(
        "zstd bodies need zstandard, which is not installed: "
        "pip install 'loops-transport-http[zstd]'",
        field="Content-Encoding",
    )


def _refusal(error: ValidationError) -> UsageError:
    """Return the first thing that is wrong, named as the field's path in the body."""
    first = error.errors(include_url=False, include_input=False)[0]
    path = ""
    for part in first["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else f"{part}"
    more = error.error_count() - 1
    also = f" (and {more} more)" if more else ""
    return UsageError(f"{path or 'body'}: {first['msg']}{also}", field=path or "body")
