"""Rules of checkpoints: addresses, names, listings and files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from loops_core.errors import NotFoundError, RemoteOpError
from loops_mock.contract.probes import (
    BATCH,
    DATUM,
    apply,
    expect_failed,
    expect_moved,
    expect_near,
    expect_refused,
    expect_same,
    look,
    step,
)
from loops_mock.contract.rule import expect, rule
from loops_mock.contract.subject import Subject

_TRAIN = {"train"}


@rule(
    "checkpoints.addresses-say-run-target-and-name",
    title="A save returns bt://loops:<run_id>/weights/<name>, a publish .../sampler_weights/<name>",
    section="6.2",
    needs={"train", "sample"},
)
def addresses_say_run_target_and_name(subject: Subject) -> None:
    """Save one of each under one name."""
    trainer = subject.trainer()
    kept = trainer.save_state("same").result().path
    sampled = trainer.save_weights_for_sampler("same").result().path
    root = f"bt://loops:{trainer.run_id}"
    expect(kept == f"{root}/weights/same", "the resumable one", seen=kept)
    expect(sampled == f"{root}/sampler_weights/same", "the sampler's", seen=sampled)


@rule(
    "checkpoints.listings-tell-what-was-saved",
    title="list_checkpoints tells name, run, target, base model and rank of each checkpoint",
    section="4.7",
    needs={"train", "sample"},
)
def listings_tell_what_was_saved(subject: Subject) -> None:
    """Save one of each; a client that just started has none."""
    trainer = subject.trainer()
    expect(trainer.list_checkpoints() == [], "a new run has no checkpoints")
    trainer.save_state("kept").result()
    trainer.save_weights_for_sampler("sampled").result()
    found = {checkpoint.checkpoint_id: checkpoint for checkpoint in trainer.list_checkpoints()}
    expect(set(found) == {"kept", "sampled"}, "both are listed", seen=sorted(found))
    for name, target in {"kept": "trainer", "sampled": "sampler"}.items():
        one = found[name]
        seen = (one.run_id, one.target, one.base_model, one.lora_adapter_config.rank)
        expected = (trainer.run_id, target, subject.base_model, 4)
        expect(seen == expected, f"{name} is described", seen=seen, expected=expected)


@rule(
    "checkpoints.a-name-means-the-newest",
    title="Saving a name again replaces what the name means",
    section="6.2",
    needs=_TRAIN,
)
def a_name_means_the_newest(subject: Subject) -> None:
    """Save, step, save again under the name, and load it."""
    trainer = subject.trainer()
    first = trainer.save_state("same").result().path
    step(trainer)
    again = trainer.save_state("same").result().path
    expect(first == again, "the address is the same", first=first, again=again)
    names = [found.checkpoint_id for found in trainer.list_checkpoints()]
    expect(names.count("same") == 1, "it is listed once", seen=names)
    back = trainer.load_state_with_optimizer(again).result().step
    expect(back == 1, "it is the newer one", step=back)


@rule(
    "checkpoints.a-save-changes-nothing",
    title="Saving leaves weights, moments and waiting gradients as they are",
    section="6.3",
    needs=_TRAIN,
)
def a_save_changes_nothing(subject: Subject) -> None:
    """Save between a pass and its step."""
    saved, plain = subject.trainer(), subject.trainer()
    saved.forward_backward([DATUM])
    saved.save_state("between")
    one, two = apply(saved), step(plain)
    expect_near("grad_norm is the same", one["grad_norm"], two["grad_norm"])
    expect_near("both have taken the same step", look(saved), look(plain))


@rule(
    "checkpoints.what-is-saved-stays",
    title="Training on does not change a checkpoint",
    section="6.3",
    needs=_TRAIN,
)
def what_is_saved_stays(subject: Subject) -> None:
    """Save, train, and load it again."""
    trainer = subject.trainer()
    step(trainer)
    there = look(trainer)
    path = trainer.save_state("there").result().path
    step(trainer)
    expect_moved("training goes on", look(trainer), there)
    trainer.load_state(path).result()
    expect_same("the weights are those of the save", look(trainer), there)


@rule(
    "checkpoints.bad-names-are-refused",
    title="Names that are empty, start with a dot or hold a slash are refused at the call",
    section="6.2",
    needs=_TRAIN,
)
def bad_names_are_refused(subject: Subject) -> None:
    """Try names that would lead elsewhere."""
    trainer = subject.trainer()
    for name in ("", ".hidden", "../escape", "a/b", "x" * 129):
        expect_refused(f"name {name[:20]!r}", lambda name=name: trainer.save_state(name), "name")
    expect(trainer.list_checkpoints() == [], "nothing was saved")


@rule(
    "checkpoints.an-unknown-one-is-an-error",
    title="Loading what is not there fails by name, and leaves the state as it was",
    section="6.3",
    needs=_TRAIN,
)
def an_unknown_one_is_an_error(subject: Subject) -> None:
    """Load a name that nobody saved."""
    trainer = subject.trainer()
    step(trainer)
    before = look(trainer)
    missing = f"bt://loops:{trainer.run_id}/weights/nowhere"
    kinds = (RemoteOpError, NotFoundError)
    for load in (trainer.load_state, trainer.load_state_with_optimizer):
        expect_refused(
            "a load of nothing fails",
            lambda load=load: load(missing).result(),
            "nowhere",
            kinds=kinds,
        )
    expect_same("the weights are as they were", look(trainer), before)
    counted = step(trainer)["step"]
    expect(counted == 2.0, "the step goes on", seen=counted)


@rule(
    "checkpoints.a-samplers-is-not-resumable",
    title="load_state_with_optimizer refuses a checkpoint that has no optimizer",
    section="6.2",
    needs={"train", "sample"},
)
def a_samplers_is_not_resumable(subject: Subject) -> None:
    """Load what was published."""
    trainer = subject.trainer()
    path = trainer.save_weights_for_sampler("published").result().path
    before = look(trainer)
    expect_failed(
        "there is no optimizer to load", lambda: trainer.load_state_with_optimizer(path).result()
    )
    expect_same("the weights are as they were", look(trainer), before)


@rule(
    "checkpoints.files-can-be-downloaded",
    title="A checkpoint's files are downloaded whole: as many bytes as the listing says",
    section="4.7",
    needs=_TRAIN,
)
def files_can_be_downloaded(subject: Subject) -> None:
    """Save and download."""
    trainer = subject.trainer()
    trainer.save_state("files").result()
    listed = trainer.get_checkpoint_archive_url(name="files", target="trainer").presigned_urls
    with tempfile.TemporaryDirectory() as folder:
        done = trainer.download_checkpoint(name="files", target="trainer", dest_dir=folder)
        sizes = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in Path(folder).rglob("*")
            if path.is_file()
        }
    expected = {file.relative_file_name: file.size_bytes for file in listed}
    expect(sizes == expected != {}, "the files are as listed", seen=sizes, expected=expected)
    expect(done.bytes_written == sum(sizes.values()), "the bytes are told", seen=done)


@rule(
    "checkpoints.another-run-can-load-it",
    title="A checkpoint of one run can be loaded by another",
    section="6.3",
    needs=_TRAIN,
)
def another_run_can_load_it(subject: Subject) -> None:
    """Save in one run, and load in a run of another seed."""
    one, two = subject.trainer(), subject.trainer(seed=8)
    step(one, BATCH)
    path = one.save_state("lent").result().path
    two.load_state_with_optimizer(path).result()
    expect_same("both have the same weights", look(two), look(one))


@rule(
    "checkpoints.targets-have-names-of-their-own",
    title="A trainer's and a sampler's checkpoint of one name are two: neither replaces the other",
    section="6.2",
    needs={"train", "sample"},
)
def targets_have_names_of_their_own(subject: Subject) -> None:
    """Save both under one name, and load the trainer's."""
    trainer = subject.trainer()
    step(trainer)
    path = trainer.save_state("same").result().path
    step(trainer)
    trainer.save_weights_for_sampler("same").result()
    targets = sorted(str(found.target) for found in trainer.list_checkpoints())
    expect(targets == ["sampler", "trainer"], "both are listed", seen=targets)
    loaded = trainer.load_state_with_optimizer(path).result().step
    expect(loaded == 1, "the trainer's is the trainer's", step=loaded)


