"""Find the base model that a config names: a folder, a .gguf file, a packaged file or a hub id."""

from __future__ import annotations

from core.base_model.source import ModelSource, resolve_model, resolve_tokenizer

__all__ = ["ModelSource", "resolve_model", "resolve_tokenizer"]
