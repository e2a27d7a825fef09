"""One path for all requests to chat-completion endpoints: journal, budget, rate control, retries, prices.

`complete` sends requests and yields completions. The teacher is one user of it; see its docstring.
"""

from core.completions.budget import RequestLedger
from core.completions.completer import complete, complete_each
from core.completions.context import RequestContext
from core.completions.journal import Journal
from core.completions.request import (
    ChatRequest,
    Completion,
    Parser,
    Problem,
    ResponseSchema,
    Text,
    TextParser,
)
from core.config.endpoint import Endpoint

__all__ = [
    "ChatRequest",
    "Completion",
    "Endpoint",
    "Journal",
    "Parser",
    "Problem",
    "RequestContext",
    "RequestLedger",
    "ResponseSchema",
    "Text",
    "TextParser",
    "complete",
    "complete_each",
]
