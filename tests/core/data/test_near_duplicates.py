from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.config.data import DataConfig
from core.data import near_duplicates
from core.data.near_duplicates import families
from core.data.reading import read
from core.data.shingles import normalised
from core.data.units import components


def shingles(text: str, length: int) -> set[str]:
    text = normalised(text)
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
@settings(deadline=None)
def test_families_are_those_of_comparing_all_pairs(texts: list[str], threshold: float, length: int) -> None:
    assert families(texts, threshold, length) == brute_force(texts, threshold, length)


def variants(n: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    words = [f"w{i}" for i in range(40)]
    base = [" ".join(chance.choices(words, k=chance.randint(3, 25))) for _ in range(n // 4)]
    return [
        " ".join(w for w in chance.choice(base).split() if chance.random() > 0.05) or "w" for _ in range(n)
    ]


def test_families_do_not_depend_on_how_pairs_are_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = variants(400, 1)
    whole = families(texts, 0.7, 4)
    monkeypatch.setattr(near_duplicates, "_CHUNK", 50)
    monkeypatch.setattr(near_duplicates, "_LOOKUPS", 100)
    assert families(texts, 0.7, 4) == whole == brute_force(texts, 0.7, 4)


def test_families_are_named_by_their_first_text_and_ignore_case_and_spacing() -> None:
    assert families(["Hello  there", "other", "hello there\n", "OTHER"], 1.0, 5) == [0, 1, 0, 1]


def test_long_shingles_of_many_characters_are_numbered_exactly() -> None:
    alphabet = "".join(map(chr, range(0x4E00, 0x5E00)))
    texts = [alphabet, alphabet[:3000], alphabet[::-1], alphabet[:3900]]
    assert families(texts, 0.9, 12) == [0, 1, 2, 0]


def test_a_giant_family_does_not_cost_all_its_pairs() -> None:
    # 20,000 texts of one template: 200 million pairs, all similar.
    texts = [
        f"your package number {i:05d} will be delivered tomorrow between nine and twelve"
        for i in range(20_000)
    ]
    assert set(families(texts, 0.8, 5)) == {0}


def test_recall_and_precision_on_sms_spam_are_one(real_data: Path) -> None:
    config = DataConfig(path=str(real_data / "sms_spam" / "data.csv"), id_column="id")
    texts = [row.example.text for row in read(config).rows]
    found = families(texts, 0.8, 5)
    assert _pairs_by_counting(texts, 0.8, 5) == found


def _pairs_by_counting(texts: list[str], threshold: float, length: int) -> list[int]:
    """All pairs that share any shingle, without prefix, size or position filter: brute force in time."""
    distinct = list(dict.fromkeys(map(normalised, texts)))
    sets = [shingles(text, length) for text in distinct]
    posting: dict[str, list[int]] = {}
    similar: list[tuple[int, int]] = []
    for j, own in enumerate(sets):
        common: dict[int, int] = {}
        for shingle in own:
            for i in posting.setdefault(shingle, []):
                common[i] = common.get(i, 0) + 1
            posting[shingle].append(j)
        similar += [(i, j) for i, n in common.items() if n / (len(sets[i]) + len(own) - n) >= threshold]
    number = {text: i for i, text in enumerate(distinct)}
    place = list(range(len(distinct)))
    for i, j in sorted(similar):
        old, new = max(place[i], place[j]), min(place[i], place[j])
        if old != new:
            place = [new if p == old else p for p in place]
    return components(len(texts), [[place[number[normalised(text)]] for text in texts]])
