"""A bundle's files: what was written is read back, and no byte, name or version that differs passes."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import durable, jsonio
from core.engines import ChoiceScores
from core.engines.sampling import Report, Rows
from core.errors import MissingInputError, ModelError
from core.evaluation.decision import Decision
from core.export.bundle import (
    FILE,
    PROMPTS,
    Base,
    Bundle,
    BundleColumns,
    BundlePrompt,
    Contents,
    Labels,
    open_bundle,
    parse_contents,
    read_contents,
    read_prompts,
    write_prompts,
)
from core.export.parity import compare_ways
from core.export.stage import BUNDLE
from core.predict.loaded_student import find
from core.prompts import TEMPLATES, Prompts, TargetWording
from core.store import Manifest, Store, pointers
from core.student.tokenizer import TEMPLATE_DATE, tokenizer_digest
from tests.core.pipeline.making import Made
from tests.core.predict.scoring import HashedSampler
from tests.forking import was_killed

TEXT = st.text(max_size=8)
DIGEST = st.integers(0, 2**64).map("{:064x}".format)
PATH = st.lists(
    st.text("abc._-é ", min_size=1, max_size=6).filter(lambda part: part.strip(".")), min_size=1, max_size=3
)
CONTENTS = st.builds(
    Contents,
    base=st.builds(Base, TEXT, TEXT, DIGEST, *[st.none() | TEXT] * 4),
    adapter_digest=st.none() | DIGEST,
    prompt=st.builds(
        BundlePrompt,
        target=st.sampled_from(["label_only", "label_first", "reason_first"]),
        rulebook=st.booleans(),
        max_length=st.integers(1, 10**6),
        chat_template_args=st.dictionaries(
            TEXT, st.none() | st.booleans() | st.integers() | TEXT, max_size=2
        ),
        template_date=st.dates().map(str),
        label_share=st.none() | st.floats(0, 1),
        token_weights=st.none(),
        label_only=st.booleans(),
    ),
    prompts_digest=DIGEST,
    tokenizer_digest=DIGEST,
    template_digest=DIGEST,
    rulebook_digest=DIGEST,
    rule_ids=st.lists(TEXT, max_size=3).map(tuple),
    labels=st.builds(Labels, *[st.lists(TEXT, min_size=1, max_size=2).map(tuple)] * 2),
    columns=st.builds(BundleColumns, TEXT, st.none() | TEXT),
    max_new_tokens=st.integers(0, 10**6),
    files=st.dictionaries(PATH.map("/".join), DIGEST, max_size=3),
    encoder_digest=st.none() | DIGEST,
)


@pytest.fixture(scope="module")
def shared(opened: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle, which tests change and put back."""
    return Path(shutil.copytree(opened.folder, tmp_path_factory.mktemp("shared") / "bundle"))


@given(CONTENTS)
def test_every_field_is_read_back(contents: Contents) -> None:
    with tempfile.TemporaryDirectory() as folder:
        contents.write(Path(folder) / FILE)
        assert read_contents(Path(folder)) == contents
        written = jsonio.read_json(Path(folder) / FILE)
    assert set(written) == set(Contents.model_fields)
    assert Contents.from_json({**written, "of a later version": 1}, FILE) == contents


def test_a_bundle_has_what_its_run_was_made_with(made: Made, bundle: Path, opened: Bundle) -> None:
    context, contents = made.stages["bundle"].context, opened.contents
    assert context is not None
    assert contents.base == Base("local", "./model", context.base_digest)
    assert contents.adapter_digest == jsonio.file_digest(bundle / "adapter/adapter_model.safetensors")
    assert contents.tokenizer_digest == tokenizer_digest(context.tokenizer_folder)
    assert (contents.rulebook_digest, contents.rule_ids) == (context.rulebook.digest, ("R1", "R2"))
    assert contents.labels == Labels(context.config.data.positive, context.config.data.negative)
    assert contents.columns == BundleColumns("text", "id")
    assert contents.max_new_tokens == context.config.longest_reasoning
    assert contents.prompt.template_date == TEMPLATE_DATE
    assert contents.encoder_digest == opened.encoder.digest == context.encoder().digest
    assert (bundle / "rulebook.txt").read_text() == context.rulebook.text
    assert read_prompts(bundle / PROMPTS).student_digest == context.prompts.student_digest
    frozen = made.store.folder(made.manifests["decide/student/reasoning"]) / "decision.json"
    assert opened.decision == Decision.read(frozen)
    there = {path.relative_to(bundle).as_posix(): path for path in bundle.rglob("*") if path.is_file()}
    assert contents.files == {name: jsonio.file_digest(p) for name, p in there.items() if name != FILE}
    assert not opened.has_merged


