"""What an attempt at a text asks, how its reply is read, and what the journal has of it.

A stored reply answers a request that differs from its own in the token limit or the output format only, with
two exceptions: an answer that the token limit cut off does not answer under a higher limit, and an answer
without a label that was asked in another format does not answer where another format is settled.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cached_property

from core import jsonio
from core.completions.budget import rough_tokens
from core.completions.client import FORMATS
from core.completions.journal import Journal
from core.completions.reply import Reply, Setup, ending
from core.completions.request import TeacherRequest, normalised
from core.config.teacher import TeacherConfig
from core.errors import StoreError
from core.prompts import TEXT_SLOT, Prompts
from core.records import Example, TeacherAnswer
from core.teacher.base import Attempt, AttemptPolicy
from core.teacher.parsing import LabelNames, Parsed, parse_reply

PLAIN = "plain"


class Questions:
    """Texts put into words: prompts, policy and the output format that the endpoint understands."""

    def __init__(self, config: TeacherConfig, prompts: Prompts, rulebook: str, names: LabelNames) -> None:
        self.config, self.prompts, self.rulebook, self.names = config, prompts, rulebook, names
        self.policy = AttemptPolicy(config.attempts, config.keep, config.temperature, config.hint)
        self.output_format = PLAIN

    def take_format(self, journal: Journal) -> bool:
        """Take the output format that was settled; False where none was. Raises StoreError for another."""
        settled = journal.settled_format(self.config.base_url, self.config.model)
        if settled is not None and settled not in FORMATS:
            raise StoreError(
                f"{journal.format_file(self.config.base_url, self.config.model)} names an output format "
                f"{settled!r:.40} that is none of {', '.join(FORMATS)}; remove it and run again"
            )
        self.output_format = settled or next(iter(FORMATS))
        return settled is not None

    def request(self, example: Example, attempt: Attempt) -> TeacherRequest:
        """What an attempt at a text asks, in the settled format."""
        gold = example.label if attempt.hinted else None
        return TeacherRequest(
            endpoint=self.config.base_url,
            model=self.config.model,
            messages=self.prompts.teacher_messages(example.text, self.rulebook, gold=gold),
            attempt=attempt.number,
            temperature=attempt.temperature,
            max_tokens=self.config.max_tokens,
            output_format=self.output_format,
            extra=self.config.extra_body,
        )

    def first_request(self, example: Example) -> TeacherRequest:
        """What the first attempt at a text asks."""
        attempt = self.policy.next(example.label, ())
        assert attempt is not None, "a policy asks at least once"
        return self.request(example, attempt)

    @property
    def setup(self) -> Setup:
        """What all requests have in common, in the settled format."""
        return Setup(self.prompt_digest, self.config.max_tokens, self.output_format)

    @cached_property
    def prompt_digest(self) -> str:
        """16 hex digits over endpoint, model, extra fields and the prompt around the text."""
        messages = self.prompts.teacher_messages(TEXT_SLOT, self.rulebook)
        config = self.config
        frame = [[m.role, m.content] for m in messages]
        return jsonio.digest([normalised(config.base_url), config.model, frame, config.extra_body])[:16]

    def stored(self, request: TeacherRequest, journal: Journal) -> Reply | None:
        """The journal's answer to a request: its own, or the earliest under another limit or format."""
        own = journal.get(request.key)
        if own is not None and not self._is_truncated(own):
            return own
        found = [] if own is None else [(True, own.at, own.key, own)]
        for limit, output_format in journal.variants():
            if (limit, output_format) == (request.max_tokens, request.output_format):
                continue
            other = dataclasses.replace(request, max_tokens=limit, output_format=output_format)
            reply = journal.get(other.key)
            if reply is not None and self._answers(reply, request, limit):
                found.append((self._is_truncated(reply), reply.at, reply.key, reply))
        return min(found, key=lambda entry: entry[:3])[-1] if found else None

    def _answers(self, reply: Reply, request: TeacherRequest, limit: int) -> bool:
        """Whether a reply under another token limit or format will do for a request."""
        if self._is_truncated(reply) and limit < request.max_tokens:
            return False
        alike = request.output_format in (reply.output_format, reply.settled_format)
        return alike or self.parsed(reply).ok

    def _is_truncated(self, reply: Reply) -> bool:
        how = ending(reply.finish_reason)
        return how == "truncated" or (
            how in ("unstated", "unknown") and self.parsed(reply).error == "truncated"
        )

    def rough(self, example: Example) -> float:
        """Tokens of a first attempt's prompt, by its bytes."""
        return rough_tokens(self.prompts.teacher_messages(example.text, self.rulebook))

    def given(self, example: Example, journal: Journal) -> list[TeacherAnswer]:
        """What the journal has of a text, as far as the policy asks."""
        return [answer for _, answer in self.found(example, journal)]

    def found(self, example: Example, journal: Journal) -> Iterator[tuple[Reply, TeacherAnswer]]:
        """As `given`, with the stored replies."""
        answers: list[TeacherAnswer] = []
        while (attempt := self.policy.next(example.label, answers)) is not None:
            reply = self.stored(self.request(example, attempt), journal)
            if reply is None:
                return
            answers.append(self.read(example, attempt, reply))
            yield reply, answers[-1]

    def parsed(self, reply: Reply) -> Parsed:
        """What a reply says."""
        return parse_reply(
            reply.raw_output, reply.reasoning_content, reply.finish_reason, self.config.parse, self.names
        )

    def read(self, example: Example, attempt: Attempt, reply: Reply) -> TeacherAnswer:
        """A reply as an answer to the text."""
        parsed = self.parsed(reply)
        return TeacherAnswer(
            example_id=example.id,
            sample=attempt.number,
            model=reply.model,
            raw_output=reply.raw_output,
            parse_ok=parsed.ok,
            parse_source=parsed.source,
            label=parsed.label,
            reasoning=parsed.reasoning,
            error=parsed.error,
            finish_reason=reply.finish_reason,
            temperature=reply.temperature,
            hinted=attempt.hinted,
            reasoning_content=reply.reasoning_content,
            prompt_tokens=reply.prompt_tokens,
            cached_tokens=reply.cached_tokens,
            completion_tokens=reply.completion_tokens,
            latency_s=reply.latency_s,
        )
