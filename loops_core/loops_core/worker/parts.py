"""Batches that arrive in parts: kept until they are whole, then one body."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, final

from loops_core.clock import Clock
from loops_core.errors import BusyError, UsageError
from loops_core.types.datum import Datum
from loops_core.types.frames import pack, unpack
from loops_core.types.operation import ForwardBody
from loops_core.types.routes import BatchPart

MOST_PARTS: Final = 10_000
KEPT_S: Final = 900.0
"""How long an incomplete batch is kept after its last part, in seconds."""

_RETRY_AFTER_S: Final = 2.0


@dataclass(slots=True)
class _Batch:
    count: int
    touched_s: float
    parts: dict[int, bytes] = field(default_factory=dict[int, bytes])

    def num_bytes(self) -> int:
        return sum(len(part) for part in self.parts.values())


@final
class PartsDesk:
    """Keeps the parts of batches, packed, within a bound of bytes; thread-safe.

    Nothing of a batch is executed before all of it is there. What was lost, by a restart or by
    time, is asked for again: an answer always says which parts are missing.
    """

    def __init__(self, clock: Clock, *, max_bytes: int) -> None:
        """Start empty."""
        self._clock = clock
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._batches: OrderedDict[tuple[str, str], _Batch] = OrderedDict()

    def add(self, run_id: str, key: str, part: BatchPart, body: ForwardBody) -> list[int]:
        """Keep one part; return the numbers of those that are missing.

        Args:
            run_id: the run that the batch is for.
            key: the batch's idempotency key.
            part: which one it is.
            body: its data, with the batch's own settings.

        Raises:
            UsageError: the part's numbers make no sense, or those of earlier parts are others.
            BusyError: other batches take all the room.
        """
        _check_part(part)
        packed = pack(body)
        with self._lock:
            self._forget_old()
            batch = self._batches.get((run_id, key))
            if batch is not None and batch.count != part.count:
                raise UsageError(
                    f"part {part.index} says that the batch has {part.count} parts, an earlier one "
                    f"said {batch.count}",
                    field="part",
                )
            if batch is None:
                batch = _Batch(part.count, self._clock.monotonic())
            self._check_room(packed, replaced=batch.parts.get(part.index, b""))
            batch.parts[part.index] = packed
            batch.touched_s = self._clock.monotonic()
            self._batches[run_id, key] = batch
            self._batches.move_to_end((run_id, key))
            return [index for index in range(batch.count) if index not in batch.parts]

    def join(self, run_id: str, key: str) -> ForwardBody:
        """Return the whole batch as one body; it is kept until `discard`.

        Raises:
            UsageError: the parts have different settings.
        """
        with self._lock:
            batch = self._batches[run_id, key]
            packed = [batch.parts[index] for index in range(batch.count)]
        bodies = [unpack(part, ForwardBody) for part in packed]
        first = bodies[0]
        for index, body in enumerate(bodies):
            if _settings(body) != _settings(first):
                raise UsageError(
                    f"part {index} of the batch has other settings than part 0", field="part"
                )
        data: list[Datum] = [datum for body in bodies for datum in body.data]
        return first.model_copy(update={"data": data})

    def discard(self, run_id: str, key: str) -> None:
        """Forget a batch; an unknown one is no error."""
        with self._lock:
            self._batches.pop((run_id, key), None)

    def _check_room(self, packed: bytes, *, replaced: bytes) -> None:
        used = sum(batch.num_bytes() for batch in self._batches.values()) - len(replaced)
        if used + len(packed) > self._max_bytes:
            raise BusyError(
                f"incomplete batches take {used} of {self._max_bytes} bytes: there is no room for "
                f"a part of {len(packed)}; repeat it later",
                retry_after_s=_RETRY_AFTER_S,
            )

    def _forget_old(self) -> None:
        before_s = self._clock.monotonic() - KEPT_S
        while self._batches and next(iter(self._batches.values())).touched_s < before_s:
            self._batches.popitem(last=False)


def _check_part(part: BatchPart) -> None:
    if not 1 <= part.count <= MOST_PARTS or not 0 <= part.index < part.count:
        raise UsageError(
            f"part {part.index} of {part.count}: expected an index from 0 below a count of at most "
            f"{MOST_PARTS}",
            field="part",
        )


def _settings(body: ForwardBody) -> tuple[object, ...]:
    config = None if body.loss_fn_config is None else dict(body.loss_fn_config)
    return body.loss_fn, config, body.top_k_logprobs
