"""Replies that are failures, by server: errors with HTTP status 200 and others, and rejected output formats."""

# ruff: noqa: E501
from __future__ import annotations

from typing import Any

from tests.core.teacher.live.dialects.rows import ANSWER, Row, error, reply, usage

_OPENAI = "https://www.developersdigest.tech/errors/api/openai-api"
_OPENAI_QUOTA = "https://github.com/mattvr/ShellGPT/issues/23"
_AZURE = "https://www.developersdigest.tech/errors/api/azure-openai"
_AZURE_INNER = "https://raw.githubusercontent.com/api-evangelist/microsoft-azure/refs/heads/main/json-schema/microsoft-azure-innererrorcode-schema.json"
_DEEPSEEK = "https://api-docs.deepseek.com/quick_start/error_codes"
_FINISH = "https://github.com/genkit-ai/genkit/pull/6259"
_GEMINI = "https://github.com/google-gemini/gemini-cli/issues/4701"
_GEMINI_FIELDS = "https://github.com/gera2ld/ai.nvim/issues/13"
_OPENROUTER = "https://openrouter.ai/docs/api/reference/errors-and-debugging"
_OPENROUTER_429 = "https://github.com/BerriAI/litellm/issues/8448"
_OPENROUTER_RAW = "https://github.com/open-webui/computer/issues/293"
_OPENROUTER_FINISH = "https://github.com/maximhq/bifrost/issues/5425"
_OPENROUTER_404 = "https://github.com/Kilo-Org/kilocode/issues/9006"
_VLLM = "https://github.com/vllm-project/vllm/issues/16321"
_VLLM_500 = "https://github.com/noonghunna/club-3090/issues/45"
_SGLANG_ABORT = "https://github.com/sgl-project/sglang/pull/2956"
_LLAMA_GRAMMAR = "https://github.com/ggml-org/llama.cpp/pull/19349"
_LLAMA_CONTEXT = "https://github.com/ggml-org/llama.cpp/pull/15780"
_LLAMA_200 = "https://github.com/oobabooga/textgen/issues/7257"
_LITELLM = "https://docs.litellm.ai/docs/proxy/error_reference"
_FIREWORKS = "https://docs.fireworks.ai/guides/inference-error-codes"
_FIREWORKS_SCHEMA = "https://github.com/earendil-works/pi/issues/5352"
_FIREWORKS_EXTRA = "https://github.com/BerriAI/litellm/issues/7533"
_TOGETHER_FINISH = "https://github.com/togethercomputer/together-python/pull/153"
_TOGETHER_LONG = "https://portkey.ai/error-library/input-validation-error-10151"
_OLLAMA = "https://github.com/continuedev/continue/issues/11464"

PAID = usage(200, 5, 205)


def broken(**choice: Any) -> dict[str, Any]:
    """A reply that broke off in the middle of its answer and was paid for."""
    return reply({"content": ANSWER[:30]}, PAID, **choice)


