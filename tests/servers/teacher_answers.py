"""Which text a request is about, and what the teacher says of it.

A text is looked for in the last user message: first between the frames that are known (given by the
caller, or learned from an earlier find), then by the first lines of all known texts, at last by
trying every known text, which a frame learned then spares the next request. The longest text wins.
What stands in a given frame and is no known text has an id made from it, and an invented answer; a
message in which nothing is found is taken as a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_FRAMES = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model writes, and why it stopped."""

    content: str
    finish_reason: str = "stop"


@dataclass(frozen=True, slots=True)
class Text:
    """A text and its recorded answers, by attempt."""

    id: str
    text: str
    answers: tuple[Answer, ...] = ()

    def answer(self, attempt: int) -> Answer:
        """That of this attempt, the last one repeating; invented where none is recorded."""
        if self.answers:
            return self.answers[min(attempt, len(self.answers) - 1)]
        return Answer(invented(self.text, attempt))


def tokens(text: str) -> int:
    """The server's measure of length: a token for every 4 bytes of UTF-8 begun."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // 4)


def unknown_id(text: str) -> str:
    """The id of a text that the server was not told of."""
    return f"text-{_hash(text).hex()}"


def invented_label(text: str, attempt: int = 0) -> int:
    """The label of an invented answer."""
    return _hash(f"{attempt}\0{text}")[0] & 1


def invented(text: str, attempt: int = 0) -> str:
    """The answer to a text without a recorded one: the same in every process."""
    quoted = " ".join(text.split()[:4])
    case = _hash(f"{attempt}\0{text}").hex()[:6]
    reasoning = f'The words "{quoted}" settle it under the first rule (case {case}) [R1].'
    return json.dumps({"reasoning": reasoning, "label": invented_label(text, attempt)}, ensure_ascii=False)


def write_texts(path: Path, texts: Mapping[str, str], answers: Path | None = None) -> Path:
    """Write the file that the server reads: texts by id, with the recorded answers of `answers`.

    `answers` holds lines of id, sample and raw_output, or reasoning and label, in any order; lines
    of ids that `texts` lacks are left out.
    """
    recorded: dict[str, list[dict[str, Any]]] = {}
    # Not splitlines, which also splits at line breaks that JSON allows inside a text.
    for line in answers.read_text(encoding="utf-8").split("\n") if answers else ():
        if line.strip():
            row = json.loads(line)
            recorded.setdefault(str(row["id"]), []).append(row)
    with path.open("w", encoding="utf-8") as file:
        for id, text in texts.items():
            rows = sorted(recorded.get(id, []), key=lambda r: r.get("sample") or 0)
            file.write(json.dumps({"id": id, "text": text, "answers": rows}) + "\n")
    return path


def read_texts(path: Path) -> list[Text]:
    """Read lines of {id, text, answers}; an answer is text, or an object as in a recorded file."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [Text(r["id"], r["text"], tuple(_answer(a) for a in r.get("answers", ()))) for r in rows]


def _answer(recorded: str | dict[str, Any]) -> Answer:
    if isinstance(recorded, str):
        return Answer(recorded)
    content = recorded.get("raw_output")
    if content is None:
        fields = {"reasoning": recorded["reasoning"], "label": recorded["label"]}
        content = json.dumps(fields, ensure_ascii=False)
    return Answer(content, recorded.get("finish_reason") or "stop")


class Library:
    """All known texts, and the frames in which they are put to the teacher."""

    def __init__(self, texts: Iterable[Text] = (), frames: Sequence[tuple[str, str]] = ()) -> None:
        self._given = tuple(frames)
        self._learned: list[tuple[str, str]] = []
        self._by_text = {t.text: t for t in texts}
        self._by_line: dict[str, list[str]] = {}
        for text in self._by_text:
            self._by_line.setdefault(text.partition("\n")[0], []).append(text)

    def find(self, message: str) -> Text:
        """The text that the message is about."""
        slots = [s for f in (*self._given, *self._learned) if (s := _slot(message, f)) is not None]
        known = [s for s in slots if s in self._by_text]
        if known:
            return self._by_text[max(known, key=len)]
        if slots and self._given:
            return Text(unknown_id(slots[0]), slots[0])
        found = self._by_lines(message) or self._by_trying(message)
        if found is None:
            return Text(unknown_id(message), message)
        self._learn(message, found)
        return self._by_text[found]

    def _by_lines(self, message: str) -> str | None:
        """The longest known text that begins at the start of a line."""
        best, at = None, 0
        for line in message.split("\n"):
            for text in self._by_line.get(line, ()):
                if len(text) > len(best or "") and message.startswith(text, at):
                    best = text
            at += len(line) + 1
        return best

    def _by_trying(self, message: str) -> str | None:
        return max((t for t in self._by_text if t and t in message), key=len, default=None)

    def _learn(self, message: str, text: str) -> None:
        before, _, after = message.partition(text)
        if len(self._learned) < MOST_FRAMES:
            self._learned.append((before, after))


def _slot(message: str, frame: tuple[str, str]) -> str | None:
    """What stands between the frame's two ends; something may follow, such as a hint."""
    before, after = frame
    if not message.startswith(before):
        return None
    end = message.rfind(after, len(before)) if after else len(message)
    return message[len(before) : end] if end >= 0 else None


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
