"""Sheets: several screens in one picture, in few colours; and the output of a command as SVG."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from PIL import Image
from playwright.sync_api import Browser
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

_STYLE = """
* { box-sizing: border-box }
body { margin: 0; display: flex }
section { display: flex; gap: 24px; padding: 24px; align-items: flex-start; flex: 1 }
.light { background: #e9e5da }
.dark { background: #090c0e }
img { display: block; border-radius: 12px; border: 1px solid #b9b4a6 }
.dark img { border-color: #3a4349 }
pre { margin: 0; white-space: pre; font: 15px/1.6 "DejaVu Sans Mono", monospace; color: #e8e6e1 }
.window { padding: 26px 30px; border-radius: 14px; background: #14181b; border: 1px solid #3a4349 }
.hero { height: 480px; padding: 0 40px; gap: 0; align-items: center; justify-content: space-between }
.hero { background: #14594f; overflow: hidden }
.hero div { margin-inline-end: 36px }
.hero img { flex: none; align-self: start; margin-block-start: 32px }
.hero img + img { margin-inline-start: -70px; margin-block-start: 80px; outline: 5px solid #14594f }
"""

_COLOURS = {"error": "#ffab9e", "warning": "#f2c97d", "note": "#8fb8e8"}
_LABEL = "#7fcdbd"
#: A line of the doctor begins with the level of a finding, the label of a sentence on the odds, or a part of a finding.
_BEGINNING = re.compile(r"^( {10}(?:Why|Fix|See):|\w+(?= {2,}))")


def sheet(browser: Browser, scheme: str, screens: Sequence[bytes], *, width: int = 300) -> bytes:
    """A row of screens on the paper of their scheme.

    :param scheme: ``light`` or ``dark``.
    :param width: of a screen in the sheet.
    """
    return _drawn(browser, _section(scheme, screens, width), width=len(screens) * (width + 24) + 24)


def side_by_side(browser: Browser, light: bytes, dark: bytes, *, width: int) -> bytes:
    """The same screen twice: light at the left, dark at the right."""
    halves = _section("light", [light], width) + _section("dark", [dark], width)
    return _drawn(browser, halves, width=2 * (width + 48))


def hero(browser: Browser, source: str, light: bytes, dark: bytes) -> bytes:
    """A program, and the page that it shows."""
    code = highlight(source, PythonLexer(), HtmlFormatter(noclasses=True, nobackground=True, style="github-dark"))
    content = f'<section class="hero"><div class="window">{code}</div>{_image(light, 264)}{_image(dark, 264)}</section>'
    return _drawn(browser, content, width=1180)


def _section(scheme: str, screens: Sequence[bytes], width: int) -> str:
    return f'<section class="{scheme}">{"".join(_image(screen, width) for screen in screens)}</section>'


def _image(picture: bytes, width: int) -> str:
    return f'<img alt="" width="{width}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'


def _drawn(browser: Browser, content: str, *, width: int) -> bytes:
    context = browser.new_context(viewport={"width": width, "height": 100}, device_scale_factor=1.5)
    page = context.new_page()
    page.set_content(f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>{content}")
    page.evaluate("Promise.all([...document.images].map((image) => image.decode()))")
    # Whole pixels also at this scale, or the last row would be half transparent.
    page.evaluate("document.body.style.height = 2 * Math.ceil(document.body.getBoundingClientRect().height / 2) + 'px'")
    picture = page.locator("body").screenshot()
    context.close()
    return _in_few_colours(picture)


def _in_few_colours(picture: bytes, most: int = 48) -> bytes:
    """The most frequent colours that differ visibly. Paper keeps its exact colour, and a rare red stays red."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    chosen: list[Any] = []
    for _, colour in sorted(image.getcolors(1 << 24) or [], reverse=True):
        if all(sum(abs(one - other) for one, other in zip(colour, each, strict=True)) > 18 for each in chosen):
            chosen.append(colour)
        if len(chosen) == most:
            break
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for colour in chosen for value in colour])
    reduced = image.quantize(palette=palette, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    reduced.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def terminal(command: str, output: str) -> bytes:
    """What a command has printed, as text that can be searched and copied."""
    lines = [f"$ {command}", "", *output.rstrip().splitlines()]
    width, height = 8.43 * max(map(len, lines)) + 56, 21 * len(lines) + 48
    rows = "\n".join(
        f'<text x="28" y="{42 + 21 * place}">{_coloured(line)}</text>' for place, line in enumerate(lines) if line
    )
    name = f'viewBox="0 0 {width:.0f} {height}" role="img" aria-label="{command}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {name}>
<style>
text {{ font: 14px "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #e8e6e1; white-space: pre }}
tspan {{ font-weight: 700 }}
</style>
<rect width="100%" height="100%" rx="14" fill="#14181b"/>
{rows}
</svg>
""".encode()


def _coloured(line: str) -> str:
    found = _BEGINNING.match(line)
    if not found:
        return escape(line)
    label = found[1]
    indent = label[: len(label) - len(label.lstrip())]
    colour = _COLOURS.get(label, _LABEL)
    return f'{indent}<tspan fill="{colour}">{label.lstrip()}</tspan>{escape(line[found.end() :])}'
