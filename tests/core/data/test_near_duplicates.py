from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from core.config import DataConfig
from core.data import duplicates
from core.data.duplicates import families, normalized
from core.data.labeled_rows import read
from core.data.splitting import components


def shingles(text: str, length: int) -> set[str]:
    text = normalized(text)
    return {text[i : i + length] for i in range(len(text) - length + 1)} or {text}


def brute_force(texts: list[str], threshold: float, length: int) -> list[int]:
    """Families by comparing all pairs."""
    sets = [shingles(text, length) for text in texts]
    place = list(range(len(texts)))
    for i, j in itertools.combinations(range(len(texts)), 2):
        common = len(sets[i] & sets[j])
        if common and common / (len(sets[i]) + len(sets[j]) - common) >= threshold:
            old, new = max(place[i], place[j]), min(place[i], place[j])
            place = [new if p == old else p for p in place]
    return place


SHORT = st.text("ab ㅋ", min_size=1, max_size=14).filter(str.strip)


@given(st.lists(SHORT, max_size=25), st.sampled_from([0.3, 0.5, 0.8, 0.9, 1.0]), st.integers(1, 6))
@example(["a" * n for n in range(1, 12)], 0.5, 2)
@example([], 0.8, 5)
def test_families_equal_those_of_all_pairs(texts: list[str], threshold: float, length: int) -> None:
    assert families(texts, threshold, length) == brute_force(texts, threshold, length)


def variants(n: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    words = [f"w{i}" for i in range(40)]
    base = [" ".join(chance.choices(words, k=chance.randint(3, 25))) for _ in range(n // 4)]
    return [
        " ".join(w for w in chance.choice(base).split() if chance.random() > 0.05) or "w" for _ in range(n)
    ]


def test_families_do_not_depend_on_chunk_size(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = variants(200, 1)
    whole = families(texts, 0.7, 4)
    monkeypatch.setattr(duplicates, "_CHUNK", 50)
    monkeypatch.setattr(duplicates, "_LOOKUPS", 100)
    assert families(texts, 0.7, 4) == whole == brute_force(texts, 0.7, 4)


def test_families_are_named_by_their_first_text_and_ignore_case_and_spacing() -> None:
    assert families(["Hello  there", "other", "hello there\n", "OTHER"], 1.0, 5) == [0, 1, 0, 1]


def test_long_shingles_of_many_characters_are_numbered_exactly() -> None:
    alphabet = "".join(map(chr, range(0x4E00, 0x5E00)))
    texts = [alphabet, alphabet[:3000], alphabet[::-1], alphabet[:3900]]
    assert families(texts, 0.9, 12) == [0, 1, 2, 0]


def test_giant_family_needs_few_comparisons() -> None:
    # 10,000 texts of one template: 50 million pairs, all similar.
    texts = [
        f"your package number {i:05d} will be delivered tomorrow between nine and twelve"
        for i in range(10_000)
    ]
    assert set(families(texts, 0.8, 5)) == {0}


def test_recall_and_precision_on_sms_spam_are_one(real_data: Path) -> None:
    config = DataConfig(path=str(real_data / "sms_spam" / "data.csv"), id_column="id")
    texts = [row.example.text for row in read(config).rows]
    found = families(texts, 0.8, 5)
    assert _by_all_pairs(texts, 0.8, 5) == found


def _by_all_pairs(texts: list[str], threshold: float, length: int) -> list[int]:
    """Families by the shared shingles of every pair, as one matrix product."""
    distinct: dict[str, int] = {}
    place = [distinct.setdefault(normalized(text), len(distinct)) for text in texts]
    sets = [shingles(text, length) for text in distinct]
    number: dict[str, int] = {}
    columns = [number.setdefault(shingle, len(number)) for own in sets for shingle in sorted(own)]
    sizes = np.array([len(own) for own in sets])
    ones = np.ones(len(columns), np.int64)
    offsets = np.concatenate(([0], np.cumsum(sizes)))
    matrix = csr_array((ones, np.array(columns), offsets), shape=(len(sets), len(number)))
    common = (matrix @ matrix.T).tocoo()
    similar = common.data / (sizes[common.row] + sizes[common.col] - common.data) >= threshold
    graph = coo_array(
        (ones[:1].repeat(similar.sum()), (common.row[similar], common.col[similar])), common.shape
    )
    joined = connected_components(graph, directed=False)[1]
    return components(len(texts), [joined[place].tolist()])
