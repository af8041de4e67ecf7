"""Pages, comments and docstrings are written for readers whose first language is not English: plain words,
and short sentences on the pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import plain_english

PAGES = plain_english.pages()
SOURCES = ("*.py", ".ci/*", "docs/*.py", "flask_otp/**/*.py", "tests/**/*.py", "benchmarks/*.py")
FILES = [path for pattern in SOURCES for path in plain_english.ROOT.glob(pattern) if path.is_file()]
#: Words of a sentence. The fifteen pages of other projects that we compared with have 8 to 21 on average.
MEAN, LONGEST = 16, 40


def test_no_page_has_a_forbidden_phrase() -> None:
    found = {page: plain_english.read(text).phrases for page, text in PAGES.items()}
    assert {page: phrases for page, phrases in found.items() if phrases} == {}


def test_no_comment_or_docstring_has_a_forbidden_phrase() -> None:
    assert len(FILES) > 300
    found = {path: plain_english.read(comments_of(path)).phrases for path in FILES if may_have_a_phrase(path)}
    assert {path: phrases for path, phrases in found.items() if phrases} == {}


def may_have_a_phrase(path: Path) -> bool:
    """Taking the comments out of all 370 files takes seconds. Most have no such words at all, in code or comments."""
    words = re.sub(r"\s+(?:#:?\s*)?", " ", path.read_text(encoding="utf-8"))
    return plain_english.PHRASES.search(words) is not None or "Who " in words


def comments_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return plain_english.comments(text) if path.suffix == ".py" else plain_english.script_comments(text)


def test_sentences_are_short() -> None:
    for page, text in PAGES.items():
        english = plain_english.read(text)
        assert english.words <= MEAN * len(english.sentences), page
        assert [sentence for sentence in english.sentences if len(sentence.split()) > LONGEST] == [], page


@pytest.mark.parametrize(
    ("text", "phrases"),
    [
        ("It begins anew.", ["anew"]),
        ("Who asks twice gets one.", ["Who asks twice gets one"]),
        ("The code\nis over. It is over 10 minutes old.", ["is over"]),
        ("A person who asks twice gets one.", []),
        ("Who has an account?", []),
        ("`so that` and\n\n```python\nanew = 1\n```\n", []),
        ("| fault | it goes by |\n", ["goes by"]),
    ],
)
def test_the_search_finds_a_phrase_in_text_only(text: str, phrases: list[str]) -> None:
    assert plain_english.read(text).phrases == phrases


def test_sentences_are_counted_outside_of_code_tables_and_headings() -> None:
    page = (
        "# A heading\n\nOne two three. Four `five six`:\n\n- seven eight\n  nine.\n\n| a | table |\n\n    code here\n"
    )
    assert plain_english.read(page).sentences == ["One two three.", "Four CODE:", "seven eight nine."]


def test_comments_and_docstrings_are_read_and_code_is_not() -> None:
    code = '#: Goes on so\n#: that it ends.\nanew = "goes by"\n\n\ndef f():\n    """Is over."""\n'
    source = f'"""Begins anew."""\n\n{code}'
    assert plain_english.read(plain_english.comments(source)).phrases == ["anew", "Is over", "so that"]


def test_comments_of_a_script_are_read_and_commands_are_not() -> None:
    script = "#!/bin/sh\n# Goes on so\n# that it ends.\nanew  # worth nothing\n\n  # Begins anew.\n"
    assert plain_english.read(plain_english.script_comments(script)).phrases == ["so that", "anew"]
