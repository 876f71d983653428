"""The oracle counts steps, versions and gradients, and knows which results are equal."""

from __future__ import annotations

from loops_mock.contract.oracle import Expected, Oracle
from loops_mock.strategies import Init, Load, OptimStep, Pass, Publish, Row, Sample, SaveState

ONE = Pass((Row((1, 2), (2, -100)),))
TWO = Pass((Row((3, 4), (4, 5), (("weights", (1.0, 0.0)),)),))
BOTH = Pass(ONE.rows + TWO.rows)


def trained(*calls: Pass | OptimStep | SaveState | Load | Init | Publish) -> Oracle:
    oracle = Oracle(rank=2)
    for call in calls:
        oracle.accept(call)
    return oracle


def test_a_step_counts_the_active_positions_since_the_last_one() -> None:
    expected = trained(ONE, TWO).accept(OptimStep())
    assert expected.facts == {"step": 1, "learning_rate": 0.01, "active_tokens": 2}


def test_a_forward_pass_changes_nothing() -> None:
    oracle = trained(ONE)
    before = oracle.state
    oracle.accept(Pass(TWO.rows, backward=False))
    assert oracle.state == before


def test_a_step_without_gradients_fails_and_changes_nothing() -> None:
    oracle = trained(SaveState())
    before = oracle.state
    assert oracle.accept(OptimStep()) == Expected("UsageError")
    assert oracle.state == before


def test_normalised_and_plain_sums_do_not_mix_before_one_step() -> None:
    oracle = trained(ONE)
    plain = Pass(TWO.rows, skip_normalization=True)
    assert oracle.accept(plain).error_class == "UsageError"
    oracle.accept(OptimStep())
    assert oracle.accept(plain).error_class is None


def test_a_batch_and_its_parts_lead_to_equal_weights_only_where_sums_are_exact() -> None:
    def weights(*calls: Pass, exact: bool) -> object:
        oracle = Oracle(rank=2, sums_are_exact=exact)
        other = oracle.another(rank=2)
        for one, passes in ((oracle, [BOTH]), (other, calls)):
            for call in passes:
                one.accept(call)
            one.accept(OptimStep())
        return oracle.state.weights == other.state.weights

    assert weights(ONE, TWO, exact=True)
    assert not weights(ONE, TWO, exact=False)
    assert weights(BOTH, exact=False)


def test_a_load_with_the_optimizer_is_the_saved_state_and_without_it_only_the_weights() -> None:
    oracle = trained(ONE, OptimStep(), TWO, SaveState())
    saved = oracle.state
    oracle.accept(OptimStep())
    assert oracle.accept(Load()).facts == {"step": 1}
    assert oracle.state == saved
    assert oracle.accept(Load(optimizer=False)).facts == {"step": 0}
    assert oracle.state.weights == saved.weights
    assert oracle.state.pending == ()
    assert oracle.state.moments != saved.moments


def test_a_name_that_nothing_was_saved_under_is_not_found() -> None:
    assert trained().accept(Load("b")) == Expected("NotFoundError")


def test_versions_count_publications_and_survive_a_fresh_start() -> None:
    oracle = trained(Publish(), Publish("b"), Init(1))
    assert oracle.version == 2
    assert oracle.state.step == 0


def test_a_fresh_adapter_and_a_step_of_rate_zero_compute_what_was_computed_before() -> None:
    oracle = trained(Publish(), ONE, OptimStep(learning_rate=0.0))
    fresh = oracle.shown(oracle.live)
    assert oracle.shown(oracle.state.weights) == fresh
    oracle.accept(ONE)
    oracle.accept(OptimStep())
    assert oracle.shown(oracle.state.weights) != fresh


def test_a_greedy_sample_does_not_depend_on_its_seed() -> None:
    oracle = trained()
    greedy = [oracle.of_sample(Sample((1,), temperature=0.0, seed=seed)) for seed in (0, 1)]
    drawn = [oracle.of_sample(Sample((1,), seed=seed)) for seed in (0, 1)]
    assert greedy[0] == greedy[1]
    assert drawn[0] != drawn[1]


def test_the_history_of_a_state_is_the_calls_that_matter() -> None:
    oracle = trained(TWO, Init(1), ONE, OptimStep(), SaveState(), TWO, Load(), Publish())
    assert oracle.state.history == (Init(1), ONE, OptimStep())
