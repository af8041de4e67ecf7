"""The plots that are committed are what the kept figures make, and they can be read."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "plots"
SVGS = sorted(path.name for path in FOLDER.glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"


def module() -> Any:
    spec = spec_from_file_location("plots", ROOT / "docs" / "plots.py")
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_plots_are_drawn_from_the_kept_figures() -> None:
    drawn = module().plots()
    assert sorted(drawn) == SVGS
    for name, svg in drawn.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == svg, f"run `nox -s plots`: {name}"


@pytest.mark.parametrize("name", SVGS)
def test_a_plot_has_a_title_a_source_and_lies_within_its_picture(name: str) -> None:
    picture = ET.parse(FOLDER / name).getroot()
    width, height = (float(part) for part in picture.attrib["viewBox"].split()[2:])
    for part in ("title", "desc"):
        assert (picture.findtext(f"{SVG}{part}") or "").strip()
    bars = [bar for bar in picture.iter(f"{SVG}rect") if bar.attrib["class"] != "ground"]
    for bar in bars:
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) <= width
    for text in picture.iter(f"{SVG}text"):
        kinds = text.attrib.get("class", "").split()
        letter = 9.5 if "title" in kinds else 6.4 if "small" in kinds else 7  # units, on average
        length, x = letter * len(text.text or ""), float(text.attrib["x"])
        left = x - {"end": length, "middle": length / 2}.get(text.attrib.get("text-anchor", ""), 0)
        assert left >= 0, text.text
        assert left + length <= width, text.text
        assert 0 < float(text.attrib["y"]) < height


@pytest.mark.parametrize("name", SVGS)
def test_a_page_shows_each_plot_and_says_in_words_what_is_in_it(name: str) -> None:
    texts = [
        path.read_text(encoding="utf-8") for path in [ROOT / "benchmarks" / "README.md", *ROOT.glob("docs/*/*.md")]
    ]
    shown = [alt for text in texts for alt in re.findall(rf"!\[([^\]]+)\]\([./a-z]*plots/{name}\)", text)]
    assert shown
    assert all(len(alt) > 40 for alt in shown)
