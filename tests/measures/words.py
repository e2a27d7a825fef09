"""Find words that the style guide avoids, in text for people; run by `make lint`.

    python -m tests.measures.words

prints every place and exits with 1 if there is one. Text for people is docstrings, comments and string
literals of the source, Markdown files, and comments of configs and prompts.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
WORDS = (
    "said", "says", "told", "tells", "stands", "stood", "whoever", "anew", "mend", "mends", "mended",
    "beside", "but for", "for want of", "is no", "are no", "goes on", "go on", "went on", "how-manieth",
    "borne", "at home", "lent", "learnt",
)  # fmt: skip
QUOTED: Mapping[str, str] = {
    "core/rejection/rules.py": "phrases in teachers' answers; details of rejections, whose digests count",
    "core/student/conversation.py": "sample texts, whose rendering decides a cache key",
    "core/student/encoding.py": "sample texts, whose rendering decides a cache key",
    "flows/deploy.py": "the name of an automation that servers already have",
}
"""Files with words that are not ours to choose, and why."""
_LISTED = re.compile(r"\b(?:" + "|".join(re.escape(word) for word in WORDS) + r")\b", re.IGNORECASE)
_SOURCE = ("core", "flows", "tasks", "understudy")
_TOKENS = (tokenize.COMMENT, tokenize.STRING)


def find(repo: Path) -> list[str]:
    """Every listed word as `file:line: word`, in the order of files and lines."""
    files = [path for folder in _SOURCE for path in sorted((repo / folder).rglob("*.py"))]
    files += [path for kind in ("*.md", "*.yaml") for path in _pages(repo, kind)]
    return [
        f"{name}:{line}: {match.group()}"
        for path in files
        if (name := path.relative_to(repo).as_posix()) not in QUOTED
        for line, text in _for_people(path)
        for match in _LISTED.finditer(text)
    ]


def _pages(repo: Path, pattern: str) -> Iterator[Path]:
    """Markdown and YAML files, generated and installed ones left out."""
    for path in sorted(repo.rglob(pattern)):
        parts = path.relative_to(repo).parts
        if not (parts[0].startswith(".") or parts[0] in ("tests", "artifacts", "build", "dist")):
            yield path


def _for_people(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type in _TOKENS:
                yield from enumerate(token.string.splitlines(), token.start[0])
        return
    for number, line in enumerate(text.splitlines(), 1):
        if path.suffix == ".md" or line.lstrip().startswith("#"):
            yield number, line


if __name__ == "__main__":
    places = find(REPO)
    print(*places, sep="\n", end="\n" if places else "")
    sys.exit(1 if places else 0)
