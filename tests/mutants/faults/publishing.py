"""Faults of publishing: which weights answer a sample, and which version they are said to be."""

from __future__ import annotations

from typing import Final

from tests.mutants.editing import Edit
from tests.mutants.mutant import Mutant

_MACHINE: Final = "loops_core.worker.machine:TrainerMachine"
_DESK: Final = "loops_core.worker.sampling:SamplingDesk"
_SAMPLING: Final = "loops_core.worker.sampling"

PUBLISHING: Final = (
    Mutant(
        "publish.version-stays",
        "policy_version never rises, so nobody can tell old samples from new ones",
        "worker",
        (Edit(f"{_MACHINE}._publish", "self._counters.version + 1", "1"),),
    ),
    Mutant(
        "publish.version-falls",
        "after a reset of the trainer policy_version starts again, and floors are never reached",
        "worker",
        (
            Edit(
                f"{_MACHINE}._init",
                "self._counters.num_inits += 1",
                "self._counters.num_inits += 1\nself._counters.version = 0",
            ),
        ),
    ),
    Mutant(
        "publish.version-falls-on-load",
        "after load_state policy_version starts again",
        "worker",
        (
            Edit(
                f"{_MACHINE}._load",
                "self._counters.num_inits = max(1, self._counters.num_inits)",
                "self._counters.num_inits = max(1, self._counters.num_inits)\n"
                "self._counters.version = 0",
            ),
        ),
    ),
    Mutant(
        "publish.staged-stays-low",
        "publishing with bump_version false leaves the version where it was",
        "worker",
        (
            Edit(
                f"{_MACHINE}._publish",
                "self._counters.version = version",
                "self._counters.version = version if live else version - 1",
            ),
        ),
        only="http",
    ),
    Mutant(
        "publish.staged-goes-live",
        "bump_version false swaps the sampler all the same",
        "worker",
        (Edit(f"{_MACHINE}._publish", "body.bump_version is not False", "True"),),
        only="http",
    ),
    Mutant(
        "publish.stale-adapter",
        "samples after a publish still come from the first published weights",
        "worker",
        (
            Edit(
                f"{_DESK}.loaded",
                "Weights(adapter_id=record.key, path=path, version=record.version)",
                "Weights(adapter_id=record.run_id, path=path, version=record.version)",
            ),
        ),
    ),
    Mutant(
        "publish.not-swapped",
        "save_weights_for_sampler does not reach the sampler",
        "worker",
        (Edit(f"{_MACHINE}._publish", "self._publisher.publish(record)", "pass"),),
    ),
    Mutant(
        "publish.one-behind",
        "the sampler always serves the version before the newest",
        "worker",
        (
            Edit(
                f"{_SAMPLING}:LiveWeights.set",
                "self._live[run_id] = weights",
                "from dataclasses import replace\n"
                "last = self._live.get('last of ' + run_id, weights)\n"
                "self._live['last of ' + run_id] = weights\n"
                "self._live[run_id] = replace(last, version=weights.version)",
            ),
        ),
    ),
    Mutant(
        "publish.base-answers",
        "samples after a publish come from the base model",
        "worker",
        (
            Edit(
                f"{_SAMPLING}:to_request",
                "weights.adapter_id",
                "None",
            ),
        ),
    ),
    Mutant(
        "publish.shared-by-runs",
        "two runs of one base model serve each other's weights",
        "worker",
        (
            Edit(
                f"{_SAMPLING}:LiveWeights.get",
                "self._live.get(run_id, Weights())",
                "list(self._live.values())[-1] if self._live else Weights()",
            ),
        ),
    ),
    Mutant(
        "publish.erases-gradients",
        "publishing in the middle of a batch loses what was accumulated",
        "mock-backend",
        (
            Edit(
                "loops_mock.trainer:MockTrainer.export_adapter",
                "files.export_adapter(self._need_state().adapter, self._base_model, path)",
                "files.export_adapter(self._need_state().adapter, self._base_model, path)\n"
                "self._state = replace(self._need_state(), pending=None)",
            ),
        ),
    ),
    Mutant(
        "publish.transposed",
        "the exported adapter is laid out the wrong way round: samples do not match training",
        "mock-backend",
        (
            Edit(
                "loops_mock.files:load_adapter",
                "Adapter(rank=rank, alpha=alpha, factors=factors)",
                "Adapter(rank=rank, alpha=-alpha, factors=factors)",
            ),
        ),
    ),
    Mutant(
        "publish.alpha-of-default",
        "exported adapters carry alpha = rank, and samples are too timid",
        "mock-backend",
        (
            Edit(
                "loops_mock.files:export_adapter",
                "adapter.alpha",
                "adapter.rank",
            ),
        ),
    ),
    Mutant(
        "floor.ignored",
        "X-Min-Policy-Version is ignored: rollouts come from older weights than asked for",
        "worker",
        (
            Edit(
                f"{_DESK}._floor",
                "weights if (weights.version or 0) >= floor else None",
                "weights",
            ),
        ),
    ),
    Mutant(
        "pin.follows-live",
        "a client pinned to a checkpoint follows the training",
        "worker",
        (
            Edit(
                f"{_DESK}._pinned",
                "pin.run_id is None or pin.min_policy_version is None",
                "False",
            ),
            Edit(
                f"{_DESK}._pinned",
                "live if (live.version or 0) >= pin.min_policy_version else checkpoint",
                "live if (live.version or 0) >= (pin.min_policy_version or 0) else checkpoint",
            ),
            Edit(f"{_DESK}._pinned", "self._live.get(pin.run_id)", "self._live.get(record.run_id)"),
        ),
    ),
    Mutant(
        "pin.never-follows",
        "a client made from a path goes on with old weights when newer ones are live",
        "worker",
        (
            Edit(
                f"{_DESK}._pinned",
                "live if (live.version or 0) >= pin.min_policy_version else checkpoint",
                "checkpoint",
            ),
        ),
    ),
    Mutant(
        "version.of-newest",
        "policy_version of a pinned sample is that of the newest weights",
        "worker",
        (
            Edit(
                f"{_SAMPLING}:to_completions",
                "answer.weights.version",
                "(answer.weights.version or 0) + 1",
            ),
        ),
    ),
    Mutant(
        "version.header-missing",
        "responses carry no policy version: stale samples cannot be filtered",
        "server",
        (
            Edit(
                "loops_transport_http.server.replies:_headers",
                "isinstance(reply, Completions) and reply.policy_version is not None",
                "False",
            ),
        ),
    ),
    Mutant(
        "version.floor-header-ignored",
        "the server does not read X-Min-Policy-Version",
        "server",
        (
            Edit(
                "loops_transport_http.server.calls:_pin",
                "_whole(names.MIN_POLICY_VERSION, headers.get(names.MIN_POLICY_VERSION))",
                "None",
            ),
        ),
    ),
    Mutant(
        "version.path-header-ignored",
        "the server does not read X-Checkpoint-Path",
        "server",
        (
            Edit(
                "loops_transport_http.server.calls:_pin",
                "headers.get(names.CHECKPOINT_PATH)",
                "None",
            ),
        ),
    ),
    Mutant(
        "version.trainer-says-zero",
        "the trainer's policy_version is always 0",
        "worker",
        (
            Edit(
                "loops_core.worker.trainers:TrainerDesk._policy_version",
                "self._run_of(call, owner).machine.policy_version",
                "0 * self._run_of(call, owner).machine.policy_version",
            ),
        ),
    ),
)
"""The faults of publishing."""
