"""Frozen sentence embeddings: features for a baseline, from an encoder that is not trained here.

An encoder is a folder as sentence-transformers writes it: a transformer with its tokenizer, and in
1_Pooling/config.json how the vectors of the tokens become one (Reimers and Gurevych 2019, arXiv:1908.10084).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from core import jsonio
from core.base_model import ModelSource, require_torch, resolve_model
from core.config import CONTENT, MODEL, ConfigSection
from core.errors import ModelError
from core.progress import Progress
from core.records import SPLITS, SplitName, read_examples
from core.stage import StageIO, stage

if TYPE_CHECKING:
    from core.pipeline.run_context import RunContext

Vectors = NDArray[np.float32]
Embeddings = Mapping[SplitName, Vectors]
"""Vectors of the rows of each split, of shape (rows, dimensions)."""
_POOLING = "1_Pooling/config.json"
_LIMIT = "sentence_bert_config.json"
_MEAN, _CLS = "pooling_mode_mean_tokens", "pooling_mode_cls_token"
_ROWS = 32
"""Texts of similar length that are encoded together."""
_LONGEST = 512
"""Tokens of a text where the encoder states no limit of its own."""


def find_encoder(spec: str) -> ModelSource:
    """Find the encoder that baselines.encoder names. Raises ModelError if it is missing or unusable."""
    found = resolve_model(spec, what="encoder", setting="baselines.encoder")
    modes = [name for name, on in _read(found.folder / _POOLING).items() if on is True and "mode" in name]
    if modes not in ([], [_MEAN], [_CLS]):
        raise ModelError(
            f"encoder {spec}: {found.folder / _POOLING} asks for {' and '.join(modes)}, but only {_MEAN} or "
            f"{_CLS} is supported; name another encoder in baselines.encoder"
        )
    return found


class Encoder:
    """An encoder with its model in memory; one caller at a time."""

    def __init__(self, source: ModelSource) -> None:
        """Load the model in float32. Raises ModelError."""
        require_torch()
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(source.folder)  # nosec B615  # a local folder
            self._model = AutoModel.from_pretrained(source.folder, dtype=torch.float32).eval()  # nosec B615
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise ModelError(f"encoder {source.folder} cannot be loaded ({reason})") from error
        self._limit = int(_read(source.folder / _LIMIT).get("max_seq_length") or _LONGEST)
        self._mean = _read(source.folder / _POOLING).get(_CLS) is not True

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """Return one unit vector per text, of shape (texts, dimensions), computed in float32.

        A text longer than the encoder's limit is cut off there.
        """
        import torch

        out = np.zeros((len(texts), int(self._model.config.hidden_size)), np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), _ROWS):
            rows = order[start : start + _ROWS]
            batch = self._tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=self._limit,
                return_tensors="pt",
            )
            with torch.inference_mode():
                tokens = self._model(**batch).last_hidden_state
            kept = batch["attention_mask"].unsqueeze(-1).to(tokens.dtype)
            pooled = (tokens * kept).sum(1) / kept.sum(1).clamp(min=1e-9) if self._mean else tokens[:, 0]
            out[rows] = torch.nn.functional.normalize(pooled, dim=1).numpy()
            if progress is not None:
                progress.update(start + len(rows), len(texts))
        return out


def encode(source: ModelSource, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
    """Return the vectors of texts by an encoder that is loaded for them. Raises ModelError."""
    return Encoder(source).encode(texts, progress)


def _read(path: Path) -> Mapping[str, Any]:
    """Return a JSON object of the encoder, empty if the encoder does not have the file."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error}); name another encoder") from error


class EmbedSettings(ConfigSection):
    """Which encoder turns texts into vectors."""

    encoder: Annotated[str, CONTENT, MODEL]


def encoder_digest(source: ModelSource) -> str:
    """Return the digest (hex) of everything that decides an encoder's vectors."""
    about = {name: dict(_read(source.folder / name)) for name in (_POOLING, _LIMIT)}
    return jsonio.digest([source.digest, about])


def _content(settings: EmbedSettings, context: RunContext | None) -> dict[str, str]:
    return {"encoder": encoder_digest(find_encoder(settings.encoder))}


@stage("embed", version=1, inputs=("split",), content=_content, switch="export", shows="embeddings")
def embed(settings: EmbedSettings, io: StageIO) -> dict[str, int]:
    """Embed the texts of all splits, each distinct text once.

    `{split}.npy` has a vector for each row of the split. Raises ModelError.
    """
    texts = {name: [e.text for e in read_examples(io.input("split") / f"{name}.csv")] for name in SPLITS}
    distinct = list(dict.fromkeys(text for split in texts.values() for text in split))
    vectors = encode(find_encoder(settings.encoder), distinct, io.progress)
    row_of = {text: row for row, text in enumerate(distinct)}
    for name, split in texts.items():
        np.save(io.out / f"{name}.npy", vectors[[row_of[text] for text in split]], allow_pickle=False)
    return {"texts": len(distinct), "dimensions": vectors.shape[1]}


def read_embeddings(folder: Path) -> Embeddings:
    """Return the vectors that `embed` wrote, of shape (rows, dimensions) for each split."""
    return {name: np.load(folder / f"{name}.npy", allow_pickle=False) for name in SPLITS}
