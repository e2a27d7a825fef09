"""What an attempt at a text asks, how its reply is read, and what the journal has of it."""

from __future__ import annotations

from core.config.teacher import TeacherConfig
from core.errors import StoreError
from core.prompts import Prompts
from core.records import Example, TeacherAnswer
from core.teacher.base import Attempt, AttemptPolicy
from core.teacher.journal import Journal
from core.teacher.labels import LabelNames
from core.teacher.live.client import FORMATS
from core.teacher.live.tokens import rough_tokens
from core.teacher.parsing import parse_reply
from core.teacher.reply import Reply
from core.teacher.request import TeacherRequest

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

    def rough(self, example: Example) -> float:
        """Tokens of a first attempt's prompt, by its bytes."""
        return rough_tokens(self.prompts.teacher_messages(example.text, self.rulebook))

    def given(self, example: Example, journal: Journal) -> list[TeacherAnswer]:
        """What the journal has of a text, as far as the policy asks."""
        answers: list[TeacherAnswer] = []
        while (attempt := self.policy.next(example.label, answers)) is not None:
            reply = journal.get(self.request(example, attempt).key)
            if reply is None:
                break
            answers.append(self.read(example, attempt, reply))
        return answers

    def read(self, example: Example, attempt: Attempt, reply: Reply) -> TeacherAnswer:
        """A reply as an answer to the text."""
        parsed = parse_reply(
            reply.raw_output, reply.reasoning_content, reply.finish_reason, self.config.parse, self.names
        )
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
