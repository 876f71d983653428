"""Faults of the control plane and of the checks at the door: creates, owners, names, bad input."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_CONTROL: Final = "loops_core.worker.control:ControlPlane"
_VALIDATION: Final = "loops_core.worker.validation"
_TRAINERS: Final = "loops_core.worker.trainers"

CONTROL: Final = (
    Mutant(
        "create.repeat-makes-another",
        "a lost answer to a create leaves a billed trainer behind",
        "worker",
        (Edit(f"{_CONTROL}._once", "call.idempotency_key is None", "True"),),
        only="http",
    ),
    Mutant(
        "create.sampler-each-time",
        "a run gets a new paired sampler at each publish",
        "worker",
        (
            Edit(
                f"{_CONTROL}._find_or_add_sampler",
                "make_id() if paired is None else paired.id",
                "make_id()",
            ),
            Edit(
                f"{_CONTROL}._find_or_add_sampler",
                "if paired is None:\n    make(None, sampler_id)",
                "make(None, sampler_id)",
            ),
        ),
    ),
    Mutant(
        "create.seed-ignored",
        "two runs with the same seed differ",
        "worker",
        (
            Edit(
                f"{_CONTROL}.create_trainer",
                "chance.draw_bits(_SEED_BITS) if body.seed is None else body.seed",
                "chance.draw_bits(_SEED_BITS)",
            ),
        ),
    ),
    Mutant(
        "create.rank-ignored",
        "every adapter has rank 32",
        "worker",
        (
            Edit(
                "loops_core.worker.machine:TrainerMachine._init",
                "self._trainer.init(rank=body.lora_rank, seed=seed)",
                "self._trainer.init(rank=32, seed=seed)",
            ),
        ),
    ),
    Mutant(
        "create.session-unchecked",
        "a trainer can be made in a session that never was",
        "worker",
        (
            Edit(
                f"{_CONTROL}.create_trainer", "self._check_session(body.session_id, owner)", "pass"
            ),
        ),
        only="http",
    ),
    Mutant(
        "init.keeps-optimizer",
        "a reset trainer goes on with the old step count",
        "mock-backend",
        (
            Edit(
                "loops_mock.trainer:MockTrainer.init",
                "self._state = TrainerState.fresh(adapter)",
                "step = 0 if self._state is None else self._state.step\n"
                "self._state = replace(TrainerState.fresh(adapter), step=step)",
            ),
        ),
    ),
    Mutant(
        "init.keeps-weights",
        "a reset trainer still has what it learned",
        "mock-backend",
        (
            Edit(
                "loops_mock.trainer:MockTrainer.init",
                "self._state = TrainerState.fresh(adapter)",
                "old = self._state\n"
                "keep = old is not None and old.adapter.rank == rank\n"
                "self._state = TrainerState.fresh(old.adapter if keep else adapter)",
            ),
        ),
    ),
    Mutant(
        "init.keeps-gradients",
        "a reset trainer steps with gradients of before",
        "mock-backend",
        (
            Edit(
                "loops_mock.trainer:MockTrainer.init",
                "self._state = TrainerState.fresh(adapter)",
                "old = self._state\n"
                "keep = old is not None and old.adapter.rank == rank\n"
                "self._state = replace(TrainerState.fresh(adapter), "
                "pending=old.pending if keep else None)",
            ),
        ),
    ),
    Mutant(
        "run.deactivated-answers",
        "a deactivated run goes on training, and costing",
        "worker",
        (
            Edit(
                "loops_core.worker.overview:Overview.deactivate_run",
                "self._runs.deactivate(record)",
                "self._records.end_run(record.id, now_s=0.0)",
            ),
        ),
        only="http",
    ),
    Mutant(
        "owner.sees-others",
        "a run of one key can be read with another key",
        "worker",
        (
            Edit(
                "loops_core.worker.records:Records._owned",
                "sa.and_(_table(row_type).c.owner == owner, where)",
                "where",
            ),
            Edit(
                "loops_core.worker.runs:Runs.peek",
                "run if run is not None and run.record.owner == owner else None",
                "run",
            ),
        ),
        only="http",
    ),
    Mutant(
        "capabilities.empty",
        "get_server_capabilities names no model",
        "worker",
        (Edit(f"{_CONTROL}.capabilities", "self._models.names()", "()"),),
        only="http",
    ),
    Mutant(
        "checks.unknown-loss",
        "a misspelt loss trains with cross-entropy",
        "worker",
        (
            Edit(
                f"{_VALIDATION}:_known_loss",
                "loss_fn not in trainer.losses",
                "False",
            ),
            Edit(
                f"{_VALIDATION}:_known_loss",
                "return trainer.losses[loss_fn]",
                "return trainer.losses.get(loss_fn, trainer.losses['cross_entropy'])",
            ),
            Edit(
                "loops_core.worker.machine:TrainerMachine._pass",
                "body.loss_fn",
                "body.loss_fn if body.loss_fn in self._trainer.describe().losses "
                "else 'cross_entropy'",
            ),
        ),
    ),
    Mutant(
        "checks.unknown-setting",
        "a misspelt setting of a loss is ignored",
        "worker",
        (
            Edit(
                "loops_core.worker.trainers:TrainerDesk._checked",
                "check_operation(body, run.description)",
                "if getattr(body, 'loss_fn_config', None) and body.loss_fn in "
                "run.description.losses:\n"
                "    known = {s.name for s in run.description.losses[body.loss_fn].settings}\n"
                "    kept = {k: v for k, v in body.loss_fn_config.items() if k in known}\n"
                "    body = body.model_copy(update={'loss_fn_config': kept})\n"
                "check_operation(body, run.description)",
            ),
        ),
    ),
    Mutant(
        "checks.token-clamped",
        "token ids beyond the vocabulary are read as its last one",
        "worker",
        (
            Edit(
                "loops_core.worker.trainers:TrainerDesk._checked",
                "check_operation(body, run.description)",
                "from loops_core.types.datum import ModelInput\n"
                "if hasattr(body, 'data'):\n"
                "    top = run.description.vocab_size - 1\n"
                "    data = [d.model_copy(update={'model_input': ModelInput.from_ints("
                "[min(max(t, 0), top) for t in d.model_input.to_ints()])}) for d in body.data]\n"
                "    body = body.model_copy(update={'data': data})\n"
                "check_operation(body, run.description)",
            ),
        ),
    ),
    Mutant(
        "checks.nan-weights",
        "a NaN among the weights ruins the adapter",
        "worker",
        (
            Edit(
                "loops_core.protocols.rows:_read_datum",
                "not float(np.abs(values).max()) <= _LARGEST",
                "False",
            ),
            Edit(
                "loops_mock.passes:_make_result",
                "np.where(row.active, values, 0.0)",
                "np.nan_to_num(np.where(row.active, values, 0.0))",
            ),
        ),
    ),
    Mutant(
        "checks.long-prompt-cut",
        "a prompt that is too long is cut without a word",
        "worker",
        (
            Edit(
                "loops_core.worker.sampling:SamplingDesk.sample",
                "check_sample(body, engine.describe())",
                "longest = engine.describe().max_seq_len - 1 - (body.max_tokens or 1)\n"
                "body.prompt = body.prompt[-longest:]\n"
                "check_sample(body, engine.describe())",
            ),
        ),
    ),
    Mutant(
        "health.always-well",
        "health says well for a base model that the trainer does not have",
        "worker",
        (
            Edit(
                f"{_TRAINERS}:TrainerDesk._health",
                "_check_base_model(None if asked is None else str(asked), run)",
                "pass",
            ),
        ),
        only="http",
    ),
)
"""The faults of the control plane."""
