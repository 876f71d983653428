"""Each fixture gives what its page promises, in synchronous and asynchronous tests."""

from __future__ import annotations

import pytest
from tests.unit.loops_mock.pytest_plugin.conftest import Run

pytest_plugins = ["pytester"]


def test_the_service_is_in_memory_and_closed_at_the_end(run: Run) -> None:
    result = run(
        """
        OPENED = []

        def test_it(loops_service):
            OPENED.append(loops_service)
            trainer = loops_service.create_lora_training_client("mock-tiny", rank=2, seed=0)
            assert train(trainer) > train(trainer)

        def test_after():
            from loops_core.errors import UsageError

            with pytest.raises(UsageError, match="closed"):
                OPENED[0].create_lora_training_client("mock-tiny", rank=2)
        """
    )
    result.assert_outcomes(passed=2)


def test_the_training_client_is_seeded_and_its_model_can_be_chosen(run: Run) -> None:
    result = run(
        """
        LOSSES = []

        @pytest.fixture
        def loops_base_model():
            return "mock-other"

        @pytest.mark.loops(seed=7)
        @pytest.mark.parametrize("again", [0, 1])
        def test_it(loops_training_client, loops_seed, again):
            assert loops_seed == 7
            assert loops_training_client.get_info().model_name == "mock-other"
            LOSSES.append([train(loops_training_client) for _ in range(3)])
            assert LOSSES[0] == LOSSES[-1]
        """
    )
    result.assert_outcomes(passed=2)


def test_code_that_opens_its_own_client_reaches_the_tests_service(run: Run) -> None:
    result = run(
        """
        def code_under_test():
            with ServiceClient() as service:
                trainer = service.create_lora_training_client("mock-tiny", rank=2)
                return trainer.save_state("mine").result().path

        def test_it(loops_service, loops_url):
            path = code_under_test()
            assert os.environ["LOOPS_BASE_URL"] == loops_url
            assert loops_service.create_training_client_from_state(path)

        def test_the_services_of_two_tests_are_apart(loops_service):
            run_id = loops_service.create_lora_training_client("mock-tiny", rank=2).run_id
            assert loops_service.list_checkpoints(run_id) == []

        def test_the_environment_is_as_before():
            assert os.environ["LOOPS_BASE_URL"] == "inproc:nowhere"
        """
    )
    result.assert_outcomes(passed=3)


@pytest.mark.slow
def test_what_the_code_leaves_to_chance_is_drawn_from_the_seed(run: Run) -> None:
    text = """
        def test_it(loops_service, record_property):
            trainer = loops_service.create_lora_training_client("mock-tiny", rank=2)
            train(trainer)
            sampler = trainer.save_weights_and_get_sampling_client().result()
            answers = [
                sampler.sample(PROMPT, sampling_params=SamplingParams(max_tokens=8))
                for _ in range(2)
            ]
            first, second = (answer.sequences[0].tokens for answer in answers)
            assert first != second
            print("drawn", first, second)
        """
    drawn = [
        [line for line in run(text, "-s", *options).outlines if "drawn" in line]
        for options in ((), (), ("--loops-seed", "1"))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_asynchronous_tests_run_with_pytest_asyncio(run: Run) -> None:
    result = run(
        """
        async def test_it(loops_service, loops_watch):
            trainer = await loops_service.create_lora_training_client_async("mock-tiny", rank=2)
            passed = await trainer.forward_backward_async(DATA)
            await (await trainer.optim_step_async(AdamParams()))
            assert (await passed).loss > 0
            loops_watch.assert_clean()
        """,
        plugins=["pytest_asyncio.plugin"],
        ini="asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function",
    )
    result.assert_outcomes(passed=1)


def test_asynchronous_tests_run_with_anyio(run: Run) -> None:
    result = run(
        """
        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        @pytest.mark.loops(strict=True)
        async def test_it(loops_training_client):
            assert (await (await loops_training_client.forward_async(DATA))).loss > 0

        @pytest.mark.anyio
        @pytest.mark.loops(strict=True)
        async def test_it_fails(loops_training_client):
            await loops_training_client.forward_async(DATA)
        """,
        plugins=["anyio"],
    )
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*nobody read the result of forward #1*in test_it_fails*"])


def test_a_test_that_uses_nothing_of_it_is_left_alone(run: Run) -> None:
    result = run(
        """
        def test_it(request):
            assert "loops_watch" not in request.fixturenames
            assert os.environ.get("LOOPS_BASE_URL") == "inproc:nowhere"
        """
    )
    result.assert_outcomes(passed=1)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOPS_BASE_URL", "inproc:nowhere")
    monkeypatch.setenv("LOOPS_TEAM", "nobody's")
