"""Prices come from a dated table that the user keeps."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from core.config import BudgetConfig, Endpoint, TeacherConfig
from core.cost import Price, PriceTable, Usage, cost, load_prices, price_of
from core.errors import ConfigError

REPO = Path(__file__).resolve().parents[2]
HEAD = "as_of: 2026-01-02\nsource: a page\nmodels:\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "p.yaml"
    path.write_text(text)
    return path


def test_the_default_price_table_is_valid() -> None:
    default = TeacherConfig(kind="gold").prices
    assert default is not None
    table = load_prices(REPO / default)
    for model in ("deepseek-chat", "deepseek-flash", "gpt-4o-mini-2024-07-18", "gpt-4.1-nano", "gpt-5"):
        price = table.price_of(model)
        assert price is not None
        assert price.cached_input is not None
        assert price.cached_input < price.input < price.output
    assert table.price_of("gpt-4o-audio-preview") is None


def test_the_price_of_the_most_specific_name_is_used() -> None:
    prices = {"*": 1.0, "gpt-*": 2.0, "gpt-5": 3.0, "gpt-5-mini*": 4.0}
    models = {name: {"input": value, "output": value} for name, value in prices.items()}
    table = PriceTable.model_validate({"as_of": "2026-01-02", "source": "x", "models": models})
    found = {m: p.input for m in ("o3", "gpt-4o", "gpt-5", "gpt-5-mini-x") if (p := table.price_of(m))}
    assert found == {"o3": 1.0, "gpt-4o": 2.0, "gpt-5": 3.0, "gpt-5-mini-x": 4.0}


def test_cached_tokens_have_their_own_price() -> None:
    usage = Usage(prompt=1_000_000, completion=500_000, cached=400_000)
    assert cost(usage, Price(input=1.0, cached_input=0.1, output=2.0)) == pytest.approx(0.6 + 0.04 + 1.0)
    assert cost(usage, Price(input=1.0, output=2.0)) == pytest.approx(2.0)


def endpoint(model: str, prices: str | None, usd: float | None = None) -> Endpoint:
    return Endpoint(
        model=model, base_url="http://h/v1", prices=prices, budget=BudgetConfig(usd=usd), section="judge"
    )


def test_a_model_without_a_price_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(write(tmp_path, f"{HEAD}  a: {{input: 1, output: 2}}\n"))
    with caplog.at_level(logging.WARNING):
        assert price_of(endpoint("b", path)) is None
        assert price_of(endpoint("a", path, usd=1.0)) is not None
    assert [r.getMessage().rpartition("/")[2] for r in caplog.records] == [
        "p.yaml has no price of b: tokens are counted and money is not; add a line under models"
    ]


def test_a_budget_in_money_needs_a_price_table() -> None:
    assert price_of(endpoint("a", None)) is None
    with pytest.raises(ConfigError, match=r"judge\.budget\.usd needs a price of a, and judge\.prices: null"):
        price_of(endpoint("a", None, usd=1.0))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{HEAD}  a: {{input: one, output: 2}}\n", "p.yaml:4: models.a.input: should be a valid number"),
        (f"{HEAD}  a: {{input: -1, output: 2}}\n", "p.yaml:4: models.a.input: should be greater than"),
        (f"{HEAD}  a: {{input: 1}}\n", "p.yaml:4: models.a.output: Field required"),
        ("source: x\nmodels: {}\n", "p.yaml: as_of: Field required"),
    ],
)  # fmt: skip
def test_an_invalid_table_is_one_sentence_with_its_line(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as e:
        load_prices(write(tmp_path, text))
    assert sentence in str(e.value)
    assert "\n" not in str(e.value)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"no price table at .*/none.yaml; set teacher.prices to one, or to null"
    ):
        load_prices(tmp_path / "none.yaml")