TEMPLATE = st.text(max_size=20) | st.sampled_from(
    [
        "{{ text }}",
        " a\n\n  b ",
        "x " * 80,
        "a\x85b",
        "a\u2028b\u2029",
        "\ufeff",
        "\ud83d",
        "'\"#:- |>",
        "a\r\nb\rc",
        "é 🎁",
    ]
)


@given(
    st.dictionaries(st.sampled_from(sorted(TEMPLATES)), TEMPLATE),
    TEMPLATE,
    st.lists(TEMPLATE, min_size=5, max_size=5),
)
def test_any_wording_of_the_students_prompt_is_read_back(
    templates: dict[str, str], instruction: str, target: list[str]
) -> None:
    prompts = Prompts("p.yaml", instruction, templates, TargetWording(*target))
    with tempfile.TemporaryDirectory() as folder:
        write_prompts(Path(folder) / PROMPTS, prompts)
        found = read_prompts(Path(folder) / PROMPTS)
    assert (found.task_instruction, found.target) == (instruction, prompts.target)
    assert found.templates == {name: text for name, text in templates.items() if name.startswith("student")}


@given(st.data())
def test_a_changed_byte_in_any_file_is_refused_with_its_name(shared: Path, data: st.DataObject) -> None:
    path = shared / data.draw(st.sampled_from(sorted(read_contents(shared).files)))
    sound = path.read_bytes()
    at, flip = data.draw(st.integers(0, len(sound) - 1)), data.draw(st.integers(1, 255))
    path.write_bytes(sound[:at] + bytes([sound[at] ^ flip]) + sound[at + 1 :])
    try:
        with pytest.raises(ModelError, match=f"{path} was altered"):
            open_bundle(shared)
    finally:
        path.write_bytes(sound)


def test_each_missing_file_is_named(shared: Path) -> None:
    for name in sorted(read_contents(shared).files):
        (shared / name).rename(shared / "away")
        with pytest.raises(ModelError, match=f"lacks {name}"):
            open_bundle(shared)
        (shared / "away").rename(shared / name)


def test_a_folder_without_bundle_json_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"{tmp_path} is not a bundle: it has no {FILE}"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("name", ["prompts.yaml", "rulebook.txt", "decision.json"])
def test_a_file_whose_digest_is_not_listed_is_not_read(shared: Path, opened: Bundle, name: str) -> None:
    contents = opened.contents
    files = {other: digest for other, digest in contents.files.items() if other != name}
    contents.model_copy(update={"files": files}).write(shared / FILE)
    try:
        with pytest.raises(ModelError, match=rf"bundle\.json is damaged \(files: {name} is missing"):
            open_bundle(shared)
    finally:
        contents.write(shared / FILE)


@pytest.mark.parametrize(
    "name",
    [
        "../secret",
        "adapter/../../secret",
        "/etc/passwd",
        "..",
        "",
        "a//b",
        "./a",
        "merged/../../x",
        "..\\x",
        "a/..",
    ],
)
def test_a_name_that_leads_out_of_the_bundle_is_refused(opened: Bundle, name: str) -> None:
    written = opened.contents.to_json()
    written["files"][name] = "0" * 64
    with pytest.raises(ModelError, match=r"b/bundle\.json is damaged .*not a path inside the bundle"):
        parse_contents(jsonio.canonical(written), "b/bundle.json")


