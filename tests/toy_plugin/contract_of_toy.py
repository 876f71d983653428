"""What the author of the toy plugin tests it with: the contract, subclassed."""

from __future__ import annotations

from loops_toy.focal import FOCAL

from loops_core.plugins import Plugins
from loops_core.protocols import Backend, BackendConfig, Transport
from loops_mock.contract.backend import BackendContract
from loops_mock.contract.rule import all_rules
from loops_mock.contract.service import ServiceContract
from loops_mock.contract.target import Target
from loops_mock.contract.transport import TransportContract

URL = "counted:inproc:mock?data_dir=:memory:"


class TestToyBackend(BackendContract):
    base_model = "toy"
    loss_fn = "focal"
    draws_adapters = False

    def open_backend(self) -> Backend:
        return Plugins.load().open_backend("toy", BackendConfig(losses=(FOCAL,)))


class TestToyTransport(TransportContract):
    def open_transport(self) -> Transport:
        return Plugins.load().open_transport(URL)


class TestToyService(ServiceContract):
    rules = tuple(rule for rule in all_rules() if rule.id.startswith("submit."))
    max_examples = 5

    def open_target(self) -> Target:
        return Target(URL, base_model="mock-tiny")
