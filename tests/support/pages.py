"""The code blocks of the documentation.

A block below ``<!-- fragment -->`` is a part of a program, or a sketch. It is compiled. Everything else is run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES = DOCS / "guides"

_BLOCK = re.compile(
    r"^(?P<mark>[ ]*<!-- fragment -->\n)?(?P<indent>[ ]*)```(?P<language>[\w+-]+)\n(?P<text>.*?)^[ ]*```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    is_fragment: bool
    #: Of the fence, counted from 1.
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _BLOCK.finditer(text):
        body = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        line = text.count("\n", 0, found.start("language")) + 1
        yield Block(found["language"], body, found["mark"] is not None, line)


def programs(page: Path) -> list[str]:
    """The Python of a page, but for its fragments."""
    return [block.text for block in blocks(page) if block.language == "python" and not block.is_fragment]
