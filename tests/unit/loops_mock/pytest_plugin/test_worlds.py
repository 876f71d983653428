"""Tests in a simulated world: virtual time, faults, equal traces, coroutines inside it."""

from __future__ import annotations

import re

import pytest
from tests.unit.loops_mock.pytest_plugin.conftest import Run

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.slow  # whole pytest runs

LOOP = """
import asyncio

from loops_mock.simulation.faults import DropRequest, FaultPlan, LoseAnswer

def loop():
    with ServiceClient() as service:
        trainer = service.create_lora_training_client("mock-tiny", rank=2)
        return [train(trainer) for _ in range(3)]
"""


def test_code_under_test_lives_on_the_worlds_time(run: Run) -> None:
    result = run(
        LOOP
        + """
from loops_core.clock import SystemClock, current_clock

@pytest.mark.loops(strict=True)
def test_it(loops_world, loops_training_client):
    assert loops_training_client.run_id
    begin_s = loops_world.clock.monotonic()
    loop()
    assert loops_world.clock.monotonic() > begin_s > 0

def test_the_next_one_does_not():
    assert isinstance(current_clock(), SystemClock)
"""
    )
    result.assert_outcomes(passed=2)


def test_faults_happen_and_the_same_seed_repeats_them(run: Run) -> None:
    result = run(
        LOOP
        + """
SEEN = []
PLAN = FaultPlan((DropRequest("forward_backward"), LoseAnswer("optim_step", at=2)))

@pytest.mark.loops(strict=True, seed=3, faults=PLAN)
@pytest.mark.parametrize("again", [0, 1])
def test_a_plan(loops_world, again):
    losses = loop()
    assert [met.route for met in loops_world.met] == ["forward_backward", "optim_step"]
    SEEN.append((losses, loops_world.trace.digest()))
    assert SEEN[0] == SEEN[-1]

@pytest.mark.loops(strict=True, seed=1, faults=True)
def test_a_drawn_plan(loops_faults):
    loop()
    assert loops_faults.faults

class TestReplaced:
    @pytest.fixture
    def loops_faults(self):
        return PLAN

    def test_a_plan_of_a_fixture(self, loops_service, loops_world):
        loop()
        assert len(loops_world.met) == 2
"""
    )
    result.assert_outcomes(passed=4)


@pytest.mark.parametrize(
    ("plugins", "ini", "marker"),
    [
        ((), "", ""),
        (
            ("pytest_asyncio.plugin",),
            "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function",
            "",
        ),
        (("anyio",), "", "@pytest.mark.anyio"),
    ],
    ids=["no-plugin", "asyncio", "anyio"],
)
def test_a_coroutine_runs_inside_the_world_whatever_plugin_is_there(
    run: Run, plugins: tuple[str, ...], ini: str, marker: str
) -> None:
    result = run(
        LOOP
        + f"""
@pytest.fixture
def anyio_backend():
    return "asyncio"

class TestClass:
    {marker}
    @pytest.mark.loops(strict=True)
    @pytest.mark.parametrize("hours", [1])
    async def test_it(self, loops_world, loops_training_client, hours):
        await asyncio.sleep(3600.0 * hours)
        await (await loops_training_client.forward_async(DATA))
        assert loops_world.clock.monotonic() > 3600.0

    {marker}
    @pytest.mark.loops(strict=True)
    async def test_it_fails(self, loops_world, loops_training_client):
        await loops_training_client.forward_async(DATA)
""",
        plugins=plugins,
        ini=ini,
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*nobody read the result of forward #1*in test_it_fails*"])


def test_a_failure_tells_plan_trace_and_what_was_met(run: Run) -> None:
    result = run(
        LOOP
        + """
@pytest.mark.loops(seed=3, faults=[DropRequest("forward_backward")])
def test_a_wrong_plan(loops_service):
    loop()

@pytest.mark.loops(seed=3, faults=FaultPlan((DropRequest("forward_backward"),)))
def test_it(loops_watch):
    loop()
    assert False
"""
    )
    result.assert_outcomes(failed=1, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*expected a FaultPlan, or True for one that is drawn from the test's seed*",
            "seed 3; repeat with --loops-seed 3",
            "faults=FaultPlan(faults=(DropRequest(route='forward_backward', *",
            "trace *, * events",
            "forward_backward #1 met DropRequest(*",
            "forward_backward raised UnreachableError  (call *, test_loop.py:* in train)",
        ]
    )
    assert re.search(r"^trace [0-9a-f]{64}", result.stdout.str(), flags=re.MULTILINE)
