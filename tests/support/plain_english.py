"""Measures the English of pages, comments and docstrings: forbidden phrases and words per sentence.

python -m tests.support.plain_english           # this checkout, by folder
python -m tests.support.plain_english 14d49a0   # a commit
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

#: Literary turns that a reader whose first language is not English stumbles over, with the plain words for each.
FORBIDDEN = {
    r"(?:[,;:]|and|but|so|then) who asks": "a client that asks, a user who asks",
    r"whoever": "an attacker who, a person who",
    r"nobody|somebody|anybody": "no client, a person, an attacker, anyone",
    r"(?<!there )(?:is|are|was|were) none": "there is no ..., it does not exist",
    r"(?:is|are|was|were) over(?! (?:the|a|an|\d))": "has ended, has expired",
    r"goes by|go by|went by": "uses, follows, passes",
    r"anew": "again, from the start",
    r"told of|tells of|tell of": "informed about, shows",
    r"by itself|by themselves": "automatically, alone",
    r"so that": "so, to",
    r"as it comes": "by default",
    r"bears? with": "tolerates",
    r"will do\b(?! \w)": "is enough",
    r"worth nothing": "is refused, is useless",
    r"what there is not": "something that does not exist",
    r"sees to it": "ensures, checks",
}
PHRASES = re.compile(r"(?:\b|(?=[,;:]))(?:" + "|".join(FORBIDDEN) + r")\b", re.IGNORECASE)
#: A sentence whose subject is a clause with "Who": `Who asks twice gets one message.`
HEADLESS = re.compile(r"(?:^|[.:;] )(Who (?!it |they |you |we |has an account)[^.?!:;]*)[.!:;]")
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md")


class English(NamedTuple):
    """What one page is like."""

    phrases: list[str]
    sentences: list[str]

    @property
    def words(self) -> int:
        return sum(len(sentence.split()) for sentence in self.sentences)


def read(page: str) -> English:
    """The forbidden phrases in all text that is no code, and the sentences outside of tables and headings."""
    text = re.sub(r"^( *)(```|~~~).*?^\1\2$|<!--.*?-->", "\n\n", page, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"^(?: {4,}(?![-*\d]).*| *:{3,}.*| *:[a-z-]+:.*)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]+`", "CODE", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    lines = [line for line in text.splitlines() if not re.match(r" *(\||#|:?-{3})", line)]
    paragraphs = re.split(r"\n\s*\n|\n(?= *(?:[-*]|\d+\.) )", "\n".join(lines))
    sentences = []
    for paragraph in paragraphs:
        flat = re.sub(r"^(?:[-*]|\d+\.) |\*\*|\n", lambda found: " " if found[0] == "\n" else "", paragraph.strip())
        sentences += re.split(r"(?<=[.?!:])(?<!e\.g\.)(?<!i\.e\.) +(?=[\"(A-Z0-9]|flask_otp)", " ".join(flat.split()))
    flat = " ".join(text.split())
    phrases = [found[0] for found in PHRASES.finditer(flat)]
    phrases += [found[1][:60] for sentence in sentences for found in HEADLESS.finditer(sentence)]
    return English(phrases, [sentence for sentence in sentences if len(sentence.split()) > 1])


def comments(source: str) -> str:
    """The comments and the docstrings of a module, in the form of a page."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    last = 0
    for token in tokens:
        if token.type == tokenize.COMMENT:
            # A sentence may continue in the comment of the next line.
            text = token.string.lstrip("#: ")
            found[-1:] = [f"{found[-1]}\n{text}"] if token.start[0] == last + 1 else [found[-1], text]
            last = token.start[0]
    return re.sub(r"``[^`]+``", "CODE", "\n\n".join(found))


def script_comments(source: str) -> str:
    """The comments of a shell script that have a line of their own, in the form of a page."""
    return re.sub(r"^(?: *#+!? ?(.*)|.*)$", r"\1", source, flags=re.MULTILINE)


def pages(commit: str | None = None) -> dict[str, str]:
    """Each page with its text, of the checkout or of a commit."""
    if commit is None:
        return {
            path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
            for pattern in PAGES
            for path in sorted(ROOT.glob(pattern))
            if "_build" not in path.parts
        }

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    names = [name for name in git("ls-tree", "-r", "--name-only", commit).splitlines() if name.endswith(".md")]
    wanted = [name for name in names if name in PAGES or name.startswith("docs/")]
    return {name: git("show", f"{commit}:{name}") for name in wanted}


def main(commits: list[str]) -> None:
    folders: dict[str, list[English]] = defaultdict(list)
    for name, text in pages(*commits).items():
        folders[str(Path(name).parent) if "/" in name else name].append(read(text))
    print("| folder | pages | words | forbidden phrases | per 1,000 words | words per sentence |\n|" + "---|" * 6)
    folders["all"] = [page for group in list(folders.values()) for page in group]
    for folder, group in folders.items():
        words, phrases = sum(page.words for page in group), sum(len(page.phrases) for page in group)
        mean = words / max(sum(len(page.sentences) for page in group), 1)
        figures = [len(group), f"{words:,}", phrases, f"{1000 * phrases / max(words, 1):.1f}", f"{mean:.1f}"]
        print("| " + " | ".join(map(str, [folder, *figures])) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
