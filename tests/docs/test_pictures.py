"""The pictures of the documentation: small, each on a page, and each with words for people who cannot see it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "pictures"
FILES = sorted(path.name for path in PICTURES.iterdir())
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: An image of a page: its words before its file, or below it.
_INLINE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
_DIRECTIVE = re.compile(r"```\{(?:image|figure)\} (\S+)\n((?::[a-z-]+: .*\n)*)")


def images() -> list[tuple[Path, str, str]]:
    """Each image: its page, its file as the page names it, its words."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found += [(page, target, words) for words, target in _INLINE.findall(text)]
        for target, options in _DIRECTIVE.findall(text):
            words = re.search(r"^:alt: (.+)$", options, re.MULTILINE)
            found.append((page, target, words[1] if words else ""))
    return found


def test_each_image_exists_and_has_words() -> None:
    found = images()
    assert found
    for page, target, words in found:
        assert (page.parent / target).is_file(), f"{page.name}: {target}"
        assert len(words.split()) >= 4, f"{page.name}: {target}"


def test_each_picture_is_on_a_page() -> None:
    shown = {(page.parent / target).resolve() for page, target, _ in images()}
    assert [name for name in FILES if PICTURES / name not in shown] == []


def test_a_picture_is_small_and_is_what_its_name_says() -> None:
    for name in FILES:
        check_picture(name)


def check_picture(name: str) -> None:
    picture = (PICTURES / name).read_bytes()
    assert len(picture) <= 80 * 1024, name
    if name.endswith(".svg"):
        root = ET.fromstring(picture)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert list(root.iter("{http://www.w3.org/2000/svg}text"))
    else:
        assert picture.startswith(b"\x89PNG\r\n"), name


def test_all_together_are_small_enough_for_a_repository() -> None:
    assert sum((PICTURES / name).stat().st_size for name in FILES) <= 2.5 * 1024 * 1024


def test_a_light_picture_has_a_dark_twin() -> None:
    light, dark = (
        {name.removesuffix(end) for name in FILES if name.endswith(end)} for end in ("-light.png", "-dark.png")
    )
    assert light == dark != set()


@pytest.mark.server
@pytest.mark.long
def test_the_same_machine_draws_the_same_picture_again(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "docs" / "pictures.py"), "--folder", str(tmp_path), "hero", "email", "apps"]
    for options in ((), ("--check",)):
        result = subprocess.run([*command, *options], capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stdout + result.stderr
