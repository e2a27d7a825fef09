"""The rulebook: a folder of rule files, joined to one text, and the ids in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core import locations
from core.config.teacher import RulesConfig
from core.errors import PromptError
from core.jsonio import digest

_ID = r"[A-Z][A-Za-z]{0,3}-?\d{1,3}(?:\.\d{1,3})*[a-z]?"
_FILE_ID = re.compile(rf"({_ID})(?=[\s_.-]|$)")
# Marks of lists, headings and emphasis may precede an id: "- R1:", "## R1", "**[R1]**".
_LINE_ID = re.compile(rf"[#>*\-\s]*[\[(*]*({_ID})[\])*]*(?=[\s:.)–—-]|$)")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule with the id by which a rationale cites it."""

    id: str
    file: str
    text: str


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The policy as it is shown: `text` with a heading for each file, and the rules that have ids."""

    text: str
    rules: tuple[Rule, ...]
    files: tuple[str, ...]
    digest: str

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids that a rationale may cite, in the order of the text."""
        return tuple(rule.id for rule in self.rules)


def load_rulebook(config: RulesConfig) -> Rulebook:
    """Read the rule files of `config.dir`, in natural order of their names, without the empty ones.

    A file whose name begins with an id (R1_prizes.txt) is that rule; in any other file each line
    that begins with an id (`R1 Prizes: ...`) begins a rule. A file without ids is shown but cannot
    be cited. Raises PromptError for a rulebook without any text, and for an id that occurs twice.
    """
    folder = locations.absolute(config.dir, "rules.dir")
    texts = {path.name: text for path in _files(folder, config.glob) if (text := _read(path))}
    if not texts:
        raise PromptError(
            f"{folder}: every file that matches {config.glob!r} is empty; write the rules into them"
        )
    rules = tuple(rule for name, text in texts.items() for rule in _rules_of(name, text))
    files: dict[str, str] = {}
    for rule in rules:
        if rule.id in files:
            where = " and ".join(dict.fromkeys((files[rule.id], rule.file)))
            raise PromptError(f"{folder}: the rule id {rule.id} occurs twice, in {where}; rename one")
        files[rule.id] = rule.file
    text = "\n\n".join(f"## {name}\n{body}" for name, body in texts.items())
    return Rulebook(text, rules, tuple(texts), digest(text))


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key of a name: the plain order, except that numbers count as numbers.

    >>> sorted(["R10", "R2", "R1"], key=natural_key)
    ['R1', 'R2', 'R10']
    """
    return tuple(
        (ord("0"), int(part), part) if part.isascii() and part.isdigit() else (ord(part), 0, "")
        for part in re.findall(r"[0-9]+|[^0-9]", name, re.DOTALL)
    )


def _files(folder: Path, glob: str) -> list[Path]:
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise PromptError(f"{folder} {what}; set rules.dir to the folder of your rule files")
    if found := [path for path in folder.glob(glob) if path.is_file()]:
        return sorted(found, key=lambda path: natural_key(path.name))
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and any(path.glob(glob)))
    others = sorted(path.name for path in folder.iterdir() if path.is_file())[:3]
    if inside:
        remedy = f"its folders {', '.join(inside)} contain such files: set rules.dir to one of them"
    else:
        there = f"it contains {', '.join(others)}" if others else "it is empty"
        remedy = f"{there}: put rule files there or set rules.glob"
    raise PromptError(f"{folder}: no file matches {glob!r}; {remedy}")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as e:
        raise PromptError(f"{path}: byte {e.start} is not UTF-8; save the file as UTF-8") from e
    except OSError as e:
        raise PromptError(f"{path} cannot be read: {e.strerror}; fix its permissions") from e


def _rules_of(name: str, text: str) -> Iterator[Rule]:
    lines = text.splitlines()
    starts = [(i, m.group(1)) for i, line in enumerate(lines) if (m := _LINE_ID.match(line))]
    own, inside = _FILE_ID.match(name), {rule_id for _, rule_id in starts}
    # A name such as V2_policy.txt over lines R1, R2, ... is a version and not the id of a rule.
    if own and (own.group(1) in inside or len(inside) < 2):
        yield Rule(own.group(1), name, text)
        return
    ends = [*(i for i, _ in starts), len(lines)][1:]
    for (start, rule_id), end in zip(starts, ends, strict=True):
        yield Rule(rule_id, name, "\n".join(lines[start:end]).strip())
