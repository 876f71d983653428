"""Rules of checkpoints as the control plane shows them: listings, pages of links, files."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath

from loops_mock.contract.answers import Json, ok
from loops_mock.contract.rule import NotOffered, expect, expect_equal, rule
from loops_mock.contract.subject import Subject
from loops_mock.contract.wire import WireRun

_CHECKPOINTS = "/v1/loops/checkpoints"


def _saved(subject: Subject) -> tuple[WireRun, str, Json]:
    """Return a run, the path of a state it saved, and the checkpoint as it is listed."""
    run = subject.raw.open_run()
    path = run.done("save_state", name="saved")["path"]
    found = ok(subject.raw.get(_CHECKPOINTS, params={"checkpoint_path": path}))["checkpoints"]
    expect_equal(len(found), 1, "the number of checkpoints at a path")
    return run, path, found[0]


def _files(subject: Subject, **page: int) -> Json:
    _, _, checkpoint = _saved(subject)
    return ok(subject.raw.get(f"{_CHECKPOINTS}/{checkpoint['id']}/files", params=page))


@rule(
    "checkpoint-files.listing-has-every-field",
    title="A listed checkpoint has every field that published clients read, none of them null",
    section="4.7",
    needs={"http"},
)
def _fields(subject: Subject) -> None:
    run, _, checkpoint = _saved(subject)
    expect_equal(checkpoint.get("checkpoint_id"), "saved", "checkpoint_id, the name")
    expect_equal(checkpoint.get("run_id"), run.id, "run_id")
    expect_equal(checkpoint.get("base_model"), run.base_model, "base_model")
    expect_equal(checkpoint.get("target"), "trainer", "target")
    expect_equal(checkpoint.get("lora_adapter_config", {}).get("r"), 4, "the adapter's rank r")
    for name in ("id", "checkpoint_type", "created_at"):
        value = checkpoint.get(name)
        expect(isinstance(value, str) and value, f"{name} is text", checkpoint=checkpoint)
    expect(checkpoint.get("size_bytes", 0) > 0, "size_bytes is known", checkpoint=checkpoint)
    made = datetime.fromisoformat(checkpoint["created_at"])
    expect(made.tzinfo is not None, "created_at has a zone", created_at=checkpoint["created_at"])


@rule(
    "checkpoint-files.listed-by-run",
    title="`GET checkpoints?run_id=` lists a run's checkpoints and no other's",
    section="1.2",
    needs={"http"},
)
def _by_run(subject: Subject) -> None:
    run, _, _ = _saved(subject)
    other = subject.raw.open_run()
    other.done("save_state", name="others")
    found = ok(subject.raw.get(_CHECKPOINTS, params={"run_id": run.id}))["checkpoints"]
    expect_equal([each["checkpoint_id"] for each in found], ["saved"], "the listed names")


@rule(
    "checkpoint-files.targets-share-names",
    title="A state and published weights of one name are two checkpoints",
    section="6.2",
    needs={"http"},
)
def _targets(subject: Subject) -> None:
    run, _, _ = _saved(subject)
    run.done("save_weights_for_sampler", name="saved", bump_version=False)
    found = ok(subject.raw.get(_CHECKPOINTS, params={"run_id": run.id}))["checkpoints"]
    targets = sorted(each["target"] for each in found if each["checkpoint_id"] == "saved")
    expect_equal(targets, ["sampler", "trainer"], "the targets of the name")


@rule(
    "checkpoint-files.unknown-path-is-none",
    title="A path that is none is 404 or an empty listing",
    section="1.2",
    needs={"http"},
)
def _unknown_path(subject: Subject) -> None:
    params = {"checkpoint_path": "bt://loops:nobody/weights/nothing"}
    reply = subject.raw.get(_CHECKPOINTS, params=params)
    if reply.status_code != 404:
        expect_equal(ok(reply)["checkpoints"], [], "the checkpoints at an unknown path")


@rule(
    "checkpoint-files.listing-asks-one-thing",
    title="A listing takes exactly one of run_id, base_model and checkpoint_path; else it is a 4xx",
    section="1.6",
    needs={"http"},
)
def _one_thing(subject: Subject) -> None:
    for params in ({}, {"run_id": "x", "base_model": "y"}):
        status = subject.raw.get(_CHECKPOINTS, params=params).status_code
        expect(400 <= status < 500, f"listing by {sorted(params)} is a 4xx", status=status)


@rule(
    "checkpoint-files.page-of-links",
    title="`GET checkpoints/{id}/files` gives presigned_urls, total_count, and no token at the end",
    section="1.2",
    needs={"http"},
)
def _page(subject: Subject) -> None:
    page = _files(subject, page_size=1000, page_token=0)
    links = page.get("presigned_urls", [])
    expect_equal(page.get("total_count"), len(links), "total_count")
    expect(links, "there is a file", page=page)
    expect_equal(page.get("next_page_token"), None, "next_page_token of the last page")
    for link in links:
        datetime.fromisoformat(link["last_modified"])
        expect(isinstance(link["url"], str) and link["size_bytes"] >= 0, "url and size", link=link)


@rule(
    "checkpoint-files.pages-cover-every-file-once",
    title="Pages of one link each lead to every file exactly once",
    section="1.6",
    needs={"http"},
)
def _pages(subject: Subject) -> None:
    _, _, checkpoint = _saved(subject)
    url, token, names = f"{_CHECKPOINTS}/{checkpoint['id']}/files", 0, list[str]()
    total = ok(subject.raw.get(url))["total_count"]
    for _ in range(total):
        page = ok(subject.raw.get(url, params={"page_size": 1, "page_token": token}))
        names += [link["relative_file_name"] for link in page["presigned_urls"]]
        expect_equal(len(page["presigned_urls"]), 1, "the links of a page of one")
        token = page["next_page_token"]
        if token is None:
            break
    expect_equal((len(names), len(set(names))), (total, total), "files and different files")


@rule(
    "checkpoint-files.links-answer-without-a-key",
    title="A link gives the file without any key, as many bytes as were said",
    section="1.2",
    needs={"http"},
)
def _links(subject: Subject) -> None:
    sizes = 0
    for link in _files(subject)["presigned_urls"]:
        reply = subject.raw.get(link["url"], with_key=False)
        expect_equal(reply.status_code, 200, f"the status of {link['relative_file_name']}")
        expect_equal(
            len(reply.content), link["size_bytes"], f"size of {link['relative_file_name']}"
        )
        sizes += link["size_bytes"]
    expect(sizes > 0, "a checkpoint has bytes", sizes=sizes)


@rule(
    "checkpoint-files.names-stay-inside",
    title="File names are relative and never lead out of the folder they are written to",
    section="4.7",
    needs={"http"},
)
def _names(subject: Subject) -> None:
    for link in _files(subject)["presigned_urls"]:
        name = PurePosixPath(link["relative_file_name"])
        is_inside = not name.is_absolute() and ".." not in name.parts and "\\" not in str(name)
        expect(is_inside, "the name stays inside", name=str(name))


@rule(
    "checkpoint-files.altered-link-is-refused",
    title="A link that was altered is refused",
    section="1.2",
    needs={"http"},
)
def _altered(subject: Subject) -> None:
    url: str = _files(subject)["presigned_urls"][0]["url"]
    middle = len(url) * 2 // 3
    altered = url[:middle] + ("A" if url[middle] != "A" else "B") + url[middle + 1 :]
    status = subject.raw.get(altered, with_key=False).status_code
    expect(status >= 400, "an altered link is refused", status=status)


@rule(
    "checkpoint-files.source-is-named",
    title="`GET checkpoints/{id}/source` says `source.kind`, s3 or volume",
    section="1.2",
    needs={"http"},
)
def _source(subject: Subject) -> None:
    _, _, checkpoint = _saved(subject)
    source = ok(subject.raw.get(f"{_CHECKPOINTS}/{checkpoint['id']}/source")).get("source", {})
    expect(source.get("kind") in ("s3", "volume"), "kind is s3 or volume", source=source)


@rule(
    "checkpoint-files.unknown-checkpoint-is-404",
    title="Files and source of a checkpoint that is none are 404",
    section="1.2",
    needs={"http"},
)
def _unknown(subject: Subject) -> None:
    for leaf in ("files", "source"):
        status = subject.raw.get(f"{_CHECKPOINTS}/no-such-checkpoint/{leaf}").status_code
        expect_equal(status, 404, f"the status of its {leaf}")


@rule(
    "checkpoint-files.page-of-nothing-is-refused",
    title="A page_size of 0 and a negative page_token are a 4xx",
    section="1.6",
    needs={"http"},
)
def _no_page(subject: Subject) -> None:
    _, _, checkpoint = _saved(subject)
    url = f"{_CHECKPOINTS}/{checkpoint['id']}/files"
    for params in ({"page_size": 0}, {"page_token": -1}, {"page_size": "many"}):
        status = subject.raw.get(url, params=params).status_code
        expect(400 <= status < 500, f"{params} is a 4xx", status=status)


@rule(
    "checkpoint-files.validate-knows-paths",
    title="`POST checkpoints/validate` is a success for a checkpoint of the run, else a 4xx",
    section="1.2",
    needs={"http"},
)
def _validate(subject: Subject) -> None:
    run = subject.raw.open_run()
    path = run.done("save_weights_for_sampler", name="shown", bump_version=True)["path"]
    ok(subject.raw.post(f"{_CHECKPOINTS}/validate", {"checkpoint_path": path, "run_id": run.id}))
    wrong = {"checkpoint_path": f"{path}-not", "run_id": run.id}
    status = subject.raw.post(f"{_CHECKPOINTS}/validate", wrong).status_code
    expect(400 <= status < 500, "an unknown checkpoint is a 4xx", status=status)


@rule(
    "checkpoint-files.published-weights-are-an-adapter",
    title="Published weights hold adapter_config.json and adapter_model.safetensors",
    section="6.2",
    needs={"http"},
)
def _adapter(subject: Subject) -> None:
    run = subject.raw.open_run()
    path = run.done("save_weights_for_sampler", name="adapter", bump_version=True)["path"]
    found = ok(subject.raw.get(_CHECKPOINTS, params={"checkpoint_path": path}))["checkpoints"][0]
    links = ok(subject.raw.get(f"{_CHECKPOINTS}/{found['id']}/files"))["presigned_urls"]
    names = {PurePosixPath(link["relative_file_name"]).name for link in links}
    if not any(name.endswith(".safetensors") for name in names):
        raise NotOffered(f"adapters in the common format: the files are {sorted(names)}")
    wanted = {"adapter_config.json", "adapter_model.safetensors"}
    expect(wanted <= names, "both files are there", names=sorted(names))
