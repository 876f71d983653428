"""Faults of recovery: what a worker that died and came back has lost, or does once more."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_SEQUENCER: Final = "loops_core.worker.sequencer:Sequencer"
_MACHINE: Final = "loops_core.worker.machine:TrainerMachine"
_STATEMENTS: Final = "loops_core.worker.log_statements"

RECOVERY: Final = (
    Mutant(
        "recovery.last-entry-lost",
        "a restart loses the last operation: the replay stops one short",
        "worker",
        (
            Edit(
                f"{_SEQUENCER}.recover",
                "self._machine.replay(entry, _to_result(stored))",
                "history.next_to_replay(entry.sequence) is not None and "
                "self._machine.replay(entry, _to_result(stored))",
            ),
        ),
        only="world",
    ),
    Mutant(
        "recovery.replayed-twice",
        "a restart applies the last operation once more",
        "worker",
        (
            Edit(
                f"{_SEQUENCER}.recover",
                "self._machine.replay(entry, _to_result(stored))",
                "self._machine.replay(entry, _to_result(stored))\n"
                "if entry.kind == 'forward_backward':\n"
                "    self._machine.replay(entry, _to_result(stored))",
            ),
        ),
        only="world",
    ),
    Mutant(
        "recovery.snapshot-without-optimizer",
        "after a restart the moments are empty",
        "worker",
        (
            Edit(
                f"{_MACHINE}.load",
                "self._trainer.load(path / _TRAINER_FOLDER, optimizer=True)",
                "self._trainer.load(path / _TRAINER_FOLDER, optimizer=False)",
            ),
        ),
        only="world",
    ),
    Mutant(
        "recovery.version-lost",
        "after a restart the policy version starts again",
        "worker",
        (
            Edit(f"{_MACHINE}.load", "int(state['version'])", "0"),
            Edit(f"{_MACHINE}.replay", "self._counters.version = result.version", "pass"),
        ),
        only="world",
    ),
    Mutant(
        "recovery.live-weights-lost",
        "after a restart samples come from the base model",
        "worker",
        (
            Edit(
                "loops_core.worker.runs:Runs._open_run",
                "self._publisher.publish(answering)",
                "self._live.begin(record.id, Weights())",
            ),
            Edit(
                "loops_core.worker.sampling:SamplingDesk.live_of",
                "self._records.live_checkpoint(run_id)",
                "None",
            ),
        ),
        only="world",
    ),
    Mutant(
        "recovery.keys-lost",
        "a retry across a restart runs again",
        "worker",
        (
            Edit(
                f"{_STATEMENTS}:append",
                "if known := recall(db, operation_id, digest):\n    return known",
                "if known := recall(db, operation_id, digest):\n"
                "    operation_id = f'{operation_id} again {submitted_s}'",
            ),
        ),
        only="world",
    ),
    Mutant(
        "recovery.results-lost",
        "results of before a restart cannot be read after it",
        "worker",
        (
            Edit(
                "loops_core.worker.results:Results.__init__",
                "self._results_kept_s = results_kept_s",
                "self._results_kept_s = min(results_kept_s, 1.0)",
            ),
        ),
        only="world",
    ),
    Mutant(
        "recovery.interrupted-dropped",
        "the operation that ran when the worker died is never finished",
        "worker",
        (
            Edit(
                f"{_SEQUENCER}.recover",
                "interrupted.attempts < self._settings.max_attempts",
                "False",
            ),
        ),
        only="world",
    ),
)
"""The faults of recovery."""
