"""Replies with HTTP status 200 that contain an answer, by server: usage, finish reasons, reasoning fields."""

from __future__ import annotations

import json

from tests.core.teacher.live.dialects.rows import ANSWER, Row, reply, usage

_XAI = "https://github.com/vercel/ai/pull/12425"
_XAI_DOCS = (
    "https://docs.cloud.google.com/vertex-ai/generative-ai/docs/partner-models/grok/capabilities/reasoning"
)
_XAI_BILL = "https://github.com/Wei-Shaw/sub2api/issues/5771"
_GEMINI = "https://github.com/Portkey-AI/gateway/pull/1458"
_GEMINI_THOUGHTS = "https://github.com/router-for-me/CLIProxyAPI/pull/5743"
_FINISH = "https://github.com/genkit-ai/genkit/pull/6259"
_TOGETHER = "https://github.com/togethercomputer/together-python/blob/main/src/together/types/common.py"
_VLLM_FIELD = "https://docs.vllm.ai/en/v0.11.2/features/reasoning_outputs/"
_VLLM_NULL = "https://github.com/vllm-project/vllm/issues/17349"
_VLLM_SCHEMA = "https://github.com/vllm-project/vllm/issues/48863"
_SGLANG_FIELD = "https://github.com/sgl-project/sglang/issues/3428"
_SGLANG_NULL = "https://github.com/sgl-project/sglang/issues/4550"
_OLLAMA = "https://github.com/ollama/ollama/issues/15288"
_OLLAMA_JSON = "https://github.com/zammad/zammad/issues/5984"
_OLLAMA_REASONS = "https://reference.langchain.com/python/langchain-ollama/chat_models"
_DEEPSEEK = "https://share.apidog.com/apidoc/docs-site/747793/reasoning-model-deepseek-reasoner-835841m0"
_OPENROUTER = (
    "https://api.koog.ai/prompt/prompt-executor/prompt-executor-clients/prompt-executor-openrouter-client/"
)
_OPENROUTER_STOP = "https://github.com/zeitlings/ayai-gpt-nexus/issues/2"
_AZURE = "https://www.developersdigest.tech/errors/api/azure-openai/200-finish-reason-content-filter"
_LENGTH = "https://github.com/openai/openai-python/pull/1701"
_XAI_LENGTH = "https://github.com/evalstate/fast-agent/pull/276"
_OPENAI_USAGE = "https://docs.rs/crate/openai_dive/1.2.2/source/src/v1/resources/shared.rs"

THOUGHT = "The second rule does not apply. So: "
DETAILS = "completion_tokens_details"

