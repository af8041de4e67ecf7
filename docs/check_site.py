"""Look through the built site: each link leads to a page and an anchor that exist, and nothing comes from another host.

    python docs/check_site.py docs/_build

Sphinx warns about a wrong link in a page's source. It does not see a link in raw HTML, in a theme or in a docstring.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: What a browser loads without a click. A link to another page of ours, such as rel="next", is checked as a link.
_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "srcset", "video": "src", "object": "data"}
_LOADED_LINKS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "modulepreload", "manifest"}


class Page(HTMLParser):
    """The anchors and the links of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = {"", "top"}
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found[name] for name in ("id", "name") if name in found}
        if tag in ("a", "link") and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and _LOADED_LINKS & set(found.get("rel", "").split()):
            self.loaded.append(found["href"])
        if _LOADED.get(tag, "") in found:
            self.loaded.append(found[_LOADED[tag]])


def problems(site: Path) -> Iterator[str]:
    """One line for each wrong link, and for each thing that would be loaded from another host."""
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site} has no pages"
    for path, page in pages.items():
        name = path.relative_to(site).as_posix()
        for link in dict.fromkeys(page.links + page.loaded):
            reason = _wrong(path, link, pages)
            if reason:
                yield f"{name}: {link}: {reason}"
        for link in page.loaded:
            if urlsplit(link).netloc:
                yield f"{name}: {link}: from another host"
    for path in sorted(site.rglob("*.css")):
        for link in re.findall(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s]+)", path.read_text("utf-8")):
            yield f"{path.relative_to(site).as_posix()}: {link}: from another host"


def _wrong(path: Path, link: str, pages: dict[Path, Page]) -> str:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "no such file"
    page = pages.get(target)
    return "" if page is None or unquote(parts.fragment) in page.ids else "no such anchor"


def main(folder: str) -> None:
    found = list(problems(Path(folder).resolve()))
    print(*found, f"{len(found)} problems", sep="\n")
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
