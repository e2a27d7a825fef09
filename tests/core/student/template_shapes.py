"""Small tokenizers and chat templates with the quirks of real model families.

The tokenizers are trained here on a few sentences of this project. The templates are this project's, too;
each does what the family's does in the one respect that its source documents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Punctuation takes the line breaks after it along, as in Llama 3 and Qwen.
_LINES = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CORPUS = [
    "You have won a prize, call now to claim your gift.\n\nAnswer with the label and a short reason.",
    "See you at lunch around noon, bring the papers please.\nText:\n See you\n\nText:\n\nYou have won",
    'It promises a "prize" [R1].\nThe words "call now" decide.',
    "user system assistant model label reason spam, ham; (yes) {no} [INST] [/INST] <x> </y> \\",
    "a>\n b>\n c>\n",
    "Decide whether the rules apply to the text below (1) or not (0). Today Date: 26 Jul 2024 ASSISTANT:",
] * 3


def byte_level(pattern: str = _LINES) -> Tokenizer:
    """Byte-level BPE, as in GPT-2."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return tokenizer


def sentencepiece(*, legacy: bool) -> Tokenizer:
    """BPE over whole sentences that falls back to bytes, as in SentencePiece.

    `legacy` puts a space before every piece of text between special tokens, not before the first alone.
    """
    trained = Tokenizer(models.BPE())
    lines = pre_tokenizers.Split(Regex(r"\n+|[<>/\[\]]"), "isolated")
    words = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    trained.pre_tokenizer = pre_tokenizers.Sequence([lines, words])
    trained.train_from_iterator(_CORPUS, trainers.BpeTrainer(vocab_size=500, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    merges = [tuple(pair) for pair in model["merges"]]
    vocab = {word: i for i, word in enumerate([*first, *(w for w in model["vocab"] if w not in first)])}
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if legacy:
        steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        tokenizer.normalizer = normalizers.Sequence(steps)
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return tokenizer


def unigram() -> Tokenizer:
    """A Unigram model, whose vocabulary has the texts of its control tokens as pieces."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    trainer = trainers.UnigramTrainer(vocab_size=300, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(_CORPUS, trainer)
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    names = ["<unk>", "</s>", "<|user|>", "<|bot|>"]
    vocab = [(name, 0.0) for name in names] + [(p, s) for p, s in pieces if p not in names]
    tokenizer.model = models.Unigram(vocab, 0, False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    return tokenizer


@dataclass(frozen=True, slots=True)
class Shape:
    """A tokenizer with a template. `source` documents the quirk.

    `end` is the token that ends an answer and `eos` the tokenizer's own end of text. `plain` are added
    tokens that are not special. `args` are given to the template.
    """

    name: str
    source: str
    tokenizer: Callable[[], Tokenizer]
    template: str
    end: str
    special: tuple[str, ...]
    eos: str
    bos: str | None = None
    plain: tuple[str, ...] = ()
    rstrip: tuple[str, ...] = ()
    args: Mapping[str, Any] = field(default_factory=dict, hash=False)
    lossless: bool = True
    """Whether every text comes back from its tokens as it was."""

    def save(self, folder: Path) -> Path:
        """Write tokenizer and template into a folder, as a model's publisher does."""
        inner = self.tokenizer()
        inner.add_special_tokens([self._added(name, special=True) for name in self.special])
        inner.add_tokens([self._added(name, special=False) for name in self.plain])
        whole = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=self.eos, bos_token=self.bos)
        whole.chat_template = self.template
        whole.save_pretrained(folder)
        return folder

    @property
    def control(self) -> tuple[str, ...]:
        """Texts of all control tokens."""
        return (*self.special, *self.plain)

    def _added(self, name: str, *, special: bool) -> AddedToken:
        return AddedToken(name, normalized=False, special=special, rstrip=name in self.rstrip)


_CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content.strip() + "
    "' [/INST]' }}{% else %}{{ ' ' + m.content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
_DATED = "{% set day = strftime_now('%d %b %Y') if strftime_now is defined else '01 Jan 2001' %}"

SHAPES = (
    Shape(
        "llama2",
        "https://github.com/ggml-org/llama.cpp/pull/5425: a space before and after each answer, then </s>",
        lambda: sentencepiece(legacy=True),
        _INST,
        end="</s>",
        special=("<unk>", "<s>", "</s>"),
        eos="</s>",
        bos="<s>",
    ),
    Shape(
        "llama3",
        "https://github.com/oobabooga/textgen/pull/6692: the present date in the system turn; "
        "https://github.com/meta-llama/llama3/issues/104: turns end with another token than the end of text",
        byte_level,
        _DATED + "{{ bos_token }}{{ '<|start|>system<|stop|>\\n\\nToday Date: ' + day + '\\n\\n<|eot_id|>' }}"
        "{% for m in messages %}{{ '<|start|>' + m.role + '<|stop|>\\n\\n' + m.content | trim }}"
        "{{ '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start|>assistant<|stop|>\\n\\n' }}{% endif %}",
        end="<|eot_id|>",
        special=("<|begin|>", "<|end_of_text|>", "<|start|>", "<|stop|>", "<|eot_id|>"),
        eos="<|end_of_text|>",
        bos="<|begin|>",
    ),
    Shape(
        "qwen2.5",
        "https://github.com/instructkr/LogicKor/pull/27: a line break follows the token that ends a turn",
        byte_level,
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{% endif %}"
        + _CHATML,
        end="<|im_end|>",
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        eos="<|endoftext|>",
        plain=("<tool_call>", "</tool_call>"),
    ),
    Shape(
        "qwen3",
        "https://github.com/huggingface/trl/issues/6361: an empty reasoning block before the last answer, in "
        "tokens that are added but not special",
        byte_level,
        "{% for m in messages %}{% set text = m.content %}{% if m.role == 'assistant' %}{% if '</think>' in "
        "text %}{% set text = text.split('</think>')[-1].lstrip('\\n') %}{% endif %}"
        "{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' + text + '<|im_end|>\\n' }}{% else %}"
        "{{ '<|im_start|>' + m.role + '\\n' + text + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        end="<|im_end|>",
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        eos="<|im_end|>",
        plain=("<think>", "</think>", "<tool_response>", "</tool_response>"),
    ),
    Shape(
        "gemma",
        "https://github.com/vllm-project/vllm/pull/2964: no system turn; "
        "https://github.com/huggingface/transformers/issues/32110: turns end otherwise than the text",
        lambda: sentencepiece(legacy=False),
        "{{ bos_token }}{% for m in messages %}"
        "{% if m.role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
        "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' }}"
        "{{ m.content | trim + '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
        end="<end_of_turn>",
        special=("<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>"),
        eos="</s>",
        bos="<s>",
        plain=("\n\n", "<table>"),
    ),
    Shape(
        "mistral",
        "https://github.com/mistralai/mistral-common/issues/3: a space after [INST] and none before </s>",
        lambda: sentencepiece(legacy=True),
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
        "{{ '[INST] ' + m.content + '[/INST] ' }}{% else %}"
        "{{ m.content + eos_token }}{% endif %}{% endfor %}",
        end="</s>",
        special=("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        eos="</s>",
        bos="<s>",
    ),
    Shape(
        "phi3",
        "https://github.com/guidance-ai/guidance/pull/830: special tokens take the whitespace after them; "
        "https://github.com/ggml-org/llama.cpp/pull/6857: an end of text after the last answer",
        lambda: sentencepiece(legacy=True),
        "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
        end="<|end|>",
        special=(
            "<unk>",
            "<s>",
            "</s>",
            "<|endoftext|>",
            "<|user|>",
            "<|system|>",
            "<|assistant|>",
            "<|end|>",
        ),
        eos="<|endoftext|>",
        rstrip=("<|user|>", "<|system|>", "<|assistant|>", "<|end|>"),
    ),
    Shape(
        "smollm2",
        "https://github.com/huggingface/trl/pull/5522 describes the same ChatML template with a system turn "
        "of its own; digits are tokens by themselves",
        lambda: byte_level(_GPT2),
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nYou help.<|im_end|>\\n' }}{% endif %}"
        + _CHATML,
        end="<|im_end|>",
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        eos="<|im_end|>",
    ),
    Shape(
        "deepseek",
        "https://github.com/LostRuins/lite.koboldai.net/issues/103: what comes before </think> is taken out "
        "of an answer; https://github.com/vllm-project/vllm/issues/13125: the prompt ends with <think>",
        byte_level,
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '<｜User｜>' + m.content }}"
        "{% elif m.role == 'system' %}{{ m.content }}{% else %}"
        "{% set text = m.content.split('</think>')[-1] %}"
        "{{ '<｜Assistant｜>' + text + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}",
        end="<｜end▁of▁sentence｜>",
        special=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
        eos="<｜end▁of▁sentence｜>",
        bos="<｜begin▁of▁sentence｜>",
        plain=("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
    ),
    Shape(
        "sentencepiece",
        "https://github.com/ggml-org/llama.cpp/issues/7094 and "
        "https://github.com/huggingface/transformers/issues/31513: a space that a piece of text gets or not, "
        "by where it is",
        lambda: sentencepiece(legacy=False),
        _CHATML,
        end="<|im_end|>",
        special=("<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"),
        eos="</s>",
        bos="<s>",
    ),
    Shape(
        "granite",
        "https://github.com/oobabooga/textgen/pull/6692: the present date, written out",
        byte_level,
        "{{ '<|start_of_role|>system<|end_of_role|>Today is ' + strftime_now('%B %d, %Y') }}"
        "{{ '.<|end_of_text|>\\n' }}{% for m in messages %}"
        "{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + "
        "'<|end_of_text|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}",
        end="<|end_of_text|>",
        special=("<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"),
        eos="<|end_of_text|>",
    ),
    Shape(
        "whitespace",
        "https://github.com/oobabooga/textgen/pull/5517: templates with stray spaces around turns",
        byte_level,
        "{% for m in messages %}{{ '<|turn|>' + m.role + ':\\n' + m.content }}"
        "{{ '\\n \\n<|done|> \\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|turn|>assistant:\\n' }}{% endif %}",
        end="<|done|>",
        special=("<|eos|>", "<|turn|>", "<|done|>"),
        eos="<|eos|>",
    ),
    Shape(
        "unigram",
        "https://github.com/huggingface/transformers/pull/24565: a model whose own vocabulary has the texts "
        "of its control tokens",
        unigram,
        "{% for m in messages %}{{ '<|bot|>' if m.role == 'assistant' else '<|user|>' }}"
        "{{ m.content + '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|bot|>' }}{% endif %}",
        end="</s>",
        special=("<unk>", "</s>", "<|user|>", "<|bot|>"),
        eos="</s>",
        lossless=False,
    ),
)