@pytest.mark.parametrize("version", [0, 3, 99, "1", "x", [1], {}])
def test_an_unknown_version_is_named_with_the_one_that_is_read(opened: Bundle, version: Any) -> None:
    written = {**opened.contents.to_json(), "format": version}
    with pytest.raises(ModelError) as refused:
        parse_contents(json.dumps(written).encode(), "b/bundle.json")
    assert f"b/bundle.json is a bundle of format {version!r}, and this version reads 1" in str(refused.value)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"3", b"\xff\xfe", b'{"format": 1}', b"{}", b"\x00"]
)
def test_what_is_no_bundle_json_is_damaged_and_named(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"^b/bundle\.json is damaged"):
        parse_contents(data, "b/bundle.json")


def test_each_missing_field_is_named(opened: Bundle) -> None:
    written = opened.contents.to_json()
    needed = [name for name, field in Contents.model_fields.items() if field.is_required()]
    assert len(needed) >= 12
    for name in needed:
        rest = {other: value for other, value in written.items() if other != name}
        with pytest.raises(ModelError, match=rf"bundle\.json is damaged .*{name}: field required"):
            parse_contents(jsonio.canonical(rest), FILE)


def test_a_bundle_of_the_first_version_has_the_fields_that_it_lacks(opened: Bundle) -> None:
    written = opened.contents.to_json()
    del written["encoder_digest"], written["prompt"]["template_date"]
    found = Contents.from_json(written, FILE)
    assert (found.encoder_digest, found.prompt.template_date) == (None, TEMPLATE_DATE)
    assert found == opened.contents.model_copy(update={"encoder_digest": None})


def test_merged_weights_are_checked_when_they_are_opened(shared: Path, opened: Bundle) -> None:
    (shared / "merged").mkdir()
    (shared / "merged/config.json").write_text("{}")
    files = {**opened.contents.files, "merged/config.json": jsonio.file_digest(shared / "merged/config.json")}
    found = dataclasses.replace(
        opened, folder=shared, contents=opened.contents.model_copy(update={"files": files})
    )
    assert found.has_merged
    (shared / "merged/config.json").write_text("[]")
    with pytest.raises(ModelError, match=r"merged/config\.json was altered"):
        found.sampler("merged")
    (shared / "merged/config.json").unlink()
    with pytest.raises(ModelError, match=r"lacks merged/config\.json"):
        found.sampler("merged")
    (shared / "merged").rmdir()


def on_server(opened: Bundle, **changed: Any) -> Bundle:
    """The bundle as if a server had trained it."""
    base = dataclasses.replace(
        opened.contents.base, engine="tinker", spec="a/b", server="http://s", **changed
    )
    return dataclasses.replace(opened, contents=opened.contents.model_copy(update={"base": base}))


def test_the_base_model_here_is_the_one_that_the_config_named(made: Made, opened: Bundle) -> None:
    digest = opened.contents.base.digest
    assert opened.base(None).digest == digest
    with pytest.raises(ModelError, match=r"trained on a server as a/b.*--base-model"):
        on_server(opened).base(None)
    assert on_server(opened).base("./model").digest == digest, "there is no digest to compare with"
    assert on_server(opened, local_spec="./model", local_digest=digest).base(None).digest == digest
    with pytest.raises(ModelError, match=rf"its digest is {digest[:12]}, the bundle's is {'0' * 12}"):
        on_server(opened, local_spec="./model", local_digest="0" * 64).base(None)
    with pytest.raises(ModelError, match=r"/nowhere.*--base-model"):
        opened.base("./nowhere")


