"""Sentence embeddings: one vector per text whatever its neighbors, from encoders of both kinds of pooling."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

from core import jsonio
from core.base_model import ModelSource
from core.config import BaselinesConfig
from core.errors import ModelError
from core.evaluation.baselines import IMPOSSIBLE, BaselineSettings, baseline
from core.evaluation.embeddings import EmbedSettings, embed, encode, find_encoder, read_embeddings
from core.evaluation.predictions import Predictions
from core.records import SPLITS, Example, write_examples
from core.stage import StageIO

WORDS = [*"abcdefgh", "good", "bad", "dull", "bright", "film", "story", "never", "see", "it", "long"]
TEXTS = ["a good film", "never see the long dull story", "bright", "", "it " * 40, "a good film"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights, as sentence-transformers writes it, pooled by mean."""
    folder = tmp_path_factory.mktemp("encoder")
    (folder / "words.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizerFast(str(folder / "words.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    torch.manual_seed(1)
    BertModel(BertConfig(vocab_size=5 + len(WORDS), **sizes)).save_pretrained(folder)
    pool(folder, "mean_tokens")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    return folder


def pool(folder: Path, *modes: str) -> None:
    (folder / "1_Pooling").mkdir(exist_ok=True)
    written = {f"pooling_mode_{mode}": True for mode in modes} | {"word_embedding_dimension": 16}
    (folder / "1_Pooling/config.json").write_text(json.dumps(written))


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def one_by_one(source: ModelSource, text: str) -> torch.Tensor:
    """The tokens' vectors of a text that is encoded alone."""
    tokenizer, model = AutoTokenizer.from_pretrained(source.folder), AutoModel.from_pretrained(source.folder)
    with torch.inference_mode():
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=12)
        return torch.as_tensor(model.eval()(**tokens).last_hidden_state[0])


def test_a_vector_is_the_mean_of_the_texts_tokens_whatever_is_encoded_with_it(folder: Path) -> None:
    source = find_encoder(str(folder))
    vectors = encode(source, TEXTS)
    assert vectors.shape == (len(TEXTS), 16)
    assert vectors.dtype == np.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        mean = torch.nn.functional.normalize(one_by_one(source, text).mean(0), dim=0).numpy()
        np.testing.assert_allclose(vector, mean, atol=1e-5)


def test_an_encoder_may_use_its_first_token(copy: Path) -> None:
    pool(copy, "cls_token")
    source = find_encoder(str(copy))
    first = torch.nn.functional.normalize(one_by_one(source, TEXTS[1])[0], dim=0).numpy()
    np.testing.assert_allclose(encode(source, TEXTS)[1], first, atol=1e-5)


@pytest.mark.parametrize("modes", [("max_tokens",), ("mean_tokens", "cls_token")])
def test_other_poolings_are_refused(copy: Path, modes: tuple[str, ...]) -> None:
    pool(copy, *modes)
    with pytest.raises(
        ModelError, match=rf"asks for .*{modes[-1]}.* name another encoder in baselines.encoder"
    ):
        find_encoder(str(copy))


def test_a_missing_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"encoder.*no-such-package is not installed.*correct baselines.encoder"
    ):
        find_encoder("package://no-such-package/model")
    with pytest.raises(
        ModelError, match=r"encoder not found: nothing is at .*/none; correct baselines.encoder"
    ):
        find_encoder(str(tmp_path / "none") + "/")


def test_a_damaged_description_is_named(copy: Path) -> None:
    (copy / "1_Pooling/config.json").write_text("{")
    with pytest.raises(ModelError, match=r"1_Pooling/config.json cannot be read"):
        find_encoder(str(copy))


def key(folder: Path) -> dict[str, str]:
    assert embed.content is not None
    return dict(embed.content(EmbedSettings(encoder=str(folder)), None))


def test_the_key_depends_on_the_encoders_content_and_not_on_its_place(folder: Path, copy: Path) -> None:
    before = key(folder)
    assert key(copy) == before
    pool(copy, "cls_token")
    assert key(copy) != before


def rows(split: str, n: int) -> list[Example]:
    words = ("a good bright film", "a bad dull film")
    return [Example(f"{split}{i}", f"{words[i % 2]} {WORDS[i % len(WORDS)]}", 1 - i % 2) for i in range(n)]


def test_embeddings_of_the_splits_become_two_baselines(folder: Path, tmp_path: Path) -> None:
    split, vectors, out = (tmp_path / name for name in ("split", "embed", "baseline"))
    for made in (split, vectors, out):
        made.mkdir()
    for name, n in zip(SPLITS, (24, 12, 0), strict=True):
        write_examples(split / f"{name}.csv", rows(name, n))
    summary = embed(EmbedSettings(encoder=str(folder)), StageIO({"split": split}, vectors))
    assert {name: found.shape for name, found in read_embeddings(vectors).items()} == {
        "train": (24, 16),
        "val": (12, 16),
        "test": (0, 16),
    }
    texts = {e.text for e in [*rows("train", 24), *rows("val", 12)]}
    assert summary == {"texts": len(texts), "dimensions": 16}

    chosen = baseline(BaselineSettings(seed=1), StageIO({"split": split, "embed": vectors}, out))
    about = jsonio.read_json(out / "baselines.json")
    for scorer in ("embedding", "embedding_tfidf"):
        assert IMPOSSIBLE not in about[scorer]
        assert about[scorer]["settings"]["C"] == chosen[scorer]
        scored = Predictions.read(out / f"{scorer}_val.jsonl")
        assert ((scored.probability > 0.5) == scored.positive).all()
    assert "ngram_range" in about["embedding_tfidf"]["settings"]
    assert "ngram_range" not in about["embedding"]["settings"]


def test_without_an_encoder_there_are_no_embeddings(tmp_path: Path) -> None:
    assert BaselinesConfig().encoder is None
    (tmp_path / "split").mkdir()
    (tmp_path / "out").mkdir()
    for name in SPLITS:
        write_examples(tmp_path / f"split/{name}.csv", rows(name, 8))
    baseline(BaselineSettings(seed=1), StageIO({"split": tmp_path / "split"}, tmp_path / "out"))
    assert set(jsonio.read_json(tmp_path / "out/baselines.json")) == {
        "majority",
        "tfidf_words",
        "tfidf_chars",
    }