IN_200 = [
    Row("OpenRouter", "error in the choice", _OPENROUTER, "retry", broken(finish="error", error={"code": 502, "message": "upstream went away"}), tokens=205),
    Row("OpenRouter", "error in the choice and stop", _OPENROUTER, "retry", broken(error={"code": 500, "message": "x"}), tokens=205),
    Row("OpenRouter", "finish reason error", _OPENROUTER_FINISH, "retry", broken(finish="error"), tokens=205),
    Row("OpenRouter", "finish reason error without usage", _OPENROUTER_FINISH, "retry", reply({"content": ANSWER[:9]}, usage(None, None, 0), "error")),
    Row("OpenRouter", "error next to a choice", _OPENROUTER_429, "retry", {**reply({"content": None}, usage(0, 0, 0)), **error("Provider failed", code=429)}),
    Row("OpenRouter", "rate limit of the provider", _OPENROUTER_RAW, "retry", error("Provider failed", code=429, metadata={"raw": "busy", "provider_name": "p"})),
    Row("OpenRouter", "wrong key", _OPENROUTER, "stop", error("No such user", code=401)),
    Row("OpenRouter", "no credits", _OPENROUTER, "stop", error("Add credits", code=402)),
    Row("OpenRouter", "no credits, in the choice", _OPENROUTER, "stop", broken(finish="error", error={"code": 402, "message": "Add credits"}), tokens=205),
    Row("OpenRouter", "code as a text", _OPENROUTER, "stop", error("No such user", code="401")),
    Row("OpenRouter", "moderated", _OPENROUTER, "skip", error("Input was flagged", code=403, metadata={"reasons": ["violence"], "flagged_input": "..."})),
    Row("OpenRouter", "timed out", _OPENROUTER, "retry", error("Too late", code=408)),
    Row("LiteLLM", "rate limit", _LITELLM, "retry", error("litellm.RateLimitError: slow", type="throttling_error", param=None, code="429")),
    Row("LiteLLM", "budget of the proxy", _LITELLM, "stop", error("Budget spent", type="budget_exceeded", param=None, code="400")),
    Row("LiteLLM", "key without access to the model", _LITELLM, "stop", error("No", type="key_model_access_denied", param="model", code="401")),
    Row("LiteLLM", "wrong key", _LITELLM, "stop", error("No", type="auth_error", param="None", code="401")),
    Row("OpenAI", "quota by its type alone", _OPENAI_QUOTA, "stop", error("Please check your plan", type="insufficient_quota", param=None, code=None)),
    Row("OpenAI", "key by its code alone", _OPENAI, "stop", error("Nein", type="invalid_request_error", param=None, code="invalid_api_key")),
    Row("OpenAI", "rate limit by its type alone", _OPENAI, "retry", error("Nein", type="rate_limit_error")),
    Row("OpenAI", "overload by its code alone", _OPENAI, "retry", error("Nein", code="server_is_overloaded")),
    Row("OpenAI", "unknown finish reason", _FINISH, "retry", reply(usage=PAID, finish="tired"), tokens=205),
    Row("llama.cpp", "context size", _LLAMA_200, "skip", error("too long", code=400, type="exceed_context_size_error", n_prompt_tokens=9000, n_ctx=8192)),
    Row("vLLM", "bare error object", _VLLM, "retry", {"object": "error", "message": "engine died", "type": "InternalServerError", "param": None, "code": 500}),
    Row("SGLang", "abort", _SGLANG_ABORT, "retry", reply({"content": ""}, usage(200, 1, 201), "abort"), tokens=201),
    Row("Gemini", "list with a wrong key", _GEMINI, "stop", [error("Nein", code=400, status="INVALID_ARGUMENT", details=[{"@type": "ErrorInfo", "reason": "API_KEY_INVALID"}])]),
    Row("Gemini", "list with a rate limit", "https://github.com/google-gemini/gemini-cli/issues/14831", "retry", [error("Please check your plan", code=429, status="RESOURCE_EXHAUSTED", details=[{"@type": "RetryInfo", "retryDelay": "0.01s"}])]),
    Row("DeepSeek", "no resources", _FINISH, "retry", broken(finish="insufficient_system_resource"), tokens=205),
    Row("Together", "finish reason error", _TOGETHER_FINISH, "retry", broken(finish="error"), tokens=205),
    Row("Fireworks", "no payment", _FIREWORKS, "stop", error("Nein", code=402, type="payment_required")),
    Row("Ollama", "error as a text", _OLLAMA, "retry", {"error": "the model runner has stopped"}),
    Row("Azure OpenAI", "prompt filtered", _AZURE, "skip", error("filtered", code="content_filter", status=400, param="prompt")),
]  # fmt: skip

