"""Rules of ttl_seconds: checkpoints that expire, and those that do not."""

from __future__ import annotations

import threading

from loops_core.errors import LoopsError
from loops_mock.contract.probes import expect_same, look
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject

_LOOKS = 5
"""How often to look, a second apart: whoever cleans up has its own pace."""


@rule(
    "ttl.what-has-expired-is-gone",
    title="A checkpoint is neither listed nor loaded once its ttl_seconds are over",
    section="6.3",
    needs={"train"},
)
def what_has_expired_is_gone(subject: Subject) -> None:
    """Save one for a second, and one for good."""
    trainer = subject.trainer()
    path = trainer.save_state("brief", ttl_seconds=1).result().path
    trainer.save_state("kept").result()
    threading.Event().wait(1.05)
    names: set[str] = set()
    for _ in range(_LOOKS):
        names = {found.checkpoint_id for found in trainer.list_checkpoints()}
        if "brief" not in names:
            break
        threading.Event().wait(1.0)
    expect(names == {"kept"}, "it is not listed any more, the other one is", seen=sorted(names))
    error = trainer.load_state(path).exception()
    expect(isinstance(error, LoopsError), "it cannot be loaded", seen=error)


@rule(
    "ttl.what-has-not-expired-is-there",
    title="A checkpoint with time left, or without ttl_seconds, is listed and can be loaded",
    section="6.3",
    needs={"train"},
)
def what_has_not_expired_is_there(subject: Subject) -> None:
    """Save one for an hour, and one for good, and load both."""
    trainer = subject.trainer()
    there = look(trainer)
    paths = [
        trainer.save_state(name, ttl_seconds=ttl).result().path
        for name, ttl in (("hour", 3600), ("kept", None))
    ]
    names = {found.checkpoint_id for found in trainer.list_checkpoints()}
    expect(names == {"hour", "kept"}, "both are listed", seen=sorted(names))
    for path in paths:
        trainer.load_state(path).result()
    expect_same("both can be loaded", look(trainer), there)
