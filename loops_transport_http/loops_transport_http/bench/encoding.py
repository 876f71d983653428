"""What a large batch costs on its way into bytes and out of them, as frames and as JSON."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from pydantic import BaseModel, TypeAdapter

from loops_core.types.datum import Datum
from loops_core.types.frames import pack, unpack
from loops_core.types.operation import ForwardBody
from loops_transport_http.bench.processes import JsonObject
from loops_transport_http.bench.published import NOT_INSTALLED, PublishedClient
from loops_transport_http.bench.report import Bound, Row
from loops_transport_http.bench.workload import BatchSize, make_body, make_rl_data

NAME: Final = "encoding"
TITLE: Final = "Encoding and decoding a batch with targets, logprobs and advantages"

_LOSS: Final = "importance_sampling"
_BOUNDS: Final = (
    Bound(figure="times_faster", limit=30.0, kind="at least"),
    Bound(figure="share_of_bytes", limit=0.5),
)


@dataclass(frozen=True, slots=True)
class Passage:
    """One way through: seconds in, seconds out, and the bytes between."""

    encode_s: float
    decode_s: float
    num_bytes: int


class TensorShape(BaseModel):
    """A tensor as plain lists, the way the published client holds it."""

    data: list[Any]
    dtype: str
    shape: list[int]


class ChunkShape(BaseModel):
    """A run of token ids as a plain list."""

    type: str = "encoded_text"
    tokens: list[int]


class InputShape(BaseModel):
    """A model input of such chunks."""

    chunks: list[ChunkShape]


class DatumShape(BaseModel):
    """A datum of plain lists."""

    model_input: InputShape
    loss_fn_inputs: dict[str, TensorShape]
    routed_experts_ref: dict[str, Any] | None = None


def through_frames(body: ForwardBody) -> Passage:
    """Return what `pack` and `unpack` take."""
    start = time.perf_counter()
    packed = pack(body)
    middle = time.perf_counter()
    unpack(packed, ForwardBody)
    return Passage(middle - start, time.perf_counter() - middle, len(packed))


def through_json(data: Sequence[DatumShape]) -> Passage:
    """Return what an imitation of the published path takes.

    Its steps: each datum dumped, each printed for its size, the whole printed; then parsed, and
    checked.
    """
    reader = TypeAdapter(list[DatumShape])
    compact = (",", ":")
    start = time.perf_counter()
    dumped = [datum.model_dump(mode="json") for datum in data]
    sizes = [len(json.dumps(datum, separators=compact)) for datum in dumped]
    body = {"data": dumped, "loss_fn": _LOSS, "loss_fn_config": None, "seq_id": 1}
    text = json.dumps(body, ensure_ascii=False, separators=compact, allow_nan=False).encode()
    middle = time.perf_counter()
    reader.validate_python(json.loads(text)["data"])
    end = time.perf_counter()
    assert sum(sizes) < len(text)
    return Passage(middle - start, end - middle, len(text))


def measure(*, size: BatchSize, rounds: int, client: PublishedClient | None) -> Iterator[Row]:
    """Yield the rows of both paths, with full float32 values and with short ones."""
    for digits in (None, 6):
        floats = "full float32 values" if digits is None else f"{digits} digits after the point"
        yield from _compare(size, digits, f"{size}, {floats}", rounds, client)
    if client is None:
        yield Row(comparison=NAME, what="a published client's own classes", note=NOT_INSTALLED)


def _compare(
    size: BatchSize, digits: int | None, what: str, rounds: int, client: PublishedClient | None
) -> Iterator[Row]:
    data = make_rl_data(size)
    lists = [_to_lists(datum, digits) for datum in data]
    body = make_body(data, loss_fn=_LOSS)
    with ExitStack() as stack:
        name, json_path = "JSON, the published path imitated", _imitation(lists)
        if client is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="loops-bench-"))
            name, json_path = f"JSON, {client.name}", _published(lists, Path(folder), client)
        theirs: list[Passage] = []
        ours: list[Passage] = []
        for _ in range(rounds):
            theirs.append(json_path())
            ours.append(through_frames(body))
    pairs = [_total(slow) / _total(fast) for slow, fast in zip(theirs, ours, strict=True)]
    share = ours[0].num_bytes / theirs[0].num_bytes
    figures = {"times_faster": statistics.median(pairs), "share_of_bytes": share}
    yield Row(comparison=NAME, what=f"{name}: {what}", figures=_figures(theirs))
    yield Row(
        comparison=NAME,
        what=f"frames: {what}",
        figures={**_figures(ours), **figures},
        bounds=_BOUNDS,
    )


def _to_lists(datum: Datum, digits: int | None) -> JsonObject:
    """Return a datum as JSON, its floats rounded where that is asked for."""
    dumped = datum.model_dump(mode="json")
    for tensor in dumped["loss_fn_inputs"].values():
        if digits is not None and tensor["dtype"] == "float32":
            tensor["data"] = [round(value, digits) for value in tensor["data"]]
    return dumped


def _imitation(data: list[JsonObject]) -> Callable[[], Passage]:
    shapes = TypeAdapter(list[DatumShape]).validate_python(data)
    return lambda: through_json(shapes)


def _published(
    data: list[JsonObject], folder: Path, client: PublishedClient
) -> Callable[[], Passage]:
    path = folder / "data.json"
    path.write_text(json.dumps(data))

    def run() -> Passage:
        answer = client.child.ask({"do": "encode", "path": str(path)})
        taken = (cast("float", answer["encode_s"]), cast("float", answer["decode_s"]))
        return Passage(*taken, cast("int", answer["bytes"]))

    return run


def _total(passage: Passage) -> float:
    return passage.encode_s + passage.decode_s


def _figures(passages: list[Passage]) -> dict[str, float]:
    return {
        "encode_ms": statistics.median(passage.encode_s for passage in passages) * 1000,
        "decode_ms": statistics.median(passage.decode_s for passage in passages) * 1000,
        "mib": passages[0].num_bytes / 2**20,
    }
