"""Faults of the operation queue: order, repeats, failures, results, and work that is lost."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit, Value
from tests.mutants.mutant import Mutant

_LOG: Final = "loops_core.worker.log_memory:MemoryLog"
_QUEUE: Final = "loops_core.worker.host:OperationQueue"
_SEQUENCER: Final = "loops_core.worker.sequencer:Sequencer"
_RESULTS: Final = "loops_core.worker.results:Results"
_STATUS: Final = "loops_core.worker.results:_to_ended"

_FRESH: Final = "chance.draw_hex(16) if idempotency_key is None else _check_key(idempotency_key)"

QUEUE: Final = (
    Mutant(
        "queue.repeat-runs-again",
        "a retried optim_step is applied twice: the idempotency key is not kept",
        "worker",
        (
            Edit(f"{_QUEUE}.submit", _FRESH, "chance.draw_hex(16)"),
            Edit(f"{_QUEUE}.submit_async", _FRESH, "chance.draw_hex(16)"),
        ),
    ),
    Mutant(
        "queue.repeat-forgotten-at-end",
        "a retry that comes after the end runs once more: keys are kept while an entry waits only",
        "worker",
        (
            Edit(
                f"{_LOG}.append",
                "known is not None",
                "known is not None and not known.state.is_final",
            ),
        ),
    ),
    Mutant(
        "queue.conflict-accepted",
        "another body under a used key is taken for a repeat and silently dropped",
        "worker",
        (
            Edit(
                "loops_core.worker.log_memory:_repeated",
                "known.digest == digest",
                "True",
            ),
        ),
    ),
    Mutant(
        "queue.repeat-conflicts",
        "a retry after a lost answer is refused as a conflict",
        "worker",
        (
            Edit(
                "loops_core.worker.log_memory:_repeated",
                "known.digest == digest",
                "False",
            ),
        ),
    ),
    Mutant(
        "queue.last-in-first-out",
        "of operations that wait the newest runs first",
        "worker",
        (Edit(f"{_LOG}._take", "self._queued.popitem(last=False)", "self._queued.popitem()"),),
    ),
    Mutant(
        "queue.steps-overtake",
        "an optimizer step overtakes the passes that it is for",
        "worker",
        (
            Edit(
                f"{_LOG}._take",
                "self._running, entry = self._queued.popitem(last=False)",
                "first = [k for k, e in self._queued.items() if e.kind == 'optim_step']\n"
                "self._running = first[0] if first else next(iter(self._queued))\n"
                "entry = self._queued.pop(self._running)",
            ),
        ),
    ),
    Mutant(
        "queue.failure-poisons",
        "after one failed operation all later ones of the run fail too",
        "worker",
        (
            Edit(
                f"{_SEQUENCER}._end_of",
                "result = self._attempt(lambda: self._machine.apply(_to_entry(stored)))",
                "poison = getattr(self, '_poison', None)\n"
                "result = poison or self._attempt("
                "lambda: self._machine.apply(_to_entry(stored)))\n"
                "if isinstance(result, Exception):\n"
                "    self._poison = result",
            ),
        ),
    ),
    Mutant(
        "queue.failure-poisons-next",
        "the operation behind a failed one fails with the same error",
        "worker",
        (
            Edit(
                f"{_SEQUENCER}._end_of",
                "result = self._attempt(lambda: self._machine.apply(_to_entry(stored)))",
                "poison = getattr(self, '_poison', None)\n"
                "result = poison or self._attempt("
                "lambda: self._machine.apply(_to_entry(stored)))\n"
                "failed = isinstance(result, Exception) and poison is None\n"
                "self._poison = result if failed else None",
            ),
        ),
    ),
    Mutant(
        "queue.failure-hidden",
        "a failed operation is reported as done",
        "worker",
        (
            Edit(
                f"{_SEQUENCER}._end_of",
                "result = self._attempt(lambda: self._machine.apply(_to_entry(stored)))",
                "result = self._attempt(lambda: self._machine.apply(_to_entry(stored)))\n"
                "if isinstance(result, Exception):\n"
                "    kind = OperationKind(stored.kind)\n"
                "    extra = {'lora_rank': 1} if 'init' in kind else {}\n"
                "    result = OPERATIONS[kind].result_type(**extra)",
            ),
        ),
    ),
    Mutant(
        "queue.failed-without-class",
        "errors of operations do not say of which class they are",
        "worker",
        (Edit(_STATUS, "error_class or outcome.error.code", "None"),),
        only="http",
    ),
    Mutant(
        "queue.failed-without-reason",
        "a failed operation says: internal error",
        "worker",
        (
            Edit(
                "loops_core.worker.results:make_error_body",
                "return error_to_body(error.for_operation("
                "operation_id=operation_id, operation=kind, run_id=None))",
                "return error_to_body(RemoteOpError('internal error'))",
            ),
        ),
    ),
    Mutant(
        "queue.read-once",
        "a result that was read once is gone: a lost answer cannot be fetched again",
        "worker",
        (
            Edit(
                f"{_RESULTS}._to_status",
                "return _to_ended(outcome)",
                "seen = self.__dict__.setdefault('seen', set())\n"
                "if outcome.operation_id in seen:\n"
                "    raise UnknownRequestError('the result was read')\n"
                "seen.add(outcome.operation_id)\n"
                "return _to_ended(outcome)",
            ),
        ),
        only="http",
    ),
    Mutant(
        "queue.expires-at-once",
        "results are gone before they can be read",
        "worker",
        (Edit(f"{_RESULTS}._to_status", "ended_s + self._results_kept_s", "ended_s + 0.0"),),
    ),
    Mutant(
        "queue.unknown-waits",
        "a poll of an operation that never was waits for ever",
        "worker",
        (
            Edit(
                f"{_RESULTS}._to_status",
                "raise UnknownRequestError("
                "f'operation {operation_id!r} is not known to this run', "
                "operation_id=operation_id)",
                "return OperationStatus(status='pending')",
            ),
        ),
        only="http",
    ),
    Mutant(
        "queue.cancel-lies",
        "a cancelled operation runs all the same",
        "worker",
        (
            Edit(
                f"{_LOG}.cancel",
                "self._queued.pop(operation_id, None) is not None",
                "operation_id in self._queued",
            ),
            Edit(
                f"{_LOG}.cancel",
                "if was_queued:\n"
                "    ended = make_cancelled(operation_id, finished_s=self._clock.now())\n"
                "    self._end(entry, replace(ended, kind=entry.kind))",
                "pass",
            ),
            Edit(
                f"{_QUEUE}.cancel",
                "if cancelled.was_queued:\n"
                "    self._room.release(cancelled.num_bytes)\n"
                "    self._results.settle(cancelled.outcome)",
                "pass",
            ),
            Edit(
                f"{_QUEUE}.cancel",
                "cancelled.outcome.state is EntryState.CANCELLED",
                "True",
            ),
        ),
    ),
    Mutant(
        "queue.cancel-too-late-says-yes",
        "cancelling what has already run is said to have worked",
        "worker",
        (
            Edit(
                f"{_QUEUE}.cancel",
                "cancelled.outcome.state is EntryState.CANCELLED",
                "True",
            ),
        ),
    ),
    Mutant(
        "queue.sequence-required",
        "a second client of a run is refused: seq_id has to go on where the first one was",
        "worker",
        (
            Edit(
                "loops_core.worker.trainers:TrainerDesk._checked",
                "check_operation(body, run.description)",
                "last = self.__dict__.setdefault('last', {})\n"
                "if (body.seq_id or 0) and body.seq_id <= last.get(run.record.id, 0):\n"
                "    raise UsageError('seq_id has to grow', field='seq_id')\n"
                "last[run.record.id] = body.seq_id or 0\n"
                "check_operation(body, run.description)",
            ),
        ),
        only="http",
    ),
    Mutant(
        "queue.runs-share-a-trainer",
        "a reset in one run resets the others",
        "worker",
        (
            Edit(
                "loops_core.worker.models:Models.open_trainer",
                "return self._plugins.provision(run_spec, self._backend).open_trainer(spec)",
                "shared = self.__dict__.setdefault('shared', {})\n"
                "if run.base_model not in shared:\n"
                "    shared[run.base_model] = self._plugins.provision("
                "run_spec, self._backend).open_trainer(spec)\n"
                "return shared[run.base_model]",
            ),
        ),
    ),
    Mutant(
        "queue.kept-too-short",
        "keys are forgotten after a second, results after a millisecond",
        "worker",
        (
            Value("loops_core.worker.sequencer:_EXPIRE_EVERY_S", lambda _: 0.0),
            Edit(
                f"{_SEQUENCER}._expire_if_due",
                "self._log.expire(results_kept_s=kept_s, keys_kept_s=self._settings.keys_kept_s)",
                "self._log.expire(results_kept_s=0.0 * kept_s, keys_kept_s=0.0)",
            ),
        ),
    ),
)
"""The faults of the queue."""
