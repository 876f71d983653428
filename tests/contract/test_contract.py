"""The contract, as third parties subclass it, on {mock, JAX} x {in process, HTTP}.

The short form checks each third rule on the mock in process, each eleventh elsewhere, and few
examples of the stateful machine. LOOPS_LONG_CONTRACT=1 checks all of them everywhere and tries
1,000 examples on the mock; LOOPS_CONTRACT_SEED chooses other data and examples.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from typing import ClassVar, Final

import pytest
from tests.contract.conftest import BACKENDS
from tests.serving import KEY

from loops_core.plugins import Plugins
from loops_core.protocols import Backend, BackendConfig, Transport
from loops_mock.contract.backend import BackendContract
from loops_mock.contract.rule import all_rules
from loops_mock.contract.service import ServiceContract
from loops_mock.contract.target import Target
from loops_mock.contract.transport import TransportContract

LONG: Final = "LOOPS_LONG_CONTRACT" in os.environ
SEED: Final = int(os.environ.get("LOOPS_CONTRACT_SEED", "0"))
EVERY: Final = 1 if LONG else 11

pytestmark = pytest.mark.slow


class TestMockInProcess(ServiceContract):
    rules = all_rules()[:: 1 if LONG else 3]
    seed = SEED
    max_examples = 1_000 if LONG else 50
    sums_are_exact = True

    def open_target(self) -> Target:
        return Target("inproc:mock?data_dir=:memory:")


class TestJaxInProcess(ServiceContract):
    rules = all_rules()[::EVERY]
    seed = SEED
    max_examples = 50 if LONG else 2

    def open_target(self) -> Target:
        pytest.importorskip("loops_backend_jax")
        return Target("inproc:jax?data_dir=:memory:")


class Served(ServiceContract):
    """A service over HTTP, by the process that all tests here share."""

    backend: ClassVar[str]
    rules = all_rules()[::EVERY]
    seed = SEED

    @pytest.fixture(scope="class")
    @classmethod
    def target(cls, served: Callable[[str], str]) -> Generator[Target]:
        url, model = served(cls.backend), BACKENDS[cls.backend]
        with Target(url, api_key=KEY, base_model=model) as opened:
            yield opened


class TestMockOverHttp(Served):
    backend = "mock"
    max_examples = 200 if LONG else 5
    sums_are_exact = True


class TestJaxOverHttp(Served):
    backend = "jax"
    max_examples = 20 if LONG else 2


class TestMockBackend(BackendContract):
    base_model = BACKENDS["mock"]

    def open_backend(self) -> Backend:
        return Plugins.load().open_backend("mock", BackendConfig())


class TestJaxBackend(BackendContract):
    base_model = BACKENDS["jax"]

    def open_backend(self) -> Backend:
        pytest.importorskip("loops_backend_jax")
        return Plugins.load().open_backend("jax", BackendConfig())


class TestInProcessTransport(TransportContract):
    def open_transport(self) -> Transport:
        return Plugins.load().open_transport("inproc:mock?data_dir=:memory:")


class TestHttpTransport(TransportContract):
    @pytest.fixture(autouse=True)
    def _address(self, served: Callable[[str], str]) -> None:
        type(self).url = served("mock")

    url: ClassVar[str] = ""

    def open_transport(self) -> Transport:
        return Plugins.load().open_transport(self.url, api_key=KEY)
