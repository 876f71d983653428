"""The pytest plugin `loops`: a service, a world, faults and an audit for tests of training code.

This module is imported in every pytest run of an environment that has it: it imports nothing but
pytest and the standard library, and the rest when a test asks for it.
"""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from loops_mock import pytest_cassette
from loops_mock.pytest_cassette import loops_cassette as loops_cassette
from loops_mock.pytest_settings import Settings, settings_of

if TYPE_CHECKING:
    from loops_core import ServiceClient, TrainingClient
    from loops_mock.shared import SharedService
    from loops_mock.simulation.faults import FaultPlan
    from loops_mock.simulation.world import World
    from loops_mock.watching import Watch

_SETTINGS: Final = pytest.StashKey[Settings]()
_WATCH: Final = pytest.StashKey["Watch"]()
_WORLD: Final = pytest.StashKey["World"]()
_HAS_PASSED: Final = pytest.StashKey[bool]()
_ENVIRONMENT: Final = (
    "LOOPS_API_KEY",
    "BASETEN_API_KEY",
    "LOOPS_TEAM",
    "LOOPS_REUSE_FROM_RUN_ID",
    "LOOPS_REUSE_FROM_SESSION_ID",
    "LOOPS_AVAILABILITY_MODEL",
    "INTERNAL_LOOPS_BACKEND_VERSION",
    "BASETEN_LOOPS_SCOPE",
)
"""What a client reads from the environment besides the URL: a test does not depend on it."""

