"""Faults of saves and loads: what a checkpoint keeps, and what comes back."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_TRAINER: Final = "loops_mock.trainer:MockTrainer"
_MACHINE: Final = "loops_core.worker.machine:TrainerMachine"

LOADS: Final = (
    Mutant(
        "load.optimizer-not-restored",
        "the loss jumps after a resume: load_state_with_optimizer leaves the moments out",
        "worker",
        (
            Edit(
                f"{_MACHINE}._load",
                "self._trainer.load(path, optimizer=optimizer)",
                "self._trainer.load(path, optimizer=False)",
            ),
        ),
    ),
    Mutant(
        "load.optimizer-kept",
        "fine-tuning from a checkpoint starts with another run's momentum: load_state restores it",
        "worker",
        (
            Edit(
                f"{_MACHINE}._load",
                "self._trainer.load(path, optimizer=optimizer)",
                "self._trainer.load(path, optimizer=True)",
            ),
        ),
    ),
    Mutant(
        "load.resume-off-by-one",
        "a resumed run is one step ahead of the one that it resumes",
        "mock-backend",
        (
            Edit(
                "loops_mock.files:_read_state",
                "TrainerState(adapter=Adapter(rank=rank, alpha=alpha, factors=groups['adapter']), "
                "first=groups['first'], second=groups['second'], step=header['step'], "
                "pending=pending)",
                "TrainerState(adapter=Adapter(rank=rank, alpha=alpha, factors=groups['adapter']), "
                "first=groups['first'], second=groups['second'], step=header['step'] + 1, "
                "pending=pending)",
            ),
            Edit(
                "loops_mock.files:load_state",
                "state.digest() != header['digest']",
                "False",
            ),
        ),
    ),
    Mutant(
        "load.second-moments-lost",
        "after a resume the learning rate seems to be another: the second moments start at zero",
        "mock-backend",
        (
            Edit(
                f"{_TRAINER}.load",
                "state if optimizer else TrainerState.fresh(state.adapter)",
                "replace(state, second=TrainerState.fresh(state.adapter).second) if optimizer "
                "else TrainerState.fresh(state.adapter)",
            ),
        ),
    ),
    Mutant(
        "load.rounded",
        "a resumed run drifts from the one that it resumes: weights are saved in half precision",
        "mock-backend",
        (
            Edit(
                f"{_TRAINER}.save",
                "files.save_state(self._need_state(), path)",
                "state = self._need_state()\n"
                "half = {site: type(pair)(*(x.astype('float16').astype('float32') for x in pair)) "
                "for site, pair in state.adapter.factors.items()}\n"
                "files.save_state(replace(state, adapter=replace(state.adapter, factors=half)), "
                "path)",
            ),
        ),
    ),
    Mutant(
        "load.failed-resets",
        "a load of a wrong path throws the adapter away",
        "worker",
        (
            Edit(
                f"{_MACHINE}._load",
                "path = self._open_path(body.path, as_of_s)",
                "try:\n"
                "    path = self._open_path(body.path, as_of_s)\n"
                "except Exception:\n"
                "    self._trainer.init(rank=self._trainer.rank, seed=0)\n"
                "    raise",
            ),
        ),
    ),
    Mutant(
        "load.gradients-kept",
        "the first step after a load trains on a batch of before",
        "mock-backend",
        (
            Edit(
                f"{_TRAINER}.load",
                "state if optimizer else TrainerState.fresh(state.adapter)",
                "state if optimizer else replace(TrainerState.fresh(state.adapter), "
                "pending=self._state and self._state.pending)",
            ),
        ),
    ),
    Mutant(
        "save.touches-gradients",
        "saving in the middle of a batch loses what was accumulated",
        "mock-backend",
        (
            Edit(
                f"{_TRAINER}.save",
                "files.save_state(self._need_state(), path)",
                "self._state = replace(self._need_state(), pending=None)\n"
                "files.save_state(self._state, path)",
            ),
        ),
    ),
)
"""The faults of saves and loads."""
