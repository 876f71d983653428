"""What answers calls from a cassette, whatever their order and whoever makes them."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any, Final, TypeVar, final

from loops_core.errors import LoopsError, NotFoundError, error_from_body
from loops_core.protocols import BodyLimits
from loops_core.types.base import WireModel
from loops_core.types.operation import OperationStatus, PollReply
from loops_core.types.routes import Call
from loops_mock.cassette.content import OWN_RUN, Content, content_of, rename_run
from loops_mock.cassette.kinds import Kind, is_change, is_submit, kind_of
from loops_mock.cassette.lanes import Lanes, samplers_of
from loops_mock.cassette.nearest import explain
from loops_mock.cassette.recorder import sampler_lane
from loops_mock.cassette.scrubbing import Scrubber
from loops_mock.cassette.tape import Cassette, Outcome, RecordedCall
from loops_mock.cassette.values import Encoded, decode

ReplyT = TypeVar("ReplyT", bound=WireModel)
UNKNOWN: Final = "recorded call"
"""The `kind` of the `NotFoundError` of a call that is not on the cassette."""


@final
class Player:
    """Answers the calls of a recording; safe from any number of threads.

    A call is known by what it says. Calls that say the same are answered in the order of the
    recorded ones; a repeated idempotency key is the same call. Readings, such as a policy version,
    follow the changes of their run. An operation has its recorded result at once.
    """

    def __init__(self, tape: Cassette) -> None:
        """Play from the beginning."""
        self.tape = tape
        self.scrubber = Scrubber()
        self._lock = threading.Lock()
        self._lanes = Lanes(tape)
        self._samplers = {sampler: sampler_lane(key) for sampler, key in samplers_of(tape)}
        self._answered: dict[tuple[str, bytes], RecordedCall] = {}
        self._readings: Counter[tuple[str, bytes, int]] = Counter()
        self._changes: Counter[str] = Counter()
        self._told: set[str] = set()

    def answer(self, call: Call[ReplyT]) -> ReplyT:
        """Return the recorded reply.

        Raises:
            NotFoundError: nothing like this was recorded; it says what comes nearest.
            LoopsError: whatever the recorded call was refused with.
        """
        if kind_of(call) is Kind.BY_OPERATION:
            return self._operation(call)
        content = content_of(call, self.scrubber, self._samplers, self._lanes.names)
        with self._lock:
            found = self._find(call, content)
            if is_change(content.route) and not is_submit(content.route):
                self._changed(content.run)
        return _open(found.outcome, call.route.reply_type, content.run)

    def limits(self, base_url: str | None) -> BodyLimits:
        """Return how large a body may be: as when it was recorded, where batches were split."""
        limits = self.tape.limits.get(base_url or "", BodyLimits())
        return BodyLimits() if limits.takes_parts else limits

    def _find(self, call: Call[Any], content: Content) -> RecordedCall:
        mark = (call.idempotency_key or "", content.key)
        if call.idempotency_key and mark in self._answered:
            return self._answered[mark]
        if kind_of(call) is Kind.READ:
            found = self._read(content)
        else:
            found = self._lanes.draw(content.lane, content.key)
        if found is None:
            raise NotFoundError(
                explain(self.tape, content, self._lanes.drawn(content.lane, content.key)),
                kind=UNKNOWN,
                name=content.route,
            )
        self._answered[mark] = found
        return found

    def _read(self, content: Content) -> RecordedCall | None:
        """Return the reading that was made at this point of the run, or last before it."""
        recorded = self._lanes.recorded(content.lane, content.key)
        if not recorded:
            return None
        now = self._changes[content.run or ""]
        past = [each for each in recorded if each.after <= now]
        if not past:
            return recorded[0]
        last = [each for each in past if each.after == past[-1].after]
        mark = (content.lane, content.key, now)
        number = self._readings[mark]
        self._readings[mark] += 1
        return last[min(number, len(last) - 1)] if last[0].after == now else last[-1]

    def _operation(self, call: Call[ReplyT]) -> ReplyT:
        name = call.route.name
        if name == "poll":
            wanted: list[str] = getattr(call.body, "operation_ids", [])
            ended = {each: self._result(each) for each in wanted}
            return call.route.reply_type.model_validate(PollReply(operations=ended).__dict__)
        operation = call.path_args["operation_id"]
        if name == "cancel":
            if operation not in self.tape.cancels:
                raise self._not_recorded(f"no cancel of operation {operation!r}", name)
            cancelled = self.tape.cancels[operation]
            return call.route.reply_type.model_validate({"cancelled": cancelled})
        return call.route.reply_type.model_validate(self._result(operation).__dict__)

    def _result(self, operation: str) -> OperationStatus:
        outcome = self.tape.results.get(operation)
        if outcome is None:
            raise self._not_recorded(f"no result of operation {operation!r}", "retrieve")
        submit = self._lanes.submit_of(operation)
        run = None if submit is None else self._lanes.handle(submit.content.run)
        with self._lock:
            if operation not in self._told:
                self._told.add(operation)
                if submit is not None and is_change(submit.content.route):
                    self._changed(run)
        return _open(outcome, OperationStatus, run)

    def _not_recorded(self, what: str, name: str) -> LoopsError:
        why = (
            "it was not asked for while recording; record the run again with code that reads every "
            "result"
            if self.tape.is_whole
            else "the recording broke off, and this may have come later; record the run again"
        )
        return NotFoundError(f"the cassette holds {what}: {why}", kind=UNKNOWN, name=name)

    def _changed(self, run: str | None) -> None:
        self._changes[""] += 1
        if run:
            self._changes[run] += 1


def _open(outcome: Outcome, reply_type: type[ReplyT], run: str | None) -> ReplyT:
    """Return the reply in the names that the caller knows, or raise the error."""
    if outcome.error is not None:
        raise error_from_body(outcome.error)
    assert outcome.reply is not None
    encoded = outcome.reply
    if run is not None and OWN_RUN.encode() in encoded.text:
        text = rename_run(encoded.text.decode(), OWN_RUN, run)
        encoded = Encoded(text.encode(), encoded.spans, encoded.buffers)
    return decode(encoded, reply_type)