_MARKER: Final = (
    "loops(seed=None, faults=None, strict=None, allow=(), max_lag=0): run against a mock service "
    "of the test's own, under a seed and a fault plan; strict=True fails the test on every mistake "
    "that its watch finds"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that begin with `--loops-`, and the setting `loops_strict`."""
    group = parser.getgroup("loops", "tests of code that uses Loops")
    group.addoption(
        "--loops-seed",
        type=int,
        default=None,
        metavar="N",
        help="the seed of every test's service, world and faults; else each test has its own, "
        "which is the same in every run",
    )
    group.addoption(
        "--loops-strict",
        action="store_true",
        default=False,
        help="fail tests on the mistakes that their watch finds, as the marker's strict=True",
    )
    pytest_cassette.add_option(group)
    parser.addini("loops_strict", "as --loops-strict, for every run", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers."""
    config.addinivalue_line("markers", _MARKER)
    config.addinivalue_line("markers", pytest_cassette.MARKER)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let a marked test have its service, its watch or its cassette without naming a fixture."""
    for item in items:
        names: list[str] | None = getattr(item, "fixturenames", None)
        if names is not None and pytest_cassette.wants_cassette(item):
            names.insert(0, "loops_cassette")
        if names is None or "loops_watch" in names:
            continue
        if item.get_closest_marker("loops") is not None:
            names.insert(0, "loops_watch")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Judge what a strict test did, once it has passed; its clients, once all is torn down."""
    yield
    watch, settings = item.stash.get(_WATCH, None), item.stash.get(_SETTINGS, None)
    if watch is not None and settings is not None and settings.strict:
        _judge(watch, settings, leave_out=["client-not-closed"])
    item.stash[_HAS_PASSED] = True


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run an asynchronous test that has a world inside it, whatever plugin is there for others."""
    world = pyfuncitem.stash.get(_WORLD, None)
    test: Callable[..., Coroutine[object, object, None]] = inspect.unwrap(
        pyfuncitem.obj, stop=inspect.iscoroutinefunction
    )
    if world is None or not inspect.iscoroutinefunction(test):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyfuncitem, "obj", partial(_run_in, world, test))
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell the seed and the last calls of a test that failed."""
    report = yield
    settings = item.stash.get(_SETTINGS, None)
    if report.failed and settings is not None:
        report.sections.append(("Loops: last calls", "\n".join(_account(item, settings))))
    return report


@pytest.fixture
def loops_seed(request: pytest.FixtureRequest) -> int:
    """The seed of the test: of `--loops-seed`, the marker, or else made of the test's name."""
    return _settings(request).seed


@pytest.fixture
def loops_faults(request: pytest.FixtureRequest) -> FaultPlan:
    """The fault plan in force: the marker's, or one without faults."""
    from loops_mock.simulation.faults import FaultPlan

    faults = _settings(request).faults
    if faults is True:
        return FaultPlan.seeded(_settings(request).seed)
    if isinstance(faults, FaultPlan):
        return faults
    if faults is None or faults is False:
        return FaultPlan()
    pytest.fail(
        f"@pytest.mark.loops(faults={faults!r}): expected a FaultPlan, or True for one that is "
        "drawn from the test's seed",
        pytrace=False,
    )


@pytest.fixture
def loops_base_model() -> str:
    """The base model of `loops_training_client`: `mock-tiny`; override it for another."""
    return "mock-tiny"


@pytest.fixture
def loops_world(
    request: pytest.FixtureRequest, loops_seed: int, loops_faults: FaultPlan
) -> Iterator[World]:
    """The simulated world that the test runs in, under its seed and its fault plan."""
    from loops_mock.simulation.world import World

    with World(loops_seed, loops_faults) as world:
        _node(request).stash[_WORLD] = world
        yield world


@pytest.fixture
def loops_url(
    request: pytest.FixtureRequest, loops_seed: int, loops_faults: FaultPlan
) -> Iterator[str]:
    """The URL of the test's own service, in memory; `LOOPS_BASE_URL` holds it during the test."""
    with ExitStack() as stack:
        name = f"test-{os.getpid()}-{loops_seed}"
        if loops_faults.faults or "loops_world" in request.fixturenames:
            world: World = request.getfixturevalue("loops_world")
            service = stack.enter_context(_in_world(world, name))
        else:
            from loops_mock.shared import SharedService

            service = SharedService(name, seed=loops_seed)
        stack.callback(service.close)
        environment = stack.enter_context(pytest.MonkeyPatch.context())
        for variable in _ENVIRONMENT:
            environment.delenv(variable, raising=False)
        environment.setenv("LOOPS_BASE_URL", service.url)
        yield service.url


@pytest.fixture
def loops_watch(request: pytest.FixtureRequest, loops_url: str) -> Iterator[Watch]:
    """The audit of all clients that are opened during the test."""
    del loops_url
    from loops_mock.watching import Mistake, Watch

    node, settings = _node(request), _settings(request)
    with Watch() as watch:
        _judge(watch, settings, leave_out=())  # finds nothing yet but a wrong `allow`
        node.stash[_WATCH], node.stash[_HAS_PASSED] = watch, False
        yield watch
    if settings.strict and node.stash[_HAS_PASSED]:
        _judge(watch, settings, leave_out=set(Mistake) - {Mistake.CLIENT_NOT_CLOSED})


@pytest.fixture
def loops_service(loops_url: str, loops_watch: Watch) -> Iterator[ServiceClient]:
    """A ServiceClient of the test's own service, watched, and closed at the end."""
    from loops_core import ServiceClient

    with loops_watch.lending():
        service = ServiceClient(base_url=loops_url)
    with service:
        yield service


@pytest.fixture
def loops_training_client(
    loops_service: ServiceClient, loops_watch: Watch, loops_base_model: str, loops_seed: int
) -> TrainingClient:
    """A TrainingClient of `loops_service`: rank 8 on `loops_base_model`, seeded by the test."""
    with loops_watch.lending():
        return loops_service.create_lora_training_client(loops_base_model, rank=8, seed=loops_seed)


def _account(item: pytest.Item, settings: Settings) -> Iterator[str]:
    """Yield what a failed test tells: how to repeat it, what it met, what it called."""
    yield f"seed {settings.seed}; repeat with --loops-seed {settings.seed}"
    world, watch = item.stash.get(_WORLD, None), item.stash.get(_WATCH, None)
    if world is not None:
        yield f"faults={world.faults!r}"
        yield f"trace {world.trace.digest()}, {len(world.trace)} events"
        for met in world.met:
            yield f"{met.route} #{met.number} met {', '.join(map(repr, met.faults))}"
    if watch is not None:
        yield from watch.last_calls()


def _run_in(
    world: World, test: Callable[..., Coroutine[object, object, None]], **given: object
) -> None:
    world.run(test(**given))


@contextmanager
def _in_world(world: World, name: str) -> Generator[SharedService]:
    """Return the world's service under a name; clients of this context live on its time."""
    from loops_core import chance
    from loops_core.clock import told_by
    from loops_mock.shared import SharedService

    with told_by(world.clock), chance.drawn_from(random.Random(f"{world.seed}/clients")):
        yield SharedService(name, seed=world.seed, opens=lambda _config: world.open_transport())


def _settings(request: pytest.FixtureRequest) -> Settings:
    node = _node(request)
    settings = node.stash.get(_SETTINGS, None)
    if settings is None:
        settings = node.stash[_SETTINGS] = settings_of(node)
    return settings


def _node(request: pytest.FixtureRequest) -> pytest.Item:
    node: object = request.node
    assert isinstance(node, pytest.Item)  # these fixtures have the scope of a function
    return node


def _judge(watch: Watch, settings: Settings, *, leave_out: Iterable[str]) -> None:
    """Fail the test with what its watch has found, without this plugin's own lines."""
    from loops_core.errors import UsageError

    try:
        watch.assert_clean(allow=(*settings.allow, *leave_out), max_lag=settings.max_lag)
        return
    except (AssertionError, UsageError) as error:
        message = str(error)
    pytest.fail(message, pytrace=False)
