"""Wrong calls by name: how each is made, and the field that its refusal names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from loops_core.client.training import TrainingClient
from loops_core.types.training import AdamParams
from loops_mock.strategies.broken_batches import break_batch
from loops_mock.strategies.program import Refusal, Row

_VALID: Final = Row((0,), (0,))
_OTHER: Final = Row((1,), (1,))

_FIELDS: Final[dict[str, str]] = {
    "a loss that nobody offers": "loss_fn",
    "a setting that the loss does not have": "loss_fn_config['no_such_setting']",
    "a negative learning rate": "adam_params.learning_rate",
    "a checkpoint name with a slash": "name",
    "a used key with another body": "",
}


def refusal_field(what: Refusal) -> str:
    """Return the field that the error names; empty for a conflict, which names the operation."""
    if what in _FIELDS:
        return _FIELDS[what]
    return next(bad.field for bad in break_batch([_VALID.datum()], 0) if bad.name == what)


def make_wrong_call(trainer: TrainingClient, what: Refusal, key: str | None) -> object:
    """Make a wrong call, which raises.

    Args:
        trainer: whom to call.
        what: what is wrong with it.
        key: a key that a pass or a step was submitted under, for the refusal that needs one.

    Returns:
        The future of what should have been refused.
    """
    special: dict[str, Callable[[], object]] = {
        "a loss that nobody offers": lambda: trainer.forward_backward(
            [_VALID.datum()], "no_such_loss"
        ),
        "a setting that the loss does not have": lambda: trainer.forward_backward(
            [_VALID.datum()], loss_fn_config={"no_such_setting": 1.0}
        ),
        "a negative learning rate": lambda: trainer.optim_step(_negative_rate()),
        "a checkpoint name with a slash": lambda: trainer.save_state("a/b"),
        "a used key with another body": lambda: trainer.forward(
            [_OTHER.datum()] * 7, idempotency_key=key
        ),
    }
    if what in special:
        return special[what]()
    bad = next(bad for bad in break_batch([_VALID.datum()], 0) if bad.name == what)
    return trainer.forward_backward(bad.value)


def _negative_rate() -> AdamParams:
    params = AdamParams()
    params.learning_rate = -1.0
    return params