BY_STATUS = [
    Row("OpenAI", "401", _OPENAI, "stop", error(code="invalid_api_key", type="invalid_request_error"), 401),
    Row("OpenAI", "429 of the quota", _OPENAI_QUOTA, "stop", error(code="insufficient_quota", type="insufficient_quota"), 429),
    Row("OpenAI", "429 of the credits", _OPENAI, "stop", error(code="credit_balance_exhausted", type="insufficient_quota"), 429),
    Row("OpenAI", "429 of the rate", _OPENAI, "retry", error(code="rate_limit_exceeded", type="requests"), 429),
    Row("OpenAI", "503", _OPENAI, "retry", error(type="service_unavailable_error"), 503),
    Row("Azure OpenAI", "400 of the filter", _AZURE_INNER, "skip", error(code="content_filter", status=400, innererror={"code": "ResponsibleAIPolicyViolation"}), 400),
    Row("Azure OpenAI", "429", _AZURE, "retry", error(code="429"), 429),
    Row("DeepSeek", "402", _DEEPSEEK, "stop", error(type="unknown_error", code="invalid_request_error"), 402),
    Row("DeepSeek", "500", _DEEPSEEK, "retry", error(), 500),
    Row("DeepSeek", "503", _DEEPSEEK, "retry", error(), 503),
    Row("Gemini", "429 worded as a quota", "https://github.com/RooCodeInc/Roo-Code/issues/3883", "retry", [error("You exceeded your current quota, check your plan and billing", code=429, status="RESOURCE_EXHAUSTED")], 429),
    Row("OpenRouter", "402", _OPENROUTER, "stop", error(code=402), 402),
    Row("OpenRouter", "503", _OPENROUTER, "retry", error(code=503), 503),
    Row("llama.cpp", "400 of the context", _LLAMA_CONTEXT, "skip", error(code=400, type="exceed_context_size_error"), 400),
    Row("LiteLLM", "400 of the budget", _LITELLM, "stop", error(type="budget_exceeded", param=None, code="400"), 400),
    Row("LiteLLM", "429", _LITELLM, "retry", error(type="throttling_error", param=None, code="429"), 429),
    Row("Fireworks", "412 of a suspended account", _FIREWORKS, "stop", error(), 412),
    Row("Fireworks", "408", _FIREWORKS, "retry", error(), 408),
    Row("Together", "400 of the length", _TOGETHER_LONG, "skip", error("the sum must be at most 4097", type="invalid_request_error", code=None), 400, times=3),
]  # fmt: skip

FORMATS = [
    Row("OpenAI", "400 naming the parameter", _OPENAI, "fall back", error("Invalid parameter", type="invalid_request_error", param="response_format"), 400),
    Row("DeepSeek", "422", _DEEPSEEK, "fall back", error("unavailable now", type="invalid_request_error"), 422),
    Row("Gemini", "400 without the name", _GEMINI, "fall back", [error("An argument is invalid", code=400, status="INVALID_ARGUMENT")], 400),
    Row("Gemini", "400 unknown field", _GEMINI_FIELDS, "fall back", error("Cannot find field", code=400, status="INVALID_ARGUMENT", details=[{"@type": "BadRequest", "fieldViolations": []}]), 400, rejects=("json_schema", "json_object")),
    Row("OpenRouter", "404 of the router", _OPENROUTER_404, "fall back", error("No endpoint can do this", code=404), 404),
    Row("llama.cpp", "400 of the grammar", _LLAMA_GRAMMAR, "fall back", error("failed to build the grammar", code=400, type="invalid_request_error"), 400),
    Row("vLLM", "500 of the grammar", _VLLM_500, "fall back", {"object": "error", "message": "grammar", "type": "InternalServerError", "code": 500}, 500, rejects=("json_schema", "json_object")),
    Row("vLLM", "400 of the grammar", _VLLM, "fall back", {"object": "error", "message": "a feature is missing", "type": "BadRequestError", "param": None, "code": 400}, 400),
    Row("SGLang", "400 of an aborted request", _SGLANG_ABORT, "fall back", {"object": "error", "message": "aborted", "type": "BadRequestError", "code": 400}, 400),
    Row("ferrox", "501 of a server without schemas", "https://github.com/antonellof/ferrox/pull/38", "fall back", error("not built in"), 501),
    Row("Ollama", "500 of the runner with a schema", "https://github.com/ollama/ollama/issues/8296", "fall back", error("stopped", type="api_error"), 500),
    Row("Fireworks", "400 of the schema", _FIREWORKS_SCHEMA, "fall back", {"type": "error", **error("cannot read the schema", type="invalid_request_error")}, 400),
    Row("Fireworks", "422 of an extra field", _FIREWORKS_EXTRA, "fall back", error("an extra field", object="error", type="invalid_request_error"), 422),
    Row("LiteLLM", "404 in a 200", _LITELLM, "fall back", error("the deployment cannot do this", type=None, param=None, code="404")),
]  # fmt: skip
