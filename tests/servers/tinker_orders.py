"""What the Tinker server can be told: the words of its start and of its control endpoint."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Refusal = Literal[
    "unauthorized",  # 401
    "no_balance",  # 402, at which the SDK pauses and asks again every 5 s
    "forbidden",  # 403
    "rate_limited",  # 429, with Retry-After where told
    "server_error",  # 500
    "unavailable",  # 503
]
"""Answered by a status other than 200; nothing is taken in."""

Delivery = Literal[
    "drop",  # closed before the request is taken in
    "drop_taken",  # closed after it was taken in: it will be done, and the client does not know
    "slow",  # taken in at once, answered after `seconds`
    "hang",  # nothing for `seconds`, then closed; not taken in
]
"""What happens to the connection."""

Failure = Literal[
    "user_error",  # the request fails, category user
    "server_failure",  # the request fails, category server
    "missing_row",  # a sample's prompt_logprobs and target_prompt_logprobs lack their last row
    "expired_session",  # all sessions end before the request is looked at
]
"""What becomes of a request that was taken in; one that fails poisons its training model."""

Damage = Literal[
    "member_outside",  # a name with .. in it
    "member_absolute",  # a name that begins with /
    "member_link",  # a symbolic link out of the folder, and in external weights a redirect
    "member_oversize",  # a file of `bytes`, all zero
]
"""What is wrong with a download."""

FaultKind = Refusal | Delivery | Failure | Damage
QueueState = Literal["active", "paused_capacity", "paused_rate_limit"]
CheckpointKind = Literal["weights", "sampler_weights", "external_weights"]


class Told(BaseModel):
    """Frozen, and a misspelt name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fault(Told):
    """One way to fail, and which requests it hits."""

    kind: FaultKind
    on: str | None = None
    """The last part of the path it hits, such as forward_backward, asample, retrieve_future; None: any
    that can fail in this way."""
    after: int = 0
    """So many requests that it would hit pass first."""
    first: int | None = None
    """Then it hits so many and ends; None: all."""
    prompts: frozenset[str] | None = None
    """Hits only samples of these prompts; see tinker_records.prompt_hash."""
    seconds: float = 1.0
    """How long slow and hang take."""
    retry_after: str | None = None
    """The Retry-After header of a refusal, as it is sent."""
    bytes: int = 1 << 20
    """How large the file of member_oversize is."""


class Orders(Told):
    """How the server behaves now. Of `faults`, the first that hits a request counts."""

    cycle_s: float = 0.0
    """Length of a clock cycle of training, see tinker_clock; 0: requests are done as they come."""
    queue_state: QueueState = "active"
    """While paused, nothing is computed, and who asks for a result is told so."""
    queue_reason: str | None = None
    poll_s: float = 20.0
    """How long a question for a result is held before the answer is to try again."""
    try_again: Literal["status", "body"] = "status"
    """Try again is said by status 408, or by 200 and a body, as the SDK knows both."""
    target_logprobs: bool = True
    """Off: target_prompt_logprobs is passed over, as by servers that are older than it."""
    duplicate_names: bool = False
    """On: a second checkpoint of a name replaces the first."""
    api_key: str | None = None
    """The only key let in; None: any."""
    client_config: dict[str, bool | int | str] = {}
    """Feature flags that the SDK asks for when a client is made."""
    faults: tuple[Fault, ...] = ()


class Settings(Told):
    """What a server is started with."""

    model: str
    """Folder of the base model."""
    folder: str
    """Where checkpoints and records lie; they are there again after a restart."""
    names: tuple[str, ...] = ("tiny/base",)
    """Names the model is served under."""
    port: int = 0
    lora_alpha: float = 32.0
    """The scale of every adapter, which the protocol does not carry."""
    logprobs: Literal["all", "weighted"] = "all"
    """weighted: forward passes give 0 where a target's weight is 0, which spares most of the work where
    prompts are long and the vocabulary is large."""
    orders: Orders = Orders()
    """How it behaves at first, after a restart too."""
