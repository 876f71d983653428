"""Rules of policy versions: they count publications, and never fall."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait

from loops_core import ModelInput, SampleResponse, SamplingParams
from loops_core.protocols import Transport
from loops_mock.contract.carriers import AsksForVersion
from loops_mock.contract.probes import PROMPT, publish, step
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import RANK, Subject

_BOTH = {"train", "sample"}
_ONE = SamplingParams(max_tokens=1, seed=1)


@rule(
    "versions.start-at-0",
    title="A run that has published nothing has policy version 0",
    section="6.4",
    needs={"train"},
)
def start_at_0(subject: Subject) -> None:
    """Ask before and after a step."""
    trainer = subject.trainer()
    seen = [trainer.policy_version]
    step(trainer)
    seen.append(trainer.policy_version)
    expect(seen == [0, 0], "steps publish nothing", seen=seen)


@rule(
    "versions.grow-by-one-with-each-publication",
    title="Each publication raises the policy version by one, and tells it",
    section="6.4",
    needs=_BOTH,
)
def grow_by_one_with_each_publication(subject: Subject) -> None:
    """Publish in both ways."""
    trainer = subject.trainer()
    one = trainer.save_weights_for_sampler("one").result().version
    publish(trainer, "two")
    two = trainer.policy_version
    three = trainer.save_weights_for_sampler("three").result().version
    expect([one, two, three] == [1, 2, 3], "versions are 1, 2, 3", seen=[one, two, three])


@rule(
    "versions.never-fall",
    title="The policy version falls neither by a load nor by init_trainer_server",
    section="6.4",
    needs=_BOTH,
)
def never_fall(subject: Subject) -> None:
    """Publish, then load an older state and start over."""
    trainer = subject.trainer()
    path = trainer.save_state("start").result().path
    trainer.save_weights_for_sampler("one").result()
    trainer.load_state_with_optimizer(path).result()
    loaded = trainer.policy_version
    trainer.init_trainer_server(4).result()
    again = trainer.policy_version
    expect([loaded, again] == [1, 1], "the version stays 1", seen=[loaded, again])


@rule(
    "versions.save-state-counts-where-it-publishes",
    title="save_state raises the policy version only where its mode says that it published",
    section="6.3",
    needs={"train"},
)
def save_state_counts_where_it_publishes(subject: Subject) -> None:
    """Save a state and compare version and mode."""
    trainer = subject.trainer()
    saved = trainer.save_state("kept").result()
    expected = 1 if "publish" in saved.mode else 0
    seen = trainer.policy_version
    expect(seen == expected, "the version agrees with the mode", seen=seen, mode=saved.mode)


@rule(
    "versions.a-sample-tells-its-version",
    title="A sample tells the version of the weights that answered: the published one, or 0",
    section="3.7",
    needs=_BOTH,
)
def a_sample_tells_its_version(subject: Subject) -> None:
    """Sample from the base model, and from two publications."""
    prompt = ModelInput.from_ints(list(PROMPT))
    base = subject.service().create_sampling_client(base_model=subject.base_model)
    trainer = subject.trainer()
    seen = [base.sample(prompt, 1, _ONE).policy_version]
    seen += [
        publish(trainer, name).sample(prompt, 1, _ONE).policy_version for name in ("one", "two")
    ]
    expect(seen == [0, 1, 2], "versions are 0, 1, 2", seen=seen)


@rule(
    "versions.the-floor-is-kept",
    title="A client of a publication is never answered by a lower version",
    section="3.7",
    needs=_BOTH,
)
def the_floor_is_kept(subject: Subject) -> None:
    """Publish three times and sample with each client."""
    prompt = ModelInput.from_ints(list(PROMPT))
    trainer = subject.trainer()
    clients = [publish(trainer, f"v{number}") for number in (1, 2, 3)]
    for floor, client in enumerate(clients, start=1):
        version = client.sample(prompt, 1, _ONE).policy_version
        expect((version or 0) >= floor, "at least its own", floor=floor, seen=version)
    here = trainer.policy_version
    expect(here == 3, "the trainer tells the newest", seen=here)


@rule(
    "versions.runs-count-for-themselves",
    title="The publications of one run do not raise another run's version",
    section="6.4",
    needs=_BOTH,
)
def runs_count_for_themselves(subject: Subject) -> None:
    """Publish in one of two runs."""
    one, two = subject.trainer(), subject.trainer()
    one.save_weights_for_sampler("one").result()
    seen = [one.policy_version, two.policy_version]
    expect(seen == [1, 0], "only the first has published", seen=seen)


@rule(
    "versions.a-pinned-sample-tells-its-own",
    title="A sample from a pinned checkpoint tells the version of that checkpoint",
    section="3.7",
    needs=_BOTH,
)
def a_pinned_sample_tells_its_own(subject: Subject) -> None:
    """Publish twice, and sample from the first by its path."""
    trainer = subject.trainer()
    path = trainer.save_weights_for_sampler("one").result().path
    trainer.save_weights_for_sampler("two").result()
    pinned = subject.service().create_sampling_client(model_path=path)
    version = pinned.sample(ModelInput.from_ints(list(PROMPT)), 1, _ONE).policy_version
    expect(version == 1, "it is the first", seen=version)


@rule(
    "versions.a-floor-waits-for-its-version",
    title="A sample that asks for a version which is not live yet is answered by it or a later one",
    section="3.7",
    needs=_BOTH,
)
def a_floor_waits_for_its_version(subject: Subject) -> None:
    """Ask for version 2 while 1 is live, and publish it meanwhile."""
    carriers: list[AsksForVersion] = []

    def wrap(below: Transport) -> AsksForVersion:
        carriers.append(AsksForVersion(below))
        return carriers[-1]

    service = subject.service_over(wrap)
    trainer = service.create_lora_training_client(subject.base_model, rank=RANK)
    sampler = publish(trainer, "one")
    carriers[0].floor = 2
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(sampler.sample, ModelInput.from_ints(list(PROMPT)), 1, _ONE)
        asked_early = not _ended(asked)
        trainer.save_weights_for_sampler("two").result()
        version = asked.result(timeout=60).policy_version
    expect(version == 2, "it waited for version 2", seen=version, waited=asked_early)


def _ended(asked: Future[SampleResponse]) -> bool:
    """Return whether it was answered within a moment."""
    return bool(wait([asked], timeout=0.1).done)
