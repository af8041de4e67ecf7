"""A bar for each figure, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

_WIDTH, _BAR, _NAMES = 640, 28, 190


def draw(title: str, figures: Mapping[str, float]) -> str:
    most, lines = max(figures.values()), []
    for place, (name, figure) in enumerate(figures.items()):
        top, width = 40 + place * (_BAR + 8), max(1, (_WIDTH - _NAMES - 80) * figure / most)
        colour = "#2563eb" if place < 2 else "#94a3b8"
        lines += [
            f'<text x="{_NAMES - 8}" y="{top + 19}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{_NAMES}" y="{top}" width="{width:.0f}" height="{_BAR}" fill="{colour}"/>',
            f'<text x="{_NAMES + width + 6:.0f}" y="{top + 19}">{figure:,.0f}</text>',
        ]
    height = 48 + len(figures) * (_BAR + 8)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        f' aria-label="{escape(title)}" font-family="sans-serif" font-size="14">'
    )
    ground = '<rect width="100%" height="100%" fill="#fff"/>'
    return "\n".join(
        [head, ground, f'<text x="8" y="22" font-weight="bold">{escape(title)}</text>', *lines, "</svg>", ""]
    )
