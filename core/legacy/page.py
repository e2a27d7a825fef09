"""The page for users of the predecessor: its keys, flags and files, and ours. Written by the command

python -m core.legacy.page
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from core.legacy.files import FILES, File
from core.legacy.flags import FLAGS, Flag
from core.legacy.keys import FIXED, KEYS
from core.legacy.settings import Key, Value

PATH = Path("configs/from_earlier_scripts.md")
_HEAD = """\
# Coming from the earlier scripts

For users of the scripts that this project replaces (teacher, student, inference, baseline, summary, and the
shell script over them). Their config, prompts, rules, data and runs are taken as they are; nothing is
written into them.

```
understudy import-config tinker/configs/reasoning_sft.json --output configs/mine.yaml
understudy plan configs/mine.yaml            # what would run and cost, and the exact first prompt
understudy run  configs/mine.yaml            # teacher, student, inference, baselines and report: one command
understudy reinforce configs/mine.yaml       # GRPO from what came of it
understudy predict --help                    # new texts, by the published student
understudy summary --root .                  # their runs and ours in one table; the folder that holds runs/
```

To learn from answers that an earlier run paid for, without asking a teacher again:

```
understudy import-config tinker/configs/reasoning_sft.json --answers tinker/runs/OLD_RUN
```

Answers are found by their texts. Where a run has its answers from another one and holds accepted ones alone,
these are taken. The label is read from what the teacher wrote; `--set teacher.parse.prefer=fields` takes the
one that was recorded.

What is otherwise, whatever the config says:

- A setting that is misspelt, missing, of the wrong type or out of range stops the run before anything is
  done. A row that cannot be read stops it too, unless `data.max_bad_rows` allows for it.
- Every answer is kept when it comes. A run that ends goes on where it was, by the same command; answers and
  stages are reused by any run under the same root, and no other run's result is taken unless it is named.
- The first attempt is at temperature 0, in either version's config.
- The student is trained on the end of its answer too; P(label) is read after the reasoning that it wrote
  itself. Its prompt is the one it was trained with, wherever it is asked.
- The loss of an example is a mean over its tokens, so that long answers weigh no more than short ones.
- Test is read once, with checkpoint, calibration and threshold frozen on val; every metric has an interval.
- Metrics are null where they are undefined, never NaN.
"""


def render() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *_keys(), *_fixed(), *_flags(), *_files(), ""])


def _keys() -> Iterator[str]:
    yield f"## The {len(KEYS)} keys of its config"
    yield ""
    yield "Defaults are those of its first version and, where it had others, of the later one (→)."
    yield ""
    yield from _table(("key", "default", "here", "what to know"), map(_key, KEYS.values()))


def _key(key: Key) -> Sequence[str]:
    here = ", ".join(f"`{field}`" for field in key.fields) or "–"
    return f"`{key.name}`", _default(key), here, _plain(key.why)


def _default(key: Key) -> str:
    if key.later:
        return f"(no such key) → {_value(key.new)}"
    return _value(key.old) + (f" → {_value(key.new)}" if key.new != key.old else "")


def _value(value: Value) -> str:
    shown = value if isinstance(value, str) else json.dumps(value)
    return f"`{shown}`" if shown else ""


def _fixed() -> Iterator[str]:
    yield ""
    yield "What it did without a key for it, `import-config` writes out:"
    yield ""
    rows = ((f"`{field}`", _value(value), why) for field, (value, why) in FIXED.items())
    yield from _table(("here", "value", "why"), rows)


def _flags() -> Iterator[str]:
    yield ""
    yield f"## The {len(FLAGS)} flags of its scripts"
    yield ""
    yield "Flags that set a key are `--set` with our name. Those with no- before them are not listed apart."
    yield ""
    yield from _table(("flag", "of", "here"), map(_flag, FLAGS.values()))


def _flag(flag: Flag) -> Sequence[str]:
    if not flag.key:
        return f"`{flag.name}`", flag.scripts, _plain(flag.here)
    fields = KEYS[flag.key].fields
    here = ", ".join(f"`--set {field}=…`" for field in fields) if fields else f"as the key `{flag.key}`"
    return f"`{flag.name}`", flag.scripts, here


def _files() -> Iterator[str]:
    yield ""
    yield "## Its files"
    yield ""
    yield from _table(("file", "here", "what to know"), map(_file, FILES.values()))


def _file(file: File) -> Sequence[str]:
    here = file.here if file.here in ("the same", "") else f"`{file.here}`"
    return f"`{file.name}`", here or "–", _plain(file.said)


def _plain(text: str) -> str:
    """Words in which <run> is no tag."""
    return text.replace("<", "&lt;")


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"| {' | '.join('---' for _ in columns)} |"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |"


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
