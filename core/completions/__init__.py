"""One path for all requests to chat-completion endpoints: journal, budget, rate control, retries, prices.

`complete` sends requests and yields completions. The teacher is one user of it; see its docstring.
"""

from core.completions.chat import (
    ChatRequest,
    Completion,
    Parser,
    Problem,
    ResponseSchema,
    Text,
    TextParser,
)
from core.completions.completer import complete, complete_each
from core.completions.journal import Journal
from core.completions.limits import RequestLedger
from core.completions.request_context import RequestContext
from core.config import Endpoint

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
