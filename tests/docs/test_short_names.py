"""``see: flask_otp docs, settings/otp-sms-countries``: every error and finding names a heading that exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import flask_otp
from flask_otp.config.settings import known_keys
from flask_otp.documentation import GENERAL, page_of
from flask_otp.errors import ConfigError

PACKAGE = Path(flask_otp.__file__).parent
DOCS = Path(__file__).parents[2] / "docs"
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(PACKAGE.rglob("*.py"))}


def anchor(heading: str) -> str:
    """The id of a heading in the built site: as docutils makes it."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def exists(name: str) -> bool:
    """Whether exactly one page of the documentation has this name, and the heading."""
    stem, _, heading = name.partition("/")
    pages = list(DOCS.glob(f"*/{stem}.md"))
    if len(pages) != 1:
        return False
    text = re.sub(r"```.*?```", "", pages[0].read_text(encoding="utf-8"), flags=re.DOTALL)
    return not heading or heading in map(anchor, re.findall(r"^#+ (.+)$", text, re.MULTILINE))


def calls(function: str) -> Iterator[tuple[Path, ast.Call]]:
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
                yield path, node


def constant(path: Path, node: ast.expr) -> str:
    """The text of a literal, or of a constant of its module; what an f-string begins with."""
    if isinstance(node, ast.Name):
        for statement in TREES[path].body:
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == node.id:
                return constant(path, statement.value)
    if isinstance(node, ast.JoinedStr):
        return constant(path, node.values[0]) if node.values else ""
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def test_every_config_error_names_a_page_that_exists() -> None:
    """By ``see=``, or by the words that its message begins with. ``page_of(key)`` gives the heading of a setting."""
    for path, call in calls("ConfigError"):
        see = next((each.value for each in call.keywords if each.arg == "see"), None)
        if isinstance(see, ast.Call) and ast.unparse(see.func) == "page_of":
            continue
        name = constant(path, see) if see is not None else page_of(constant(path, call.args[0]))
        place = f"{path.name}:{call.lineno}"
        assert name != GENERAL, f"{place}: the message begins with no setting: pass see="
        assert exists(name), f"{place}: {name}"


def test_every_setting_has_a_heading() -> None:
    for key in known_keys():
        assert exists(page_of(f"{key} must be a number"))
    assert exists(GENERAL)


def test_a_message_is_one_line_that_ends_with_the_page() -> None:
    error = ConfigError("OTP_SMS_COUNTRIES must be a list")
    assert str(error) == "OTP_SMS_COUNTRIES must be a list (see: flask_otp docs, settings/otp-sms-countries)"
    assert error.args == ("OTP_SMS_COUNTRIES must be a list",)
    assert ConfigError("my store has no region").see == GENERAL
    assert ConfigError("my store has no region", see="stores/make-it-known").see == "stores/make-it-known"


def findings() -> list[str]:
    """The name of each finding: the first argument of ``Finding``, or of a helper whose first parameter it is."""
    found = [(path, call.args[0]) for path, call in calls("Finding")]
    for helper in {node.name for tree in TREES.values() for node in ast.walk(tree) if is_helper(node)}:
        found += [(path, call.args[0]) for path, call in calls(helper)]
    return [constant(path, name) for path, name in found if ast.unparse(name) != "name"]


def is_helper(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.FunctionDef)
        and [each.arg for each in node.args.args[:1]] == ["name"]
        and any(isinstance(each, ast.Call) and ast.unparse(each.func) == "Finding" for each in ast.walk(node))
    )


def test_every_finding_has_its_own_name_and_its_place() -> None:
    names = findings()
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)
    assert len(names) == len(set(names))
    page = (DOCS / "operate" / "doctor.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^### (.+)$", page, re.MULTILINE)) == sorted(names)
    for name in names:
        text = re.split(r"^##", page.partition(f"\n### {name}\n")[2], flags=re.MULTILINE)[0]
        assert "- **Why**: " in text, name
        assert "- **Fix**: " in text, name


def test_reports_and_logs_name_pages_that_exist() -> None:
    named = [constant(path, call.args[0]) for path, call in calls("see") if isinstance(call.args[0], ast.Constant)]
    assert len(named) >= 3
    assert all(map(exists, named)), named
