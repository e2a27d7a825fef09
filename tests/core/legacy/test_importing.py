"""The imported config and its remarks cover the whole earlier file, and the config loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.config import Config
from core.config.loading import leaves, load
from core.data.labeled_rows import read as read_data
from core.errors import ConfigError, PromptError
from core.legacy.convert import Imported, import_config, nested, render
from core.legacy.keys import FIXED, KEYS
from core.prompts import load_prompts
from tests.core.legacy.olden import (
    FIRST,
    LATER,
    TAGGED,
    write_config,
    write_project,
    write_run,
    write_tables,
)

OTHER: dict[str, Any] = {
    "teacher_json_mode": False, "csv_sep": ",", "lr_schedule": "constant", "selection_metric": "auroc",
    "batch_strategy": "stratified", "tinker_base_url": "http://localhost:1", "run_name": "mine",
    "wandb_entity": "we", "teacher_base_url": "http://localhost:2/v1",
}  # fmt: skip
"""A value for keys whose default is not a good example."""


def imported(path: Path, **more: Any) -> Imported:
    return import_config(path, prompts_file=path.with_suffix(".prompts.yaml"), **more)


def written(found: Imported, folder: Path) -> Path:
    path = folder / "imported.yaml"
    path.write_text(render(found))
    return path


def test_key_table_has_exactly_the_65_keys() -> None:
    assert list(KEYS) == list(dict.fromkeys(KEYS))
    assert set(KEYS) == {*FIRST, *LATER}
    assert (len(FIRST), len(LATER), len(KEYS)) == (54, 11, 65)
    assert {name for name, key in KEYS.items() if key.later} == set(LATER)


def test_55_keys_are_converted_and_10_have_a_reason() -> None:
    without = [name for name, key in KEYS.items() if not key.fields]
    assert (len(KEYS) - len(without), len(without)) == (55, 10)
    assert all(KEYS[name].note for name in without)


def test_every_written_field_exists() -> None:
    ours = {".".join(path) for path in leaves(Config)}
    assert {field for key in KEYS.values() for field in key.fields} | set(FIXED) <= ours


@pytest.mark.parametrize("version", ["old", "new"])
@pytest.mark.parametrize("name", [*FIRST, *LATER])
def test_each_key_alone_is_converted_or_listed_with_a_reason(tmp_path: Path, name: str, version: Any) -> None:
    path = write_config(tmp_path, **{name: OTHER.get(name, KEYS[name].new_default)})
    found = imported(path, defaults=version)
    mapped = [field for field, origin in found.origins.items() if origin == name]
    listed = [r for r in found.remarks if r.key == name and r.place == f"{path}:2" and r.kind != "missing"]
    if KEYS[name].fields:
        assert set(mapped) <= set(KEYS[name].fields)
        assert mapped or found.values.keys().isdisjoint(KEYS[name].fields) or listed
    else:
        assert mapped == []
        assert [r.kind for r in listed] == ["left out"]
    assert load(written(found, tmp_path)).config == Config.model_validate(
        nested({"run.name": "imported", **found.values})
    )


@pytest.mark.parametrize(("version", "keys"), [("old", FIRST), ("new", [*FIRST, *LATER])])
def test_all_keys_together_are_converted_or_listed(tmp_path: Path, version: str, keys: list[str]) -> None:
    path = write_config(tmp_path, **{name: OTHER.get(name, KEYS[name].new_default) for name in keys})
    found = imported(path)
    assert found.version == version
    assert found.mapped == sum(bool(KEYS[name].fields) for name in keys)
    assert [r.key for r in found.remarks if r.kind == "left out"] == [n for n in keys if not KEYS[n].fields]
    assert load(written(found, tmp_path)).run_name == "mine"


def test_missing_keys_get_the_defaults_of_their_version(tmp_path: Path) -> None:
    old = imported(write_config(tmp_path, seed=1))
    new = imported(write_config(tmp_path, batch_strategy="random"))
    forced = imported(write_config(tmp_path, seed=1), defaults="new")
    of = {"old": old.values, "new": new.values, "forced": forced.values}
    assert {k: v["teacher.max_tokens"] for k, v in of.items()} == {"old": 300, "new": 4096, "forced": 4096}
    assert {k: v["student.engine.checkpoint_ttl_days"] for k, v in of.items()} == {
        "old": 7,
        "new": 90,
        "forced": 90,
    }
    assert (old.values["student.batches"], forced.values["student.batches"]) == ("random", "stratified")
    assert "student.chat_template_args" not in old.values
    assert new.values["student.chat_template_args"] == {"enable_thinking": True}
    config = load(written(old, tmp_path)).config
    assert (config.student.learning_rate, config.teacher.attempts, config.student.lora.rank) == (2e-4, 3, 32)
    assert (config.student.adam.grad_clip_norm, config.student.rulebook) == (0.0, True)
    assert (config.evaluation.max_new_tokens, new.values["evaluation.max_new_tokens"]) == (512, 1024)


def test_trackers_are_off_unless_the_file_names_one(tmp_path: Path) -> None:
    assert load(written(imported(write_config(tmp_path, seed=1)), tmp_path)).config.trackers.wandb is None


def test_every_line_states_the_origin_of_its_value(tmp_path: Path) -> None:
    text = render(
        imported(
            write_config(tmp_path, teacher_k=4, wandb_mode="offline", techer_k=5, teacher_json_mode=True)
        )
    )
    assert "  attempts: 4  # teacher_k\n" in text
    assert "  epochs: 3  # num_epochs, by default\n" in text
    assert "    kind: tinker  # the only engine of the scripts\n" in text
    assert "    mode: offline  # wandb_mode\n" in text
    assert "    project: reasoning-sft-tinker  # wandb_project, by default\n" in text
    unwrapped = text.replace("\n#     ", " ")  # a long path of the file wraps what follows
    assert "teacher_json_mode: true: the first request finds" in unwrapped
    assert "did you mean teacher_k?" in unwrapped
    values = [line for line in text.splitlines() if line and not line.startswith("#") and line[-1] != ":"]
    assert all("  # " in line for line in values)


def test_paths_are_found_from_parent_folders_with_or_without_tinker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = write_project(tmp_path)
    (home / "runs").mkdir()
    monkeypatch.chdir(home)
    given = {"dataset_root_dir": "dataset", "log_dir": "tinker/runs", "rules_root_dir": "nothing"}
    found = imported(write_config(tmp_path, **given))
    assert (found.values["data.dir"], found.values["rules.dir"]) == ("dataset", "rules/ethos")
    assert found.values["run.root"] == "."
    assert [r for r in found.remarks if r.kind == "missing"] == []
    monkeypatch.chdir(tmp_path / "tinker/rules")
    assert imported(write_config(tmp_path, **given)).values["data.dir"] == str(home / "dataset")


@pytest.mark.parametrize(
    ("columns", "separator", "taken"),
    [
        (("text", "label"), ",", ("text", "label", ",")),
        (("comment", "isHate"), ",", ("comment", "isHate", ",")),
        (("comment", "isHate"), ";", ("comment", "isHate", ";")),
        (("other", "one"), ",", ("comment", "isHate", ";")),
    ],
)
def test_columns_of_the_train_table_are_tried_in_the_scripts_order(
    tmp_path: Path, columns: tuple[str, str], separator: str, taken: tuple[str, str, str]
) -> None:
    write_tables(write_project(tmp_path) / "dataset/ethos", columns, separator)
    values = imported(write_config(tmp_path, seed=1)).values
    assert (values["data.text_column"], values["data.label_column"], values["data.separator"]) == taken


def test_missing_paths_are_listed_with_the_places_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_config(tmp_path, dataset_root_dir="data")
    missing = {r.key: r.text for r in imported(path).remarks if r.kind == "missing"}
    assert list(missing) == ["dataset_root_dir", "prompt_file", "rules_root_dir"]
    assert missing["dataset_root_dir"].startswith(f"data does not exist (tried: {path.parent}/data, ")
    assert missing["dataset_root_dir"].endswith("): set data.dir")


def test_prompts_are_converted_word_for_word(tmp_path: Path) -> None:
    write_project(tmp_path)
    found = imported(write_config(tmp_path, task_instruction="Is it spam?"))
    Path(found.values["prompts.file"]).write_text(found.prompts or "")
    config = load(written(found, tmp_path)).config
    asked = load_prompts(config.prompts).teacher_messages("{a} text", "THE RULES")
    assert [m.content for m in asked] == [
        "You judge messages.",
        'Is it spam?\nRules: THE RULES\nMessage: {a} text\nGive {"reasoning": "...", "label": 0}.',
    ]
    remarks = [r.text for r in found.remarks if r.key == "prompt_file"]
    assert "no student_user and no student_label_only_user" in " ".join(remarks)


def test_tagged_prompts_of_the_later_version_keep_their_tags(tmp_path: Path) -> None:
    write_project(tmp_path, prompts=TAGGED)
    found = imported(write_config(tmp_path, student_use_rulebook=False))
    Path(found.values["prompts.file"]).write_text(found.prompts or "")
    prompts = load_prompts(load(written(found, tmp_path)).config.prompts)
    assert (prompts.target.reason_open, prompts.target.label_close) == ("<think>\n", "\n</label>")
    (message,) = prompts.student_messages("TEXT", None, label_only=False)
    assert message.content == "Decide whether the following text is hate speech. TEXT"


def test_prompts_file_in_our_form_is_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = write_project(tmp_path, prompts="task_instruction: T\nteacher_user: '{{ text }}'\n")
    monkeypatch.chdir(home)
    found = imported(write_config(tmp_path, seed=1))
    assert (found.prompts, found.values["prompts.file"]) == (None, "prompts/sft_reasoning.yaml")


@pytest.mark.parametrize(
    ("given", "field", "value"),
    [
        ({"selection_metric": "cls_loss"}, "evaluation.metric", "log_loss"),
        ({"lr_schedule": "cosine"}, "student.schedule", "linear"),
        ({"lr_schedule": "constant"}, "student.schedule", "constant"),
        ({"student_model_name": "Qwen3-8B"}, "student.model", "Qwen/Qwen3-8B"),
        ({"student_model_name": "a/b"}, "student.model", "a/b"),
        ({"min_reasoning_chars": 0}, "rejection.rules", ["unparsed", "label_mismatch"]),
        ({"ttl_seconds": 86400}, "student.engine.checkpoint_ttl_days", 1.0),
        ({"teacher_workers": 10, "teacher_sleep_seconds": 2.0}, "teacher.limits.requests_per_minute", 300.0),
        ({"max_length": 20480, "max_new_tokens": 3072}, "export.max_new_tokens", 3072),
        ({"log_dir": "logs"}, "run.root", "logs"),
        ({"teacher_model": "gemini-x", "batch_strategy": "random"}, "teacher.api_key_env", "GOOGLE_API_KEY"),
        ({"teacher_model": "gemini-x"}, "teacher.api_key_env", "DEEPSEEK_API_KEY"),
    ],
)
def test_converted_values_keep_their_meaning(
    tmp_path: Path, given: dict[str, Any], field: str, value: Any
) -> None:
    assert imported(write_config(tmp_path, **given)).values[field] == value


@pytest.mark.parametrize("place", ["", "teacher_phase/accepted_samples.jsonl"])
def test_answers_of_an_earlier_run_replace_the_teacher_and_the_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    home = write_project(tmp_path)
    run = write_run(home)
    monkeypatch.chdir(home)
    answers = run.relative_to(home) / place
    found = imported(write_config(tmp_path, csv_sep=";", text_column="comment"), answers=answers)
    config = load(written(found, tmp_path)).config
    assert (config.teacher.kind, config.teacher.answers) == ("recorded", str(answers))
    assert (config.data.dir, config.data.text_column, config.data.separator) == (
        str(run.relative_to(home) / "data_splits"), "text", ",",
    )  # fmt: skip
    assert len(read_data(config.data).rows) == 60
    assert [r.key for r in found.remarks if "--answers" in r.text] == ["text_column", "csv_sep"]
    assert found.mapped == 0


@pytest.mark.parametrize("prompts", ["[broken", "reasoning_user_prompt_template: [a, b]\n",
                                     "reasoning_user_prompt_template: '{text} {gold}'\n",
                                     "reasoning_user_prompt_template: 'a { brace {text}'\n"])  # fmt: skip
def test_unrenderable_prompts_are_rejected(tmp_path: Path, prompts: str) -> None:
    home = write_project(tmp_path, prompts=prompts)
    with pytest.raises(PromptError, match=f"{home}/prompts/sft_reasoning.yaml"):
        imported(write_config(tmp_path, seed=1))


def test_missing_answers_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--answers no/run does not exist; give the folder of a run"):
        imported(write_config(tmp_path, seed=1), answers=Path("no/run"))


BROKEN = [
    ("", "{path}:1: not JSON: Expecting value; the file is empty"),
    ('{"seed": 1,}', "{path}:1: not JSON: .*JSON has no comments and no comma after the last key"),
    ("[1]", "{path}: expected one JSON object with a key per setting, found a list"),
    ("3", "{path}: expected one JSON object with a key per setting, found a number"),
    ('{\n"seed": 1,\n"seed": 2}', "{path}:2: seed: the key is repeated; keep one"),
    ('{"learning_rate": NaN}', "{path}: not JSON: NaN is not a JSON number; give a number"),
    ('{"teacher": {"kind": "gold"}}', "{path}:1: teacher: is an object, as in a config of this project"),
    ('{"seed": [1, 2]}', "{path}:1: seed: is a list; the earlier scripts have single values only"),
    ('{\n"teacher_k": "4"}', "{path}:2: teacher_k: '4' is not a whole number; correct it, or remove the key"),
    ('{"teacher_k": true}', "{path}:1: teacher_k: True is not a whole number"),
    ('{"teacher_k": 1.5}', "{path}:1: teacher_k: 1.5 is not a whole number"),
    ('{"save_sft_jsonl": 1}', "{path}:1: save_sft_jsonl: 1 is not true or false"),
    ('{"num_epochs": null}', "{path}:1: num_epochs: None is not a number"),
    ('{"teacher_k": 0}', "{path}:1: teacher_k \\(here teacher.attempts\\): should be greater than or equal"),
    ('{"seed": -1}', "{path}:1: seed: should be greater than or equal to 0, not -1"),
    ('{"ttl_seconds": 60}', "{path}:1: ttl_seconds \\(here student.engine.checkpoint_ttl_days\\): should be"),
    ('{"csv_sep": "||"}', "{path}:1: csv_sep: '||' is not one character; give one"),
    ('{"label_threshold": "half"}', "{path}:1: label_threshold: 'half' is not a number"),
    ('{"selection_metric": "f2"}', "{path}:1: selection_metric: 'f2' is not one of macro_f1, .*; give one"),
    ('{"batch_strategy": "none"}', "{path}:1: batch_strategy: 'none' is not one of random, stratified"),
    ('{"wandb_mode": "dryrun"}', "{path}:1: wandb_mode \\(here trackers.wandb.mode\\): should be 'online'"),
    ('{"run_name": "a/b"}', "{path}:1: run_name \\(here run.name\\): "),
    ('{"teacher_sleep_seconds": -1}', "{path}:1: teacher_sleep_seconds: -1 is negative; give 0 or more"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), BROKEN)
def test_bad_file_is_rejected_with_place_and_remedy(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "reasoning_sft.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=sentence.format(path=path).replace("||", r"\|\|")) as e:
        imported(path)
    assert len(str(e.value).splitlines()) == 1
