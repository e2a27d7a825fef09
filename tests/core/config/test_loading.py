"""Loading a config: messages about invalid files, and the origin of each value."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.config import Config
from core.config.config import render
from core.config.loading import leaves, load
from core.errors import ConfigError

REPO = Path(__file__).resolve().parents[3]
MINIMAL = "data:\n  path: texts.csv\nteacher:\n  answers: answers.jsonl\n"


def write(folder: Path, text: str, name: str = "c.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        (
            "student: {learning_rte: 1}",
            "{f}:5: student.learning_rte is not a key; did you mean learning_rate?",
        ),
        ("studnt: {}", "{f}:5: studnt is not a key; did you mean student?"),
        ("learning_rate: 1", "{f}:5: learning_rate is not a key; did you mean student.learning_rate?"),
        ("student: {epochs: three}", "{f}:5: student.epochs: should be a valid number, not 'three'"),
        ("student: {batch_size: 1.5}", "{f}:5: student.batch_size: should be a valid integer, not 1.5"),
        ("student: {batch_size: true}", "{f}:5: student.batch_size: should be a valid integer, not True"),
        (
            "student: {batch_size: 0}",
            "{f}:5: student.batch_size: should be greater than or equal to 1, not 0",
        ),
        (
            "student: {epochs: 1, steps: 2}",
            "{f}:5: student: epochs and steps both say how long to train; give one",
        ),
        (
            "student:\n  target: lable_only",
            "{f}:6: student.target: should be 'label_only', 'label_first' or 'reason_first', "
            "not 'lable_only'",
        ),
        (
            "rejection: {rules: [to_short]}",
            "{f}:5: rejection.rules.0: no rejection rule is called 'to_short'; did you mean 'too_short'?",
        ),
        (
            "rejection: {rules: [{rule: too_short, min_char: 3}]}",
            "rejection.rules.0.too_short.min_char is not a key; did you mean min_chars?",
        ),
        ("rejection: {rules: [unparsed, unparsed]}", "{f}:5: rejection: unparsed is twice in the list"),
        (
            "export: {reasoning: false, label_only: false}",
            "{f}:5: export: reasoning and label_only are both off: nothing would be exported",
        ),
        ("seed: 1\nseed: 2", "{f}:6: seed occurs twice, first on line 5; keep one"),
        ("seed: -1", "{f}:5: seed: should be greater than or equal to 0, not -1"),
        ("seed: .nan", "seed"),
        ("seed: [1", "{f}:6: not YAML: expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_config_error_states_place_and_remedy(tmp_path: Path, extra: str, sentence: str) -> None:
    path = write(tmp_path, MINIMAL + extra + "\n")
    with pytest.raises(ConfigError) as e:
        load(path)
    assert sentence.replace("{f}", str(path)) in str(e.value)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ("{}", "give exactly one of path, files and dir; none given"),
        ("{path: a, dir: b}", "give exactly one of path, files and dir; ['path', 'dir'] given"),
        ("{path: a, positive: [x], negative: [X]}", "['x'] are in positive and in negative"),
        (
            "{path: a, sizes: {train: 0.5, val: 0.2, test: 0.2}}",
            "shares must add up to 1; these add up to 0.9",
        ),
        (
            "{path: a, sizes: {train: 100, val: 0.2, test: 0.2}}",
            "give three shares below 1, or three whole numbers",
        ),
        ("{path: a, split_file: b, split_column: c}", "split_column and split_file both give the split"),
    ],
)
def test_contradictions_in_the_data_section_are_rejected(tmp_path: Path, data: str, sentence: str) -> None:
    path = write(tmp_path, f"data: {data}\nteacher: {{answers: y}}\n")
    with pytest.raises(ConfigError) as e:
        load(path)
    assert sentence in str(e.value)


def test_all_mistakes_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "seed: x\nstudent: {epoch: 1}\n")
    with pytest.raises(ConfigError) as e:
        load(path)
    assert len(str(e.value).splitlines()) == 2


def test_missing_section_is_described(tmp_path: Path) -> None:
    path = write(tmp_path, "teacher: {answers: y}\n")
    with pytest.raises(ConfigError, match=r"data is missing: The texts\."):
        load(path)


def test_missing_config_file_is_reported_with_its_absolute_path_and_near_names(tmp_path: Path) -> None:
    write(tmp_path, MINIMAL, "quickstart.yaml")
    with pytest.raises(ConfigError) as e:
        load(tmp_path / "quickstrat.yaml")
    assert str(e.value) == f"no config file at {tmp_path}/quickstrat.yaml; near it: quickstart.yaml"


def test_json_config_is_read(tmp_path: Path) -> None:
    values = {"data": {"path": "x"}, "teacher": {"answers": "y"}, "student": {"learning_rate": 1e-3}}
    path = write(tmp_path, json.dumps(values), "c.json")
    assert load(path).config.student.learning_rate == 1e-3
    broken = write(tmp_path, '{"data": }', "b.json")
    with pytest.raises(ConfigError, match=r"b.json:1: not JSON"):
        load(broken)


def test_1e_3_is_a_number_unlike_in_yaml_1_1(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "student: {learning_rate: 1e-3}\n")
    assert load(path).config.student.learning_rate == 0.001


def test_override_wins_and_its_errors_name_it(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "student: {epochs: 1}\n")
    resolved = load(path, ["student.epochs=2.5", "student.lora.rank=4", "run.name=other"])
    assert resolved.config.student.epochs == 2.5
    assert resolved.config.student.lora.rank == 4
    assert resolved.run_name == "other"
    for wrong, sentence in [
        ("student.epoch=2", "--set: student.epoch is not a key; did you mean epochs?"),
        ("student.epochs=x", "--set: student.epochs: should be a valid number, not 'x'"),
        ("student.epochs", "--set wants key=value"),
        ("student.epochs=[1", "is not a YAML value"),
    ]:
        with pytest.raises(ConfigError) as e:
            load(path, [wrong])
        assert sentence in str(e.value)


def test_every_value_has_its_origin(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "student: {epochs: 1}\n")
    origins = load(path, ["student.batch_size=2"]).origins
    assert origins[("student", "epochs")] == f"{path}:5"
    assert origins[("student", "batch_size")] == "--set"
    assert origins[("student", "learning_rate")] == "default"
    assert origins[("run", "name")] == "the file's name"


NO_RUNS = ("prices.yaml", "sweep.yaml")
CONFIGS = sorted(p.name for p in (REPO / "configs").glob("*.yaml") if p.name not in NO_RUNS)


@pytest.mark.parametrize("name", CONFIGS)
def test_rendered_config_loads_to_the_same_config(tmp_path: Path, name: str) -> None:
    resolved = load(REPO / "configs" / name, ["student.batch_size=3"])
    again = load(write(tmp_path, render(resolved)))
    assert again.config == resolved.config


def test_every_config_key_has_a_description() -> None:
    def undescribed(model: type, at: str = "") -> list[str]:
        from core.config.loading import fields_at

        out = []
        for path in leaves(Config):
            section = fields_at(path[:-1])
            assert section is not None
            if not section[path[-1]].description:
                out.append(".".join(path))
        return out

    assert undescribed(Config) == []


def test_the_run_is_named_after_the_file(tmp_path: Path) -> None:
    assert load(write(tmp_path, MINIMAL, "my texts.yaml")).run_name == "my-texts"
    assert load(write(tmp_path, MINIMAL, "größe 2.yaml")).run_name == "gr--e-2"


def test_run_names_of_pointers_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run.name latest is what model/latest.json is called"):
        load(write(tmp_path, MINIMAL, "latest.yaml"))
    assert load(write(tmp_path, MINIMAL, "latest.yaml"), ["run.name=latest-2"]).run_name == "latest-2"


def test_preset_fills_in_missing_fields(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("data: {path: x.csv}\nteacher: {kind: openai, preset: openai, model: gpt-5-mini}\n")
    teacher = load(path).config.teacher
    assert (teacher.base_url, teacher.model) == ("https://api.openai.com/v1", "gpt-5-mini")
    assert (teacher.api_key_env, teacher.token_limit) == ("OPENAI_API_KEY", "max_completion_tokens")
    again = load(path, ["teacher.base_url=http://localhost:1/v1"]).config.teacher
    assert again.base_url == "http://localhost:1/v1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("base_url: localhost:8000/v1", r"teacher\.base_url: must begin with http:// or https://"),
        ("base_url: ''", r"teacher\.base_url: must begin with http:// or https://"),
        ("base_url: 'http://h:99999/v1'", r"teacher\.base_url: is not a URL \(Port out of range"),
        ("base_url: 'http://[::1/v1'", r"teacher\.base_url: is not a URL"),
        ("base_url: 'http://my host/v1'", r"teacher\.base_url: contains a space"),
        ("base_url: 'http://h/v1/chat/completions/'", r"teacher\.base_url: ends in /chat/completions"),
        ("base_url: 'http://h/v1?k=SECRET'", r"teacher\.base_url: contains \? or #"),
        ("base_url: 'http://me:SECRET@h/v1'", r"teacher\.base_url: contains a user or a password"),
        ("api_key_env: sk-SECRET", r"teacher\.api_key_env: give an environment variable's name"),
        ("model: ''", r"teacher\.model: String should have at least 1 character"),
        ("temperature: 5", r"teacher\.temperature: should be less than or equal to 2"),
        ("extra_body: {messages: []}", r"teacher\.extra_body: messages is decided by the prompts file"),
        ("extra_body: {n: 2}", r"teacher\.extra_body: n is decided by teacher\.attempts"),
        ("extra_body: {a: [{b: .inf}]}", r"teacher\.extra_body: contains NaN or an infinite number"),
    ],
)
def test_invalid_endpoint_settings_are_rejected_without_printing_secrets(
    tmp_path: Path, line: str, message: str
) -> None:
    text = f"data:\n  path: x.csv\nteacher:\n  kind: openai\n  {line}\n"
    with pytest.raises(ConfigError, match=rf"c\.yaml:5: {message}") as caught:
        load(write(tmp_path, text, "c.yaml"))
    assert "SECRET" not in str(caught.value)
