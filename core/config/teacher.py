"""`rules:`, `prompts:` and `teacher:`: what the teacher is shown and where its answers come from.

An endpoint is a server that completes chat requests: its address, model, limits, budget and prices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from core.config.section import CONTENT, LOCAL, ConfigSection, NotInKey

SPEED = NotInKey("speed does not affect the output")
MONEY = NotInKey("money does not affect the output")
TokenLimitName = Literal["max_tokens", "max_completion_tokens"]
"""How an endpoint names the token limit of a request."""


class RulesConfig(ConfigSection):
    """The policy: a folder of rule files."""

    dir: Annotated[str, CONTENT, LOCAL] = "rules"
    """The folder; its files, sorted by name, are the rulebook."""
    glob: str = "*.txt"
    """Which files of the folder are rules."""


class PromptsConfig(ConfigSection):
    """The wording of every prompt."""

    file: Annotated[str, CONTENT, LOCAL] = "prompts/default.yaml"
    """A YAML file of Jinja2 templates (see prompts/default.yaml)."""
    task_instruction: str | None = None
    """Replaces the file's task_instruction."""


class ParseConfig(ConfigSection):
    """How an output that is neither JSON nor tagged is read."""

    label_pattern: str | None = None
    """A regular expression whose group `label` (or first group, or whole match) is the label."""
    label_match: Literal["first", "last"] = "first"
    """Which match of `label_pattern` counts."""
    labels: dict[str, Literal[0, 1]] = {}
    """More names of the labels, in any case, several for one label. 0, 1, data.positive, data.negative, and
    then true, false, yes, no, positive and negative are known too; the earlier of two names counts."""
    stop: tuple[str, ...] = ()
    """The output is truncated before the first of these."""
    prefer: Literal["raw_output", "fields"] = "raw_output"
    """Which one is read if a recorded answer has both: its raw_output, or its fields reasoning and label."""

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("an empty stop string would empty every output")
        return value

    @field_validator("label_pattern")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as e:
                raise ValueError(f"not a regular expression: {e}") from e
        return value


class BreakerConfig(ConfigSection):
    """When a failing endpoint is given up. A 429 is not a failure."""

    failures: Annotated[int, SPEED] = Field(20, ge=1)
    """This many consecutive requests without an answer ..."""
    patience_s: Annotated[float, SPEED] = Field(120.0, ge=0)
    """... over at least this many seconds: many fail together in one hiccup."""
    window: Annotated[int, SPEED] = Field(200, ge=1)
    """Or: of this many last requests ..."""
    rate: Annotated[float, SPEED] = Field(0.5, gt=0, le=1)
    """... this share failed, for as many seconds."""


class LimitsConfig(ConfigSection):
    """Rate limits, timeouts and retries of an endpoint."""

    concurrency: Annotated[int, SPEED] = Field(256, ge=1)
    """Maximum number of requests in flight; fewer while the endpoint refuses or slows down."""
    requests_per_minute: Annotated[float | None, SPEED] = Field(None, gt=0)
    """Maximum number of requests in any minute; by default what the endpoint accepts."""
    tokens_per_minute: Annotated[float | None, SPEED] = Field(None, gt=0)
    """Maximum number of tokens a minute, prompts and answers; by default what the endpoint accepts."""
    connect_timeout_s: Annotated[float, SPEED] = Field(10.0, gt=0)
    """Seconds to connect."""
    read_timeout_s: Annotated[float, SPEED] = Field(300.0, gt=0)
    """Maximum seconds without a byte of the answer."""
    total_timeout_s: Annotated[float, SPEED] = Field(900.0, gt=0)
    """Maximum seconds for one request."""
    tries: Annotated[int, SPEED] = Field(8, ge=1)
    """How often one request is sent if the failure may pass: 8 tries outlast an outage of a minute."""
    breaker: BreakerConfig = BreakerConfig()
    """When the endpoint is given up."""


