"""The reference is complete, links lead to pages of the site, and assets from other hosts are found."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import pytest

import understudy
from core.config import Config
from core.config.loading import leaves
from core.report.document import SECTIONS
from docs import hooks, reference
from flows.cli.commands import cli
from tests.docs.screenshots import LIMIT, REPO

PAGES = reference.pages()


def commands(group: click.Group, path: str = "understudy") -> list[str]:
    found = []
    for name, command in group.commands.items():
        found.append(f"{path} {name}")
        if isinstance(command, click.Group):
            found += commands(command, found[-1])
    return found


def test_every_command_and_option_is_in_the_reference() -> None:
    sections = dict(part.split("\n", 1) for part in PAGES["reference/cli.md"].split("\n## ")[1:])
    assert set(sections) == {"understudy", *commands(cli)}
    assert "`--log-format [text|json]`" in sections["understudy"]
    assert "`--checkpoint TEXT`" in sections["understudy evaluate"]
    assert "understudy automations apply [OPTIONS]" in sections["understudy automations apply"]


def test_every_key_of_the_config_has_a_row_with_its_meaning() -> None:
    sections: dict[str, str] = {}
    for part in PAGES["reference/config.md"].split("\n## ")[1:]:
        title, text = part.split("\n", 1)
        key = title.split(",")[0].strip("`")
        sections[key] = sections.get(key, "") + text
    for *section, key in leaves(Config):
        if key != "kind":
            assert f"| `{key}` |" in sections[".".join(section) or "Top level"], key
    row = next(line for line in sections["student"].splitlines() if line.startswith("| `epochs` |"))
    assert row.split(" | ")[1:3] == ["number > 0 or null", "`null`"]
    assert len(row.split(" | ")[3]) > 10


def test_every_public_name_is_in_the_reference() -> None:
    page = PAGES["reference/python.md"]
    assert [name for name in understudy.__all__ if f"::: understudy.{name}\n" not in page] == []


def test_report_sections_are_listed_in_the_order_of_a_report() -> None:
    lines = [line for line in PAGES["reference/report.md"].splitlines() if line.startswith("| ")]
    rows = [line.split(" | ") for line in lines[2:]]
    assert {row[1] for row in rows} == set(SECTIONS)
    assert rows[0][1] == "verdict"
    orders = [int(row[0].strip("| ")) for row in rows]
    assert orders == sorted(orders)


def test_rules_have_their_settings_and_metrics_their_meaning() -> None:
    page = PAGES["reference/parts.md"]
    rule = page.split("### `too_short`")[1].split("###")[0]
    assert "| `min_chars` | integer" in rule
    assert "| `macro_f1` |" in page
    assert "| `faithful_quote` | 0.1 |" in page
    assert "| `tinker` |" in page


@pytest.mark.parametrize(
    ("page", "written", "on_site"),
    [
        ("index.md", "[a](docs/teacher.md#cost)", "[a](teacher.md#cost)"),
        ("index.md", "[a](deployments/README.md)", "[a](deployments.md)"),
        ("teacher.md", "[a](../README.md) and [b](student.md)", "[a](index.md) and [b](student.md)"),
        ("reference/parts.md", "[a](../../CONTRIBUTING.md#x)", "[a](../contributing.md#x)"),
        ("index.md", "[a file](Makefile) here", "a file here"),
        ("index.md", "[a](https://example.org/docs/teacher.md)", "[a](https://example.org/docs/teacher.md)"),
        ("index.md", "```\n[a](docs/teacher.md)\n```", "```\n[a](docs/teacher.md)\n```"),
    ],
)
def test_links_of_files_hold_on_the_site(page: str, written: str, on_site: str) -> None:
    pages = {*hooks.OUTSIDE.values(), "teacher.md", "student.md"}
    assert hooks.relinked(written, page, pages) == on_site


def test_a_link_to_nothing_is_a_warning_which_fails_a_strict_build(caplog: pytest.LogCaptureFixture) -> None:
    hooks.relinked("[a](nothing.md)", "teacher.md", set())
    assert [(record.name.partition(".")[0], record.levelno) for record in caplog.records] == [
        ("mkdocs", logging.WARNING)
    ]


def test_assets_from_other_hosts_are_found_and_links_are_not(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        '<a href="https://example.org">x</a><img src="images/x.png"><link rel="icon" href="x.ico">'
        '<script async src="https://a.example/x.js"></script><link href=//b.example/x.css rel=stylesheet>'
        '<img alt="" src="http://c.example/x.png">'
    )
    (tmp_path / "a.css").write_text("@import 'https://d.example/x.css'; b {background: url(x.png)}")
    found = hooks.external_assets(tmp_path)
    assert [next(host for host in "abcd" if f"{host}.example" in each) for each in found] == list("dabc")


def test_pictures_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in (REPO / "docs/images").iterdir()}
    assert {name for name, size in sizes.items() if size >= LIMIT} == set()