ROWS = [
    Row(
        "OpenAI",
        "completion includes reasoning",
        _OPENAI_USAGE,
        "answer",
        reply(usage=usage(200, 2040, 2240, **{DETAILS: {"reasoning_tokens": 2000}})),
        tokens=2240,
    ),
    Row(
        "OpenAI",
        "cached prompt",
        _OPENAI_USAGE,
        "answer",
        reply(usage=usage(200, 40, 240, prompt_tokens_details={"cached_tokens": 128})),
        tokens=240,
    ),
    Row(
        "OpenAI",
        "token limit",
        _LENGTH,
        "truncated",
        reply({"content": ANSWER[:30]}, usage(9, 4, 13), "length"),
        tokens=13,
    ),
    Row(
        "OpenAI",
        "refusal",
        _FINISH,
        "filtered",
        reply({"content": None, "refusal": "I will not."}, usage(9, 4, 13)),
        tokens=13,
    ),
    Row(
        "Together",
        "tool call",
        _TOGETHER,
        "answer",
        reply(
            {
                "content": None,
                "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": ANSWER}}],
            },
            usage(9, 4, 13),
            "tool_calls",
        ),
        tokens=13,
    ),
    Row(
        "Azure OpenAI",
        "output filtered",
        _AZURE,
        "filtered",
        reply({}, usage(9, 4, 13), "content_filter"),
        tokens=13,
    ),
    Row(
        "Azure OpenAI",
        "part of an output filtered",
        _AZURE,
        "filtered",
        reply(
            {"content": ANSWER},
            usage(9, 4, 13),
            "content_filter",
            content_filter_results={"hate": {"filtered": True}},
        ),
        tokens=13,
    ),
    Row(
        "DeepSeek",
        "cache hits",
        "https://docs.rs/crate/llm-kit-deepseek/0.1.0",
        "answer",
        reply(usage=usage(128, 40, 168, prompt_cache_hit_tokens=64, prompt_cache_miss_tokens=64)),
        tokens=168,
    ),
    Row(
        "DeepSeek",
        "thought next to the answer",
        _DEEPSEEK,
        "answer",
        reply(
            {"content": ANSWER, "reasoning_content": THOUGHT},
            usage(9, 40, 49, **{DETAILS: {"reasoning_tokens": 20}}),
        ),
        tokens=49,
    ),
    Row(
        "DeepSeek",
        "answer in the thought",
        _DEEPSEEK,
        "answer",
        reply({"content": "", "reasoning_content": THOUGHT + ANSWER}, usage(9, 40, 49)),
        tokens=49,
        parse_source="reasoning_json",
    ),
    Row(
        "DeepSeek",
        "thought without an answer",
        _DEEPSEEK,
        "unusable",
        reply({"content": "", "reasoning_content": THOUGHT}, usage(9, 40, 49)),
        tokens=49,
    ),
    Row(
        "xAI",
        "completion excludes reasoning",
        _XAI,
        "answer",
        reply(usage=usage(12, 2, 331, **{DETAILS: {"reasoning_tokens": 317}})),
        tokens=331,
    ),
    Row(
        "xAI",
        "more completion than reasoning",
        _XAI_BILL,
        "answer",
        reply(usage=usage(1000, 1499, 5308, **{DETAILS: {"reasoning_tokens": 2809}})),
        tokens=5308,
    ),
    Row(
        "xAI",
        "limit with reasoning on top",
        _XAI_LENGTH,
        "truncated",
        reply(
            {"content": ANSWER[:30]},
            usage(4643, 1187, 6690, **{DETAILS: {"reasoning_tokens": 860}}),
            "length",
        ),
        tokens=6690,
    ),
    Row("xAI", "end turn", _FINISH, "answer", reply(usage=usage(9, 4, 13), finish="end_turn"), tokens=13),
    Row(
        "Gemini",
        "thoughts in the total only",
        _GEMINI,
        "answer",
        reply(usage=usage(200, 40, 2240)),
        tokens=2240,
    ),
    Row(
        "Gemini",
        "thoughts and no visible candidate",
        _GEMINI_THOUGHTS,
        "truncated",
        reply({"content": None}, usage(200, 0, 700, **{DETAILS: {"reasoning_tokens": 500}}), "length"),
        tokens=700,
    ),
    Row(
        "Gemini",
        "limit spent on thoughts",
        "https://github.com/project-arbr/arbr-control-plane/pull/253",
        "truncated",
        reply({"content": ""}, usage(6, 0, 22), "length"),
        tokens=22,
    ),
    Row(
        "Gemini",
        "limit in capitals",
        "https://github.com/googleapis/python-genai/issues/811",
        "truncated",
        reply({"content": ANSWER[:30]}, usage(9, 4, 13), "MAX_TOKENS"),
        tokens=13,
    ),
    Row(
        "OpenRouter",
        "reasoning in parts",
        _OPENROUTER,
        "answer",
        reply(
            {
                "content": "",
                "reasoning": None,
                "reasoning_details": [
                    {"type": "reasoning.text", "text": THOUGHT},
                    {"type": "reasoning.text", "text": ANSWER},
                ],
            },
            usage(9, 4, 13),
            native_finish_reason="completed",
        ),
        tokens=13,
        parse_source="reasoning_json",
    ),
    Row(
        "OpenRouter",
        "a provider's own stop",
        _OPENROUTER_STOP,
        "answer",
        reply(usage=usage(9, 4, 13), finish="end_turn"),
        tokens=13,
    ),
    Row(
        "OpenRouter",
        "only the native reason",
        _OPENROUTER,
        "truncated",
        reply({"content": ANSWER[:30]}, usage(9, 4, 13), None, native_finish_reason="max_tokens"),
        tokens=13,
    ),
    Row(
        "vLLM",
        "content null and the answer in reasoning_content",
        _VLLM_NULL,
        "answer",
        reply(
            {"content": None, "reasoning_content": ANSWER, "refusal": None, "tool_calls": None},
            usage(9, 4, 13),
        ),
        tokens=13,
        parse_source="reasoning_json",
    ),
    Row(
        "vLLM",
        "the newer name of the field",
        _VLLM_FIELD,
        "answer",
        reply({"content": None, "reasoning": f"```json\n{ANSWER}\n```"}, usage(9, 4, 13)),
        tokens=13,
        parse_source="reasoning_json",
    ),
    Row(
        "vLLM",
        "content null and nothing else",
        _VLLM_SCHEMA,
        "unusable",
        reply({"content": None}, usage(9, 4, 13)),
        tokens=13,
    ),
    Row("vLLM", "no usage", _VLLM_NULL, "answer", reply(usage=None)),
    Row(
        "SGLang",
        "reasoning next to the answer",
        _SGLANG_FIELD,
        "answer",
        reply({"content": ANSWER, "reasoning_content": THOUGHT}, usage(9, 40, 49), matched_stop=151645),
        tokens=49,
    ),
    Row(
        "SGLang",
        "finish reason null",
        _SGLANG_NULL,
        "answer",
        reply(usage=usage(9, 4, 13), finish=None),
        tokens=13,
    ),
    Row(
        "SGLang",
        "server-sent events",
        _SGLANG_NULL,
        "answer",
        b"".join(
            b"data: " + json.dumps(chunk).encode() + b"\n\n"
            for chunk in (
                {
                    "model": "m",
                    "choices": [
                        {
                            "index": 0,
                            "delta": {"role": "assistant", "content": ANSWER[:20]},
                            "finish_reason": None,
                        }
                    ],
                    "usage": None,
                },
                {
                    "model": "m",
                    "choices": [{"index": 0, "delta": {"content": ANSWER[20:]}, "finish_reason": "stop"}],
                    "usage": None,
                },
                {"model": "m", "choices": [], "usage": usage(9, 4, 13)},
            )
        )
        + b"data: [DONE]\n\n",
        tokens=13,
    ),
    Row(
        "llama.cpp",
        "schema not enforced",
        "https://github.com/ggml-org/llama.cpp/issues/19051",
        "answer",
        reply({"content": f"Sure:\n```json\n{ANSWER}\n```"}, usage(9, 4, 13)),
        tokens=13,
        parse_source="json_inside",
    ),
    Row(
        "llama.cpp",
        "trailing comma",
        "https://github.com/ggml-org/llama.cpp/issues/24097",
        "answer",
        reply({"content": ANSWER[:-1] + ",\n}"}, usage(9, 4, 13)),
        tokens=13,
    ),
    Row(
        "Ollama",
        "all text in reasoning",
        _OLLAMA,
        "unusable",
        reply({"content": "", "reasoning": THOUGHT}, usage(9, 4, 13)),
        tokens=13,
    ),
    Row(
        "Ollama",
        "JSON in thinking",
        _OLLAMA_JSON,
        "answer",
        reply({"content": "", "thinking": ANSWER}, usage(9, 4, 13)),
        tokens=13,
        parse_source="reasoning_json",
    ),
    Row(
        "Ollama",
        "length",
        _OLLAMA_REASONS,
        "truncated",
        reply({"content": "", "reasoning": THOUGHT}, usage(9, 4, 13), "length"),
        tokens=13,
    ),
    Row(
        "LiteLLM",
        "thinking blocks",
        "https://github.com/BerriAI/litellm/issues/27956",
        "answer",
        reply(
            {"content": "", "thinking_blocks": [{"type": "thinking", "thinking": ANSWER}]}, usage(9, 4, 13)
        ),
        tokens=13,
        parse_source="reasoning_json",
    ),
    Row(
        "Fireworks",
        "blanks around the answer",
        "https://github.com/BerriAI/litellm/pull/29606",
        "answer",
        reply({"content": f" \n{ANSWER}\n"}, usage(9, 4, 13)),
        tokens=13,
    ),
    Row(
        "Together",
        "end of sequence",
        _TOGETHER,
        "answer",
        reply(usage=usage(9, 4, 13), finish="eos"),
        tokens=13,
    ),
]