@rule(
    "checkpoints.the-newest-is-listed-first",
    title="list_checkpoints lists the newest first",
    section="4.7",
    needs=_TRAIN,
)
def the_newest_is_listed_first(subject: Subject) -> None:
    """Save three, and the first again."""
    trainer = subject.trainer()
    for name in ("one", "two", "three", "one"):
        trainer.save_state(name).result()
    names = [found.checkpoint_id for found in trainer.list_checkpoints()]
    expect(names == ["one", "three", "two"], "the newest is first", seen=names)


@rule(
    "checkpoints.pages-hold-every-file-once",
    title="Paging through a checkpoint's files meets each of them once",
    section="4.7",
    needs=_TRAIN,
)
def pages_hold_every_file_once(subject: Subject) -> None:
    """Read the files one by one, and all at once."""
    trainer = subject.trainer()
    trainer.save_state("files").result()
    whole = trainer.get_checkpoint_archive_url(name="files", target="trainer")
    names = [file.relative_file_name for file in whole.presigned_urls]
    expect(whole.total_count == len(names), "all are counted", seen=whole.total_count)
    found: list[str] = []
    token: int | None = 0
    while token is not None and len(found) <= len(names):
        page = trainer.get_checkpoint_archive_url(
            page_size=1, page_token=token, name="files", target="trainer"
        )
        found += [file.relative_file_name for file in page.presigned_urls]
        token = page.next_page_token
    expect(found == names, "each is met once", seen=found, expected=names)
