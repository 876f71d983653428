"""The calls of a rule are kept as lines that can be read, without secrets and without links."""

from __future__ import annotations

from loops_core.types import routes
from loops_core.types.datum import Datum, ModelInput
from loops_core.types.operation import ForwardBody, OperationKind, SaveStateBody
from loops_core.types.routes import Call
from loops_core.types.tensor import TensorData
from loops_mock.contract.recording import CallLog, describe_call


def test_a_call_is_named_with_what_it_says_and_no_more() -> None:
    save = Call(
        route=routes.SUBMIT[OperationKind.SAVE_STATE],
        body=SaveStateBody(name="x", run_id="r", seq_id=3),
    )
    assert describe_call(save) == "save_state(name='x')"


def test_data_is_shown_as_tokens_and_inputs() -> None:
    datum = Datum(
        model_input=ModelInput.from_ints([5, 6]),
        loss_fn_inputs={"target_tokens": TensorData.from_list([6, 7], "int64")},
    )
    body = ForwardBody(data=[datum], loss_fn="ppo")
    call = Call(route=routes.SUBMIT[OperationKind.FORWARD], body=body)
    assert describe_call(call) == "forward([([5, 6], target_tokens=[6, 7])], loss_fn='ppo')"


def test_links_to_files_and_keys_are_not_kept() -> None:
    log = CallLog(secrets=("the-key",))
    link = "http://host/files/signed-token/adapter"
    log.add("GET files the-key", f'200 {{"url": "{link}", "size": 3}}', 0.0)
    log.add("files()", f"presigned_urls=[CheckpointFile(url='{link}')]", 0.0)
    kept = " ".join(made.asked + made.answered for made in log.made())
    assert "signed-token" not in kept
    assert "the-key" not in kept
    assert '"size": 3' in kept


def test_long_answers_are_cut() -> None:
    log = CallLog()
    log.add("a", "b" * 5000, 0.0)
    assert len(log.made()[0].answered) < 500
