"""What the pages under ``docs/`` say is run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize(
    ("part", "passing"),
    [
        ("(r06 or r07 or step_by_step) and not seed2 and not seed3", 15),
        pytest.param("test", 160, marks=pytest.mark.long),
    ],
    ids=["what counts most", "the whole suite"],
)
def test_the_store_of_the_docs_passes_the_suite(tmp_path: Path, part: str, passing: int) -> None:
    """As its author would do it: two files, in a directory of their own, and pytest."""
    text = (DOCS / "stores.md").read_text(encoding="utf-8")
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        name = re.match(r"# (\w+\.py)\n", block)
        assert name
        (tmp_path / name[1]).write_text(block, encoding="utf-8")
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "-k", part]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "."], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stdout + result.stderr
    passed = re.search(r"^(\d+) passed(, \d+ deselected)? in", result.stdout, re.MULTILINE)
    assert passed, result.stdout
    assert int(passed[1]) >= passing


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