class Moved:
    """A sampler's scores, changed row by row."""

    def __init__(self, change: Callable[[int, tuple[float, ...]], tuple[float, ...]]) -> None:
        self.inner, self.change = HashedSampler(), change

    def score(self, prompts: Rows, choices: Rows, *, progress: Report | None = None) -> ChoiceScores:
        rows = [self.change(i, row) for i, row in enumerate(self.inner.score(prompts, choices).logprobs)]
        errors = {i: "lost" for i, row in enumerate(rows) if not row}
        return ChoiceScores(tuple(rows), exact=True, errors=errors)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize(
    ("change", "rows", "largest", "flips"),
    [
        (lambda i, row: row, 4, 0.0, 0),
        (lambda i, row: tuple(v - 0.25 for v in row) if i == 2 else row, 4, 0.25, 0),
        (lambda i, row: row[::-1], 4, None, None),
        (lambda i, row: (-math.inf, *row[1:]) if i == 0 else row, 4, math.inf, None),
        (lambda i, row: () if i < 3 else row, 1, 0.0, 0),
        (lambda i, row: (), 0, 0.0, 0),
    ],
    ids=["same", "apart", "reversed", "infinite", "rows lost", "all lost"],
)
def test_parity_counts_rows_differences_and_labels(
    opened: Bundle, change: Any, rows: int, largest: float | None, flips: int | None
) -> None:
    prompts, decision = [(1, i) for i in range(4)], Decision.by_definition(0.5)
    ways: dict[str, Any] = {"trained": HashedSampler, "reloaded": lambda: Moved(change)}
    found = compare_ways(opened.encoder, decision, prompts, ways)
    assert (found.checked, found.against, found.merged) == (True, "trained", None)
    assert found.reloaded is not None
    assert found.reloaded.rows == rows
    if largest == math.inf:
        assert found.reloaded.largest is None
    elif largest is not None:
        assert found.reloaded.largest == pytest.approx(largest)
    else:
        assert (found.reloaded.largest or 0) > 0
    assert flips is None or found.reloaded.flips == flips
    assert "merged" not in found.to_json()


def commit(store: Store, bundle: Path) -> Manifest:
    """Write the bundle as one writer of an object."""
    folder = store.begin("bundle", "k")
    shutil.copytree(bundle, folder / BUNDLE)
    return store.commit("bundle", "k", folder, {}, {})


def export(root: Path, bundle: Path) -> None:
    """As a run does it: files, manifest, pointers."""
    store = Store.open(str(root))
    manifest = commit(store, bundle)
    content = {"saved_at": "now", "run_name": "mine", "bundle_path": f"{manifest.folder}/{BUNDLE}"}
    pointers.publish(store, "mine", content, [manifest.folder])


def intact(folder: Path) -> bool:
    files = read_contents(folder).files
    return all(jsonio.file_digest(folder / name) == digest for name, digest in files.items())


@pytest.mark.parametrize(
    ("failpoint", "published"),
    [
        (durable.FILES_WRITTEN, ()),
        (durable.MANIFEST_WRITTEN, ()),
        (durable.RUN_POINTER_SWAPPED, ("mine",)),
        (durable.LATEST_POINTER_SWAPPED, ("mine", "latest")),
    ],
)
def test_after_a_kill_a_name_leads_to_a_whole_bundle_or_to_none(
    bundle: Path, tmp_path: Path, failpoint: str, published: tuple[str, ...]
) -> None:
    root = tmp_path / "root"
    assert was_killed(lambda: export(root, bundle), failpoint)
    for name in ("mine", "latest"):
        if name in published:
            assert intact(find(name, str(root)))
        else:
            with pytest.raises(MissingInputError, match=f"no model {name}"):
                find(name, str(root))
    export(root, bundle)
    assert find("mine", str(root)) == find("latest", str(root))
    assert intact(find("mine", str(root)))


def test_of_two_writers_at_once_one_bundle_stays(bundle: Path, tmp_path: Path) -> None:
    store, barrier = Store.open(str(tmp_path / "root")), Barrier(2)

    def write(_: int) -> Manifest:
        barrier.wait()
        return commit(store, bundle)

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(write, range(2))
    assert one.folder == other.folder
    assert store.sound("bundle", "k") == one
    assert intact(store.folder(one) / BUNDLE)
    writers = [path for path in (tmp_path / "root/objects/bundle/k").iterdir() if path.is_dir()]
    assert writers == [store.folder(one)]
