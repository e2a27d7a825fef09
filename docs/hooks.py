"""Events of MkDocs: pages from the code and from elsewhere in the repository, links, a check of the site."""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs import reference

log = logging.getLogger("mkdocs.hooks")  # below mkdocs: a warning fails a strict build
REPO = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "AGENTS.md": "pitfalls.md",
    "CHANGELOG.md": "changelog.md",
    "configs/from_earlier_scripts.md": "from_earlier_scripts.md",
    "deployments/README.md": "deployments.md",
    "docker/README.md": "containers.md",
}
"""Pages of the site that are files outside docs/, by their path in the repository."""
_LINK = re.compile(r"(?<=\]\()([^)#\s:]+)(#[^)\s]*)?(?=\))")
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_EXTERNAL = re.compile(
    r"""<(?:script|img|iframe|source|audio|video|embed)\b[^>]*\b(?:src|srcset)=["']?(?:https?:)?//[^"'>\s]+"""
    r"""|<link\b[^>]*\bhref=["']?(?:https?:)?//[^"'>\s]+"""
    r"""|(?:@import\s+|url\()["']?(?:https?:)?//[^"')\s]+"""
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and those that are files elsewhere in the repository."""
    texts = reference.pages()
    texts |= {page: (REPO / path).read_text(encoding="utf-8") for path, page in OUTSIDE.items()}
    for page, text in texts.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links between files of the repository to the pages of the site."""
    return relinked(markdown, page.file.src_uri, set(files.src_uris))


def relinked(markdown: str, page: str, pages: set[str]) -> str:
    """Return the text of a page with links that hold on the site.

    Links in files are relative to the repository. A link to a file that is not on the site becomes its
    text; one to a file that does not exist is logged as a warning.
    """
    source = next((path for path, other in OUTSIDE.items() if other == page), f"docs/{page}")

    def link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[1]))
        target = OUTSIDE.get(path, path.removeprefix("docs/") if path.startswith("docs/") else "")
        if target in pages:
            return posixpath.relpath(target, posixpath.dirname(page) or ".") + (match[2] or "")
        if not (REPO / path).exists():
            log.warning("%s links to %s, which does not exist", source, path)
        return _NOWHERE

    parts = _FENCED.split(markdown)
    for i in range(0, len(parts), 2):  # every other part is a code block
        parts[i] = re.sub(rf"\[([^\]]+)\]\({_NOWHERE}\)", r"\1", _LINK.sub(link, parts[i]))
    return "".join(parts)


_NOWHERE = "not-on-the-site"


def on_post_build(config: MkDocsConfig) -> None:
    """Raise PluginError if a page of the site loads anything from another host."""
    if found := external_assets(Path(config.site_dir)):
        raise PluginError("the site loads assets from elsewhere:\n" + "\n".join(found))


def external_assets(site: Path) -> list[str]:
    """Return `file: tag` for each script, image, style or font that a page or style loads from a host."""
    return [
        f"{path.relative_to(site)}: {match[0]}"
        for path in sorted(site.rglob("*"))
        if path.suffix in (".html", ".css")
        for match in _EXTERNAL.finditer(path.read_text(encoding="utf-8"))
    ]
