"""Faults of waiting, retrying and ordering in the client."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_FUTURE: Final = "loops_core.client.waiting:BaseFuture"

RETRYING: Final = (
    Mutant(
        "client.timeout-is-final",
        "a future whose wait timed out can never be read again",
        "client",
        (
            Edit(
                f"{_FUTURE}.wait_flow",
                "raise self.timed_out()",
                "self._settle(Outcome(error=self.timed_out()))",
            ),
        ),
    ),
    Mutant(
        "client.own-key-ignored",
        "a retry by the caller doubles gradients: idempotency_key is not passed on",
        "client",
        (
            Edit(
                "loops_core.client.link:TrainerLink.submit_all",
                "idempotency_key or new_key()",
                "new_key()",
            ),
            Edit(
                "loops_core.client.link:TrainerLink.submit_parts",
                "idempotency_key or new_key()",
                "new_key()",
            ),
        ),
    ),
    Mutant(
        "client.errors-swallowed",
        "a failed operation reads as a result of defaults",
        "client",
        (
            Edit(
                "loops_core.client.polling:read_status",
                "return Outcome(error=ref.own(_error_of(status)))",
                "return Outcome(value=ref.result_type.model_construct())",
            ),
        ),
    ),
    Mutant(
        "client.sends-out-of-order",
        "calls of several threads overtake each other while one is being sent",
        "client",
        (
            Edit(
                "loops_core.client.turns:Turnstile._is_first",
                "next(iter(self._queue)) is turn",
                "True",
            ),
        ),
    ),
    Mutant(
        "client.hammers",
        "a client whose polls come back early asks again without a pause",
        "client",
        (
            Edit(
                "loops_core.client.futures:OperationFuture._after_pending",
                "polling.pause_after_early_answer(self._early, held_s=held_s, hold_s=hold_s)",
                "0.0",
            ),
        ),
    ),
    Mutant(
        "client.retries-with-new-keys",
        "a lost answer doubles an operation: each attempt has a key of its own",
        "client",
        (
            Edit(
                "loops_core.client.drivers:Driver.persist",
                "_within(call, left_s if attempts else budget_s)",
                "dataclasses.replace(_within(call, left_s if attempts else budget_s), "
                "idempotency_key=call.idempotency_key and "
                "f'{call.idempotency_key}-{attempts}')",
            ),
        ),
        only="world",
    ),
    Mutant(
        "client.gives-up-at-once",
        "one lost connection ends a run: nothing is retried",
        "client",
        (
            Edit(
                "loops_core.client.drivers:Driver.persist",
                "pause is None",
                "True",
            ),
        ),
        only="world",
    ),
    Mutant(
        "client.never-gives-up",
        "a service that answers 5xx for ever is asked for ever",
        "client",
        (
            Edit(
                "loops_core.client.polling:pause_after_failure",
                "pause if pause <= left_s else None",
                "pause",
            ),
        ),
    ),
    Mutant(
        "client.retry-after-ignored",
        "the pause that a busy service asks for is not kept",
        "client",
        (
            Edit(
                "loops_core.client.polling:pause_after_failure",
                "error.retry_after_s if isinstance(error, BusyError) else None",
                "None",
            ),
        ),
    ),
    Mutant(
        "client.poll-failure-is-final",
        "one 502 on a poll loses the result, though the operation goes on",
        "client",
        (
            Edit(
                "loops_core.client.futures:OperationFuture.advance",
                "self._after_trouble(error)",
                "self._settle(Outcome(error=self._ref.own(error)))",
            ),
        ),
        only="world",
    ),
)
"""The faults of waiting and retrying."""
