"""The site of the documentation: every page is listed in its section, and a wrong link is found."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from flask_otp.limits.risk import compute, one_in
from tests.support.apps import AppFactory

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS = sorted(path.parent.name for path in DOCS.glob("*/index.md"))

sys.path.append(str(DOCS))

from check_site import problems  # noqa: E402


def test_every_folder_of_pages_is_a_section() -> None:
    folders = {path.parent.name for path in DOCS.glob("*/*.md")} - {"_build"}
    assert folders == set(SECTIONS)
    [toctree] = re.findall(r"```\{toctree\}\n:hidden:\n\n(.*?)```", (DOCS / "index.md").read_text("utf-8"), re.DOTALL)
    assert sorted(toctree.split()) == [f"{section}/index" for section in SECTIONS]


@pytest.mark.parametrize("section", SECTIONS)
def test_a_section_has_a_sentence_for_each_of_its_pages(section: str) -> None:
    """A new page gets a line in the list of ``docs/<folder>/index.md``, and its name in the toctree below the list."""
    text = (DOCS / section / "index.md").read_text("utf-8")
    listed = re.findall(r"^- \[[^\]]+\]\(([\w-]+)\.md\): .+\.$", text, re.MULTILINE)
    [toctree] = re.findall(r"```\{toctree\}\n:hidden:\n\n(.*?)```", text, re.DOTALL)
    assert listed == toctree.split()
    assert sorted(listed) == sorted(path.stem for path in (DOCS / section).glob("*.md") if path.stem != "index")


def test_the_chance_on_the_first_page_is_that_of_the_default_settings(make_app: AppFactory) -> None:
    odds = compute(make_app().extensions["otp"].settings, accounts=1)
    assert f":::{{grid-item-card}} {one_in(odds.one_account)}\n" in (DOCS / "index.md").read_text("utf-8")


def build(folder: Path, **pages: str) -> list[str]:
    for name, text in pages.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return list(problems(folder))


def test_a_right_site_has_no_problems(tmp_path: Path) -> None:
    first = (
        "<a href='b.html#there'></a><a href='#here' id=here></a><a href='https://example.com/x#y'></a><img src=a.html>"
    )
    assert build(tmp_path, a=first, b="<h1 id=there></h1><a href='a.html'></a><a href='#'></a>") == []


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("<a href='b.html#not-there'></a>", "a.html: b.html#not-there: no such anchor"),
        ("<a href='#not-here'></a>", "a.html: #not-here: no such anchor"),
        ("<a href='c.html'></a>", "a.html: c.html: no such file"),
        ("<img src='c.png'>", "a.html: c.png: no such file"),
        ("<script src='https://cdn.example/x.js'></script>", "a.html: https://cdn.example/x.js: from another host"),
        ("<link rel=stylesheet href='//cdn.example/x'>", "a.html: //cdn.example/x: from another host"),
    ],
)
def test_a_wrong_link_is_found(tmp_path: Path, link: str, problem: str) -> None:
    assert build(tmp_path, a=link, b="<h1 id=there></h1>") == [problem]


def test_a_style_sheet_from_another_host_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url('https://fonts.example/a.woff2') }", encoding="utf-8")
    assert build(tmp_path, a="") == ["a.css: https://fonts.example/a.woff2: from another host"]


def test_a_site_without_pages_is_a_problem(tmp_path: Path) -> None:
    assert len(build(tmp_path)) == 1
