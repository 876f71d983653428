"""The published SDK, unmodified, drives `loops serve` through a whole life."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [
    pytest.mark.slow,  # serves two backends, and installs the SDK where it is not yet
    pytest.mark.timeout(1200),
]

Section = Callable[[str], dict[str, Any]]
Rows = list[list[float | None]]

FINAL = {401, 404, 409, 422}
MOST_SECONDS = 10.0


@pytest.fixture
def life(section: Section) -> dict[str, Any]:
    return section("life")


def flat(rows: Rows) -> np.ndarray:
    """Return all values in one array, NaN where there is none."""
    return np.asarray([np.nan if v is None else v for row in rows for v in row], dtype=np.float64)


def test_the_capabilities_name_the_served_model(life: dict[str, Any]) -> None:
    assert life["models"] in (["an-org/mini"], ["loops-tiny"])


def test_pipelined_steps_make_the_loss_fall(life: dict[str, Any]) -> None:
    train = life["train"]
    losses = [train["loss"], *train["losses"]]
    assert train["losses"][0] == pytest.approx(train["loss"], abs=1e-5)
    assert all(after < before for before, after in itertools.pairwise(losses[1:]))
    assert [metrics["step"] for metrics in train["steps"]] == [1, 2, 3, 4, 5, 6]
    assert all(metrics["grad_norm"] > 0 for metrics in train["steps"])


def test_forward_tells_a_logprob_of_each_target_and_the_loss_is_their_mean(
    life: dict[str, Any],
) -> None:
    train = life["train"]
    targets, logprobs = flat(train["targets"]), flat(train["logprobs"])
    active = targets != -100
    assert logprobs.shape == targets.shape
    assert np.isfinite(logprobs[active]).all()
    assert np.isnan(logprobs[~active]).all()
    assert train["loss"] == pytest.approx(-logprobs[active].mean(), rel=1e-5)
    assert life["train"]["steps"][0]["active_tokens"] == active.sum()


def test_a_resumed_run_goes_on_as_the_run_did(life: dict[str, Any]) -> None:
    resume = life["resume"]
    assert resume["step_with_optimizer"] == 6
    assert [step["step"] for step in resume["went_on"]] == [7, 8]
    assert resume["resumed"] == resume["went_on"]
    assert resume["other_resumed"] == resume["went_on"]
    assert resume["other_run_id"] != life["run_id"]


def test_loaded_weights_are_the_saved_ones_and_the_steps_start_again(life: dict[str, Any]) -> None:
    resume = life["resume"]
    assert resume["step"] == 0
    assert resume["loaded"] == resume["logprobs"]
    assert resume["other_loaded"] == resume["logprobs"]


def test_a_sampler_scores_tokens_as_the_trainer_does(life: dict[str, Any]) -> None:
    publish = life["publish"]
    tokens = publish["reply"]["sequences"][0]["tokens"]
    sampled = flat([publish["reply"]["sequences"][0]["logprobs"]])
    assert len(tokens) == 5
    np.testing.assert_allclose(sampled, flat([publish["reply_scored"][-5:]]), atol=1e-4)
    for sampler, weights in (("live", "live"), ("base", "base"), ("staged", "staged")):
        computed = publish["computed"][sampler]
        assert computed[0] is None
        np.testing.assert_allclose(flat([computed]), flat([publish[weights]]), atol=1e-4)


def test_staged_weights_answer_by_their_path_and_leave_the_live_ones_alone(
    life: dict[str, Any],
) -> None:
    publish = life["publish"]
    assert publish["policy_version"] == publish["reply"]["policy_version"] == 1
    assert publish["staged_version"] == 2
    assert publish["staged_path"] == f"bt://loops:{life['run_id']}/sampler_weights/staged"
    assert publish["computed"]["staged_of_run"] == publish["computed"]["staged"]
    distance = np.abs(flat([publish["live"]]) - flat([publish["staged"]]))
    assert np.nanmax(distance) > 1e-3  # or the comparison above would tell nothing


def test_a_seed_repeats_its_samples_with_the_prompt_scored(life: dict[str, Any]) -> None:
    publish = life["publish"]
    first, again = publish["drawn"], publish["drawn_again"]
    assert first["sequences"] == again["sequences"]
    assert len(first["sequences"]) == 2
    assert first["prompt_token_ids"] == [5, 9, 4, 11, 7, 6]
    np.testing.assert_allclose(flat([first["prompt_logprobs"]]), flat([publish["live"]]), atol=1e-4)
    assert first["topk_prompt_logprobs"][0] is None
    assert all(len(row) in (3, 4) for row in first["topk_prompt_logprobs"][1:])


def test_the_models_of_a_sampler_are_told(life: dict[str, Any]) -> None:
    assert life["publish"]["base_model_name"] in life["models"]
    assert life["publish"]["adapter_name"]


def test_checkpoints_are_listed_with_what_the_sdk_reads(life: dict[str, Any]) -> None:
    files = life["files"]
    assert files["same"]
    rows = {(row["checkpoint_id"], row["target"]): row for row in files["listed"]}
    assert set(rows) == {("state", "trainer"), ("live", "sampler"), ("staged", "sampler")}
    for row in rows.values():
        assert row["run_id"] == life["run_id"]
        assert row["lora_adapter_config"] == {"r": 4}
        assert re.search(r"(Z|[+-]\d\d:\d\d)$", row["created_at"])


def test_a_download_has_every_file_of_the_listing_whole(life: dict[str, Any]) -> None:
    files = life["files"]
    sizes = {(row["checkpoint_id"], row["target"]): row["size_bytes"] for row in files["listed"]}
    for name, target in (("state", "trainer"), ("staged", "sampler")):
        assert files[name]["bytes"] == sum(files[name]["sizes"].values()) == sizes[name, target]
    assert sorted(files["paged_names"]) == sorted(files["state"]["sizes"])
    assert files["total_count"] == len(files["paged_names"]) > 1


def test_our_client_reads_the_same_bytes_and_the_same_weights(
    section: Section, life: dict[str, Any]
) -> None:
    ours = section("our_client")
    assert set(ours["names"]) == {"state", "live", "staged"}
    for name in ("state", "staged"):
        assert ours[name]["ours"] == ours[name]["sdk"]
        folder = Path(life["files"][name]["folder"])
        for path in folder.glob("*.safetensors"):
            check_tensors(path)
    np.testing.assert_allclose(
        flat(ours["logprobs"]), flat(life["resume"]["logprobs"]), atol=1e-6, equal_nan=True
    )


def check_tensors(path: Path) -> None:
    # the path's type is half unknown to the checker
    from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

    tensors: dict[str, np.ndarray] = load_file(path)
    assert tensors
    assert all(np.isfinite(each).all() for each in tensors.values() if each.dtype.kind == "f")


def test_a_custom_loss_has_the_gradient_that_its_weights_by_hand_have(life: dict[str, Any]) -> None:
    custom = life["custom"]
    assert custom["metrics"]["mine"] == 1.5
    assert custom["metrics"]["skip_token_normalization"] == 1.0
    assert custom["loss"] == pytest.approx(custom["expected_loss"], rel=1e-5)
    assert custom["step"]["grad_norm"] == pytest.approx(
        custom["expected_step"]["grad_norm"], rel=1e-5
    )


def test_a_batch_over_the_size_cap_travels_in_chunks_and_adds_up(life: dict[str, Any]) -> None:
    chunked = life["chunked"]
    assert len(chunked["outputs"]) == 84
    np.testing.assert_allclose(flat(chunked["outputs"]), flat(chunked["expected_outputs"]), 1e-5)
    assert chunked["loss"] == pytest.approx(chunked["expected_loss"], rel=1e-4)
    step, expected = chunked["step"], chunked["expected_step"]
    assert step["active_tokens"] == expected["active_tokens"]
    assert step["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)


def test_the_sdk_never_had_to_repeat_a_request(life: dict[str, Any]) -> None:
    requests = life["requests"]
    assert not [name for name in requests if name.startswith("POST") and name[-3] != "2"]
    assert requests.get("GET operation 408", 0) < 20  # a poll that ends early is sent again at once
    expected = 6 + 2 + 2 + 2 + 1 + 1 + 1 + 2 + 2  # as the program goes; the batch was two chunks
    assert requests["POST forward_backward 202"] == expected


def test_a_mistaken_request_is_refused_at_once_and_for_good(section: Section) -> None:
    refused = section("refusals")["refused"]
    assert not [name for name, told in refused.items() if told["error"] is None]
    slow = {n: told["seconds"] for n, told in refused.items() if told["seconds"] > MOST_SECONDS}
    assert not slow
    strange = {
        name: told
        for name, told in refused.items()
        if told["error"] == "HTTPStatusError" and told["status"] not in FINAL
    }
    assert not strange


def test_a_refusal_says_what_was_wrong(section: Section) -> None:
    refused = section("refusals")["refused"]
    said = {
        "bad_token": "1000000000",
        "unknown_loss": "no_such_loss",
        "unknown_config": "no_such_setting",
        "no_such_model": "no-such-model",
        "name_above": "../evil",
        "load_nowhere": "bt://loops:nowhere/weights/none",
        "negative_temperature": "temperature",
        "top_p_2": "top_p",
        "no_gradients": "forward_backward",
    }
    assert not {
        name: refused[name] for name, text in said.items() if text not in refused[name]["text"]
    }


def test_the_client_works_after_refusals_and_they_changed_nothing(section: Section) -> None:
    seen = section("refusals")
    assert seen["after"]["step"] == seen["before"]["step"] + 1
    assert seen["after"]["loss"] < seen["before"]["loss"]
    assert seen["after"]["active_tokens"] == seen["before"]["active_tokens"]
    assert seen["sampled"] == 2


def test_a_name_saved_again_means_the_second(section: Section) -> None:
    saved = section("refusals")["saved_again"]
    assert saved["first"] != saved["second"]


def test_local_mode_trains_and_samples_without_a_control_plane(section: Section) -> None:
    seen = section("local_mode")
    losses = [step["loss"] for step in seen["steps"]]
    assert losses == sorted(losses, reverse=True)
    np.testing.assert_allclose(flat([seen["computed"]]), flat([seen["fresh"]]), atol=1e-4)
    assert len(seen["reply"]["sequences"][0]["tokens"]) == 3


def test_a_local_client_that_names_a_run_can_publish(section: Section) -> None:
    seen = section("local_mode")
    np.testing.assert_allclose(
        flat([seen["published_computed"]]), flat([seen["published"]]), atol=1e-4
    )


def test_rollouts_of_an_event_loop_are_scored_as_they_were_drawn(section: Section) -> None:
    seen = section("rollouts")
    assert seen["versions"] == [1] * 12
    assert seen["different"] > 1
    np.testing.assert_allclose(flat(seen["scored"]), flat(seen["sampled"]), atol=1e-4)


def test_rewards_make_a_step_or_the_missing_loss_is_named(section: Section) -> None:
    seen = section("rollouts")
    rewarded = seen["rewarded"]
    if "error" in rewarded:
        assert "importance_sampling" in rewarded["error"]
        return
    assert rewarded["step"]["active_tokens"] == sum(map(len, seen["sampled"]))
    assert rewarded["step"]["grad_norm"] > 0
    top_k, positions = rewarded["top_k"], 5 + len(seen["sampled"][0])  # the prompt's six, shifted
    assert top_k["topk_ids"] == top_k["topk_logprobs"] == [positions, 3]


def test_a_training_loop_goes_on_over_a_restart_of_the_server(section: Section) -> None:
    seen = section("restart")
    steps = [*seen["before"], seen["step"], seen["after"]]
    assert [step["step"] for step in steps] == [1, 2, 3, 4]
    before = [step["loss"] for step in seen["before"]]
    losses = [*before, seen["unread"], seen["after"]["loss"]]
    assert losses == sorted(losses, reverse=True)


def test_a_poll_that_was_held_while_the_server_ended_gets_its_result_afterwards(
    section: Section,
) -> None:
    seen = section("restart")
    assert seen["held"] == 30
    assert seen["slow"] == [30] * 4


def test_the_server_ends_cleanly_when_it_is_told_to(seen: dict[str, Any]) -> None:
    assert seen["exit_codes"] == [0, 0]
