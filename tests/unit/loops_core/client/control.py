"""A fake service with a control plane, behind a plugin that counts what it is asked to open."""

from __future__ import annotations

from tests.unit.loops_core.client.fakes import FakeService, done
from tests.unit.loops_core.client.test_checkpoints import entry

from loops_core.hooks import RunEvent, TransportConfig, hookimpl
from loops_core.protocols import Transport
from loops_core.types.base import WireModel
from loops_core.types.deployment import (
    CheckpointListing,
    CreateSamplerBody,
    CreateTrainerBody,
    ModelListing,
    Run,
    RunReply,
    SamplerRecord,
    SamplerReply,
    Session,
    SessionReply,
)
from loops_core.types.operation import OperationBody, OperationStatus
from loops_core.types.routes import Call
from loops_core.types.sampling import CompletionChoice, Completions
from loops_core.types.training import InitTrainerServerResponse, LoadWeightsResponse


def run_of(body: CreateTrainerBody) -> Run:
    return Run(
        id="r1",
        session_id=body.session_id,
        base_model=body.base_model,
        base_url="fake:/runs/r1",
        max_seq_len=body.max_seq_len or 128,
    )


class Control:
    """A plugin that opens one fake service, which answers the control plane too."""

    def __init__(self) -> None:
        self.service = FakeService()
        self.opened: list[tuple[str, str | None]] = []
        self.events: list[str] = []
        answers = self.service.answers
        answers["create_session"] = lambda _: SessionReply(session=Session(id="s1"))
        answers["create_trainer"] = self.create_trainer
        answers["create_sampler"] = self.create_sampler
        answers["list_models"] = lambda _: ModelListing(data=[])
        answers["sample"] = lambda _: Completions(choices=[CompletionChoice(token_ids=[1])])
        answers["list_checkpoints"] = lambda _: CheckpointListing(checkpoints=[entry("i", "only")])
        self.service.automatic = self.settle

    def create_trainer(self, call: Call[WireModel]) -> RunReply:
        assert isinstance(call.body, CreateTrainerBody)
        return RunReply(run=run_of(call.body))

    def create_sampler(self, call: Call[WireModel]) -> SamplerReply:
        assert isinstance(call.body, CreateSamplerBody)
        name = call.body.base_model or "tiny"
        return SamplerReply(sampler=SamplerRecord(id="smp", base_url="fake:/smp", base_model=name))

    def settle(self, call: Call[WireModel]) -> OperationStatus:
        if call.route.name == "init_trainer_server":
            assert isinstance(call.body, OperationBody)
            rank: int = call.body.model_dump()["lora_rank"]
            return done(InitTrainerServerResponse(lora_rank=rank))
        return done(LoadWeightsResponse(step=5))

    @hookimpl
    def loops_transport(self, url: str, config: TransportConfig) -> Transport | None:
        self.opened.append((url, config.api_key))
        return self.service

    @hookimpl
    def loops_run_opened(self, event: RunEvent) -> None:
        self.events.append(f"opened {event.run_id} {event.base_model} {event.lora_rank}")

    @hookimpl
    def loops_run_closed(self, event: RunEvent) -> None:
        self.events.append(f"closed {event.run_id}")