class BudgetConfig(ConfigSection):
    """What a run may spend at an endpoint, including earlier starts of the same run."""

    usd: Annotated[float | None, MONEY] = Field(None, gt=0)
    """US dollars, by the table in `prices`; by default any sum."""
    tokens: Annotated[int | None, MONEY] = Field(None, ge=1)
    """Tokens, prompts and answers together; by default any number."""


class Endpoint(ConfigSection):
    """Where chat requests are sent and what bounds them; see core.completions.

    The fields are those of `teacher:`, and `section` is the config section that error messages name.
    """

    model: str = Field(min_length=1)
    base_url: str
    max_tokens: int = Field(4096, ge=1)
    api_key_env: str | None = None
    token_limit: TokenLimitName = "max_tokens"
    extra_body: dict[str, Any] = {}
    limits: LimitsConfig = LimitsConfig()
    budget: BudgetConfig = BudgetConfig()
    canary: int | None = Field(50, ge=1)
    prices: str | None = None
    section: str = "teacher"


PRESETS: Mapping[str, Mapping[str, str]] = {
    "deepseek": {
        "base_url": "https://api.deepseek.com",
        "model": "deepseek-chat",
        "api_key_env": "DEEPSEEK_API_KEY",
        "token_limit": "max_tokens",
    },
    "openai": {
        "base_url": "https://api.openai.com/v1",
        "model": "gpt-4.1-mini",
        "api_key_env": "OPENAI_API_KEY",
        "token_limit": "max_completion_tokens",
    },
}
"""What `teacher.preset` fills in."""

_SENT = {
    "model": "teacher.model",
    "messages": "the prompts file",
    "temperature": "teacher.temperature",
    "max_tokens": "teacher.max_tokens",
    "max_completion_tokens": "teacher.max_tokens, with token_limit: max_completion_tokens",
    "response_format": "the first request, which tries what the endpoint offers",
    "stream": "nothing: whole replies are read",
    "n": "teacher.attempts",
}
"""Fields of every request, and what decides each."""


def _preset_or(name: str, default: str) -> Callable[[dict[str, Any]], Any]:
    """A default factory: what the preset gives for a field, else `default`."""
    return lambda data: PRESETS.get(data.get("preset") or "", {}).get(name, default)


