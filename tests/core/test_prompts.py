"""Prompts are rendered from their file; an invalid file is rejected before it is used."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import PromptsConfig
from core.errors import PromptError
from core.prompts import TEXT_SLOT, Message, Prompts, TargetWording, load_prompts

REPO = Path(__file__).resolve().parents[2]
GOOD = """\
task_instruction: Spam or not?
teacher_system: You judge.
teacher_user: |
  {{ task_instruction }}
  {{ rulebook }}
  {{ text }}
teacher_hint: It is {{ gold }}.
student_user: |
  {{ task_instruction }}
  {{ text }}
student_user_with_rulebook: |
  {{ rulebook }}
  {{ text }}
student_label_only_user: "{{ text }}"
"""


def load(tmp_path: Path, text: str, instruction: str | None = None) -> Prompts:
    path = tmp_path / "p.yaml"
    path.write_text(text, encoding="utf-8")
    return load_prompts(PromptsConfig(file=str(path), task_instruction=instruction))


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(PromptError) as e:
        load(tmp_path, text)
    return str(e.value).replace(f"{tmp_path}/", "")


def test_messages_are_rendered_from_the_templates(tmp_path: Path) -> None:
    p = load(tmp_path, GOOD)
    assert p.teacher_messages("hi", "R1 x") == (
        Message("system", "You judge."),
        Message("user", "Spam or not?\nR1 x\nhi"),
    )
    assert p.teacher_messages("hi", "R1 x", gold=1)[1].content == "Spam or not?\nR1 x\nhi\n\nIt is 1."
    assert p.student_messages("hi", None, label_only=False) == (Message("user", "Spam or not?\nhi"),)
    assert p.student_messages("hi", "R1 x", label_only=False) == (Message("user", "R1 x\nhi"),)
    assert p.student_messages("hi", None, label_only=True) == (Message("user", "hi"),)
    assert p.target == TargetWording("<label>", "</label>", "<reason>", "</reason>", "\n")


def test_instruction_of_the_config_replaces_that_of_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD, "Ham?").student_messages("x", None, label_only=False)[0].content == "Ham?\nx"


def test_answer_wording_is_configurable(tmp_path: Path) -> None:
    p = load(tmp_path, GOOD + 'target: {label_open: "L:", separator: " "}\n')
    assert p.target == TargetWording("L:", "</label>", "<reason>", "</reason>", " ")
    assert load(tmp_path, GOOD + "target: {separator: }\n").target.separator == ""


@given(text=st.text(), rulebook=st.text())
def test_texts_and_rulebooks_are_not_rendered_as_templates(text: str, rulebook: str) -> None:
    p = Prompts("p", "{{ 1 }}", {"teacher_user": "{{ rulebook }}|{{ text }}"}, TargetWording())
    assert p.teacher_messages(text, rulebook)[0].content == f"{rulebook}|{text}"


def test_frame_has_the_text_slot_once(tmp_path: Path) -> None:
    p = load(tmp_path, GOOD)
    for rulebook in (None, "R1 {{ text }}"):
        frame = p.student_frame(rulebook, label_only=False)
        filled = [m.content.replace(TEXT_SLOT, "  a text\n") for m in frame]
        assert filled == [m.content for m in p.student_messages("  a text\n", rulebook, label_only=False)]
    with pytest.raises(PromptError, match="contains the mark"):
        p.student_frame(f"R1 {TEXT_SLOT}", label_only=False)


def test_missing_template_is_reported(tmp_path: Path) -> None:
    with pytest.raises(
        PromptError, match="has no student_label_only_user_with_rulebook, which this run needs"
    ):
        load(tmp_path, GOOD).student_messages("x", "R1", label_only=True)


def test_digests_depend_only_on_what_is_shown(tmp_path: Path) -> None:
    base = load(tmp_path, GOOD)
    student = load(tmp_path, GOOD.replace("{{ task_instruction }}\n  {{ text }}", "{{ text }}"))
    teacher = load(tmp_path, GOOD.replace("You judge.", "You judge well."))
    hint = load(tmp_path, GOOD.replace("It is", "It was"))
    words = load(tmp_path, GOOD + 'target: {separator: " "}\n')
    label_only = load(tmp_path, GOOD.replace('"{{ text }}"', '"Text: {{ text }}"'))
    comment = load(tmp_path, "# a comment\n" + GOOD)
    task = load(tmp_path, GOOD, "Other?")
    assert comment == base
    assert student.teacher_digest == words.teacher_digest == base.teacher_digest
    assert teacher.teacher_digest != base.teacher_digest != hint.teacher_digest
    assert teacher.student_digest == hint.student_digest == base.student_digest
    assert (
        len({base.student_digest, student.student_digest, words.student_digest, label_only.student_digest})
        == 4
    )
    assert task.teacher_digest != base.teacher_digest
    assert task.student_digest != base.student_digest
    frame = base.frame_digest(rulebook=False, label_only=False)
    assert frame == label_only.frame_digest(rulebook=False, label_only=False)
    assert frame != student.frame_digest(rulebook=False, label_only=False)
    assert task.frame_digest(rulebook=True, label_only=False) == base.frame_digest(
        rulebook=True, label_only=False
    )


BAD = [
    (
        "student_user: |\n  {{ task_instruction }}",
        "p.yaml:8: student_user does not use {{ text }}, which it must contain; add it",
    ),
    (
        "student_user: |\n  {{ task_instruction }}\n  {{ texxt }}",
        "p.yaml:10: student_user uses the unknown variable texxt; did you mean text?",
    ),
    (
        "student_user: |\n  {{ rulebook }} {{ text }}",
        "p.yaml:9: student_user uses the unknown variable rulebook; "
        "the rulebook belongs into student_user_with_rulebook",
    ),
    (
        "student_user: |\n  {{ qqq }} {{ text }}",
        "p.yaml:9: student_user uses the unknown variable qqq; it may use task_instruction, text",
    ),
    (
        "student_user: |\n  Text:\n  {text}",
        "p.yaml:10: student_user contains {text}; these are Jinja2 templates, write {{ text }}",
    ),
    ("student_user: ['{{ text }}']", "p.yaml:8: student_user must be a text, not a list"),
    ("student_user: ''", "p.yaml:8: student_user is empty; write it or leave the key out"),
    ("studnt_user: '{{ text }}'", "p.yaml:8: unknown key studnt_user; did you mean student_user?"),
    ("teacher_system: twice", "p.yaml:8: teacher_system occurs twice; keep one of them"),
    (
        "teacher_system_prompt: old",
        "p.yaml:8: teacher_system_prompt and teacher_system are one; keep one of them",
    ),
    ("target: {label_opn: x}", "p.yaml:8: unknown key label_opn; did you mean label_open?"),
    ("target: {label_open: ''}", "p.yaml:8: target.label_open is empty; write a mark"),
    ("target: {label_open: }", "p.yaml:8: target.label_open is empty; write a mark"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_invalid_prompts_file_is_rejected_with_line_and_remedy(
    tmp_path: Path, line: str, message: str
) -> None:
    head = GOOD[: GOOD.index("student_user:")]
    assert refused(tmp_path, head + line + "\n") == message


@pytest.mark.parametrize(
    "template",
    [
        "{{ text | trim }}",
        "{{ text }} {{ text }}",
        "{% if text %}{{ text }}{% endif %}",
        "{% if 'win' in text %}Hm. {% endif %}{{ text }}",
        "{% set t = text %}{{ t }}",
        "{% filter upper %}{{ text }}{% endfilter %}",
        "{% for c in text %}{{ c }}{% endfor %}",
        "{{ text ~ '.' }}",
        "{{ text.strip() }}",
        "{# {{ text }} #}{{ task_instruction[:0] and text }}",
    ],
)
def test_student_template_must_contain_the_unchanged_text_once(tmp_path: Path, template: str) -> None:
    head = GOOD[: GOOD.index("student_user:")]
    message = refused(tmp_path, f'{head}student_user: "{template}"\n')
    assert message.startswith("p.yaml:8: student_user must contain {{ text }} once and as it is:")


def test_invalid_template_or_yaml_is_reported_with_its_line(tmp_path: Path) -> None:
    head = GOOD[: GOOD.index("student_user:")]
    assert refused(tmp_path, head + "student_user: |\n  a\n  {% if %}\n").startswith(
        "p.yaml:10: student_user is not a Jinja2 template: "
    )
    assert refused(tmp_path, "a: 1\nb: [1\n").startswith("p.yaml:3: not YAML: ")
    assert refused(tmp_path, "- a\n").startswith("p.yaml has no keys; ")
    assert refused(tmp_path, "").startswith("p.yaml has no keys; ")
    assert refused(tmp_path, head) == "p.yaml has no student_user; add it (see prompts/default.yaml)"
    assert refused(tmp_path, "student_user: '{{ text }}'").startswith("p.yaml has no task_instruction; ")


def test_templates_cannot_reach_into_python(tmp_path: Path) -> None:
    head = GOOD[: GOOD.index("teacher_hint:")]
    text = head + "teacher_hint: \"{{ gold }}{{ ''.__class__.__mro__ }}\"\nstudent_user: '{{ text }}'\n"
    assert "cannot be rendered: access to attribute '__class__'" in refused(tmp_path, text)


def test_missing_prompts_file_is_reported_with_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PromptError) as e:
        load_prompts(PromptsConfig(file="p.yaml"))
    assert str(e.value) == f"{tmp_path}/p.yaml does not exist; set prompts.file to a prompts file"


def test_predecessors_prompt_keys_are_read(tmp_path: Path) -> None:
    old = (
        "task_instruction: T\n"
        "teacher_system_prompt: S\n"
        "reasoning_user_prompt_template: '{rulebook} {text}'\n"
        "student_reasoning_user_prompt_template_no_rulebook: '{{ text }}'\n"
    )
    assert refused(tmp_path, old) == (
        "p.yaml:3: teacher_user contains {rulebook}; these are Jinja2 templates, write {{ rulebook }}"
    )
    p = load(tmp_path, old.replace("{rulebook} {text}", "{{ rulebook }} {{ text }}"))
    assert p.student_messages("t", "R1", label_only=False)[0].content == "R1 t"
    assert p.teacher_messages("t", "R1")[0].content == "S"


@pytest.mark.parametrize("name", sorted(p.name for p in (REPO / "prompts").glob("*.yaml")))
def test_default_prompts_render_for_every_student(name: str) -> None:
    p = load_prompts(PromptsConfig(file=str(REPO / "prompts" / name)))
    for rulebook in (None, "R1 x"):
        for label_only in (False, True):
            assert p.student_frame(rulebook, label_only=label_only)[-1].role == "user"
    assert "R1 x" in p.teacher_messages("t", "R1 x")[-1].content