class TeacherConfig(ConfigSection):
    """The source of answers: a file of recorded ones, the gold labels, or a live endpoint."""

    kind: Literal["recorded", "gold", "openai"] = "recorded"
    """recorded: a file of answers; gold: train on the labels without a teacher; openai: any
    OpenAI-compatible endpoint."""
    answers: Annotated[str | None, CONTENT] = None
    """recorded: JSON lines of id, sample (default 0) and raw_output, or reasoning and label; or the folder
    of a run, of this project or its predecessor, whose answers are found by their texts."""
    parse: ParseConfig = ParseConfig()
    """How outputs are read."""
    attempts: int = Field(3, ge=1)
    """Maximum number of answers per text."""
    keep: int = Field(1, ge=1)
    """Stop when this many answers agree with the gold label."""
    max_missing: int | None = Field(None, ge=0)
    """How many texts of a split may have no answer. By default recorded answers may lack any number but not
    all, and a live teacher those that the endpoint rejects, but none that it failed to answer."""
    label_splits: Annotated[tuple[Literal["val", "test"], ...], NotInKey("it decides which stages run")] = ()
    """Splits other than train that the teacher labels, to measure it there: it is asked once per text, at
    temperature 0, and never with the gold label shown."""
    preset: Annotated[
        Literal["deepseek", "openai"] | None, NotInKey("it fills in other fields, and these are in the key")
    ] = None
    """openai: the provider whose base_url, model, api_key_env and token_limit are the defaults."""
    model: str = Field(default_factory=_preset_or("model", "deepseek-chat"), min_length=1)
    """openai: the model's name at the endpoint."""
    base_url: str = Field(default_factory=_preset_or("base_url", "https://api.deepseek.com"))
    """openai: the endpoint."""
    api_key_env: Annotated[str | None, NotInKey("the name of a credential")] = Field(
        default_factory=_preset_or("api_key_env", "DEEPSEEK_API_KEY")
    )
    """openai: the environment variable that contains the API key; null if the endpoint needs none."""
    temperature: float | None = Field(0.7, ge=0, le=2)
    """openai: of every attempt after the first, which is greedy; null sends none, for models that accept
    only their own."""
    max_tokens: int = Field(4096, ge=1)
    """openai: maximum length of an answer in tokens, including reasoning."""
    token_limit: Annotated[TokenLimitName, NotInKey("a spelling does not affect answers")] = Field(
        default_factory=_preset_or("token_limit", "max_tokens")
    )
    """openai: the endpoint's name for that limit."""
    extra_body: dict[str, Any] = {}
    """openai: more fields of each request, such as options of a local server."""
    hint: bool = False
    """openai: if no attempt agreed with the gold label, ask once more with that label shown."""
    limits: Annotated[LimitsConfig, SPEED] = LimitsConfig()
    """openai: rate limits, timeouts and retries."""
    budget: Annotated[BudgetConfig, MONEY] = BudgetConfig()
    """openai: what it may cost."""
    canary: Annotated[int | None, MONEY] = Field(50, ge=1)
    """openai: maximum number of requests before one answer has a label; without one the run stops. null: any
    number."""
    prices: Annotated[str | None, MONEY, LOCAL] = "configs/prices.yaml"
    """openai: a YAML file of prices (see configs/prices.yaml); null counts tokens only."""

    @property
    def endpoint(self) -> Endpoint:
        """The endpoint of a live teacher."""
        shared = Endpoint.model_fields.keys() & type(self).model_fields.keys()
        return Endpoint.model_construct(section="teacher", **{name: getattr(self, name) for name in shared})

    @field_validator("base_url")
    @classmethod
    def _is_an_endpoint(cls, value: str) -> str:
        if problem := wrong_url(value):
            raise ValueError(f"{problem}; give it like http://localhost:8000/v1 or https://api.openai.com/v1")
        return value

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            raise ValueError("give an environment variable's name, never the key itself, or null for none")
        return value

    @field_validator("extra_body")
    @classmethod
    def _adds_only(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if name in _SENT:
                raise ValueError(f"{name} is decided by {_SENT[name]}; remove it")
        try:
            json.dumps(value, allow_nan=False, default=str)
        except ValueError:
            raise ValueError("contains NaN or an infinite number, which JSON cannot represent") from None
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> TeacherConfig:
        if self.kind == "recorded" and self.answers is None:
            raise ValueError("kind recorded needs answers: the file that contains them")
        if self.kind != "recorded" and self.answers is not None:
            raise ValueError(f"answers is given, but kind is {self.kind}; set kind: recorded")
        if self.keep > self.attempts:
            raise ValueError(f"keep ({self.keep}) is larger than attempts ({self.attempts})")
        if self.label_splits and self.kind == "gold":
            raise ValueError(
                "label_splits measures the teacher, but a teacher of kind gold is right by definition; "
                "remove label_splits"
            )
        if len(set(self.label_splits)) < len(self.label_splits):
            raise ValueError(f"label_splits names a split twice ({', '.join(self.label_splits)})")
        return self


def wrong_url(url: str) -> str | None:
    """Return why a URL is not an endpoint's, or None; never quotes the URL, which may contain a password."""
    if any(c.isspace() or not c.isprintable() for c in url):
        return "contains a space or a line break"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as e:
        return f"is not a URL ({e})"
    if parts.scheme.lower() not in ("http", "https") or not host:
        return "must begin with http:// or https:// and name a host"
    if parts.username is not None or parts.password is not None:
        return (
            "contains a user or a password, which would appear in logs; put the key in the variable that "
            "api_key_env names"
        )
    if parts.query or parts.fragment:
        return "contains ? or #, after which no path can follow; extra fields go into extra_body"
    if parts.path.rstrip("/").endswith("/chat/completions"):
        return "ends in /chat/completions, which is added to it"
    return None
