"""Writes into the pages what only the code knows: defaults, accepted values, routes, the help of commands.

    python docs/generate.py

A page says where: between ``<!-- generated: KIND NAME -->`` and ``<!-- end -->``. All other text is written by hand.
tests/docs/test_reference.py fails when a page is not what this program would write.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from werkzeug.exceptions import HTTPException

from flask_otp import errors
from flask_otp.cli import commands
from flask_otp.config.settings import PREFIX, Purpose, Settings
from flask_otp.errors import OTPError
from flask_otp.http.routes import ROUTES, Route

DOCS = Path(__file__).parent
_BLOCK = re.compile(r"(<!-- generated: (\w+) ?(\S*) -->\n).*?(<!-- end -->)", re.DOTALL)
#: Values that parsers refuse. What a parser says about them tells what it accepts.
_REFUSED = (object(), 10**12, ("?",), {"?": object()})
#: A value within a sentence, which is set as code.
_LITERAL = re.compile(r"\{.*\}|\([^)]*\)|\"[^\"]*\"|\b(?:True|False)\b")
_LENGTHS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def setting(key: str) -> str:
    """Default, accepted values, and whether purposes may differ."""
    name = key.removeprefix(PREFIX).lower()
    item = _settings()[name]
    rows = [f"- Default: `{_python(item.metadata['default'])}`", f"- Accepts: {_accepts(item)}"]
    if any(each is item for each in fields(Purpose)):
        rows.append(f"- Per purpose: yes, as `{name}`")
    if item.metadata["secret"]:
        rows.append("- Secret: no error message and no command shows the value")
    return "\n".join(rows)


def _settings() -> dict[str, Field[Any]]:
    return {item.name: item for item in (*fields(Purpose), *fields(Settings)) if "parse" in item.metadata}


def _python(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value).replace("'", '"')


def _accepts(item: Field[Any]) -> str:
    parse, said = item.metadata["parse"], []
    for value in _REFUSED:
        try:
            parse(value)
        except ValueError as error:
            said.append(_told(str(error)))
    # What is said about a list's or dict's members is more exact than what is said about a number.
    general = ("a list of names", "a dict with names as keys")
    words = [each for each in dict.fromkeys(said) if each != general[0] or len(set(said)) == 1]
    text = " and as values ".join(words) if words[0] == general[1] else ", ".join(words[:2])
    text = text.replace("names as keys and as values known are", "the keys")
    text = _LITERAL.sub(r"`\g<0>`", text)
    try:
        parse(None)
    except ValueError:
        return text
    return f"{text}, or `None`"


def _told(text: str) -> str:
    """The second half of an error's sentence, without the refused value."""
    text = text.removeprefix("must be ").removesuffix(", not '?'").replace("'", '"')
    if text.startswith("a duration"):
        return "a duration"
    if text.startswith(("has no ", "cannot widen ")):
        return text.partition(": ")[2]
    if bounds := re.fullmatch(r"between (\d+) and (\d+) seconds", text):
        return f"from {_length(int(bounds[1]))} to {_length(int(bounds[2]))}"
    return text


def _length(seconds: int) -> str:
    size, unit = next(each for each in _LENGTHS if (seconds % each[0] == 0 and seconds >= each[0]) or each[0] == 1)
    count = seconds // size
    return f"{count} {unit}{'' if count == 1 else 's'}"


def error(name: str) -> str:
    """Status and reason of an error."""
    kind: type[OTPError] = getattr(errors, name)
    return f"`{kind.__name__}` · status {kind.code} · reason `{kind.reason}`"


def command(name: str) -> str:
    """What ``flask otp NAME --help`` prints."""
    words = [name, "--help"] if name else ["--help"]
    result = CliRunner().invoke(commands, words, prog_name="flask otp", terminal_width=88, max_content_width=88)
    return f"```text\n{result.output.rstrip()}\n```"


def route(name: str) -> str:
    """What one route takes and returns, and its errors."""
    found = next(each for each in ROUTES if each.endpoint == name)
    rows = [_sentence(found), ""]
    members = found.members or found.query
    if members:
        rows += [f"| {'member' if found.members else 'query'} | meaning |", "|---|---|"]
        rows += [
            f"| `{each.name}`{' (true or false)' if each.is_flag else ''} | {each.description} |" for each in members
        ]
        rows.append("")
    rows.append(f"- Response: {_answer(found)}")
    if found.errors:
        rows.append(f"- Errors: {', '.join(dict.fromkeys(map(_reason, found.errors)))}")
    return "\n".join(rows)


def _sentence(found: Route) -> str:
    return found.summary if not found.needs else f"{found.summary} The route exists if {_NEEDS[found.needs]}."


def _answer(found: Route) -> str:
    if found.answer == "page":
        return "a page"
    return f"200 with a `{found.answer}`" if found.answer else "204"


def _reason(kind: type[HTTPException]) -> str:
    if issubclass(kind, OTPError):
        return f"[`{kind.reason}`](errors.md#{kind.reason})"
    return f"`{OTPError.from_http(kind()).reason}`"


def endpoints(name: str) -> str:
    """The names for ``url_for``."""
    rows = ["| endpoint | route | exists |", "|---|---|---|"]
    for each in ROUTES:
        when = f"if {_NEEDS[each.needs]}" if each.needs else "always"
        rows.append(f"| `otp.{each.endpoint}` | `{each.method} /otp{each.path}` | {when} |")
    return "\n".join(rows)


_NEEDS = {
    "factors": "[`@otp.factors_loader`](hooks.md#factors_loader) is registered",
    **{name: f"[`OTP_{name.upper()}`](settings.md#otp_{name}) is `True`" for name in ("links", "openapi", "health")},
}

_KINDS: dict[str, Callable[[str], str]] = {each.__name__: each for each in (setting, error, command, route, endpoints)}


def generated(text: str) -> str:
    """A page with all of its blocks as they should be."""
    return _BLOCK.sub(lambda block: f"{block[1]}{_KINDS[block[2]](block[3])}\n{block[4]}", text)


if __name__ == "__main__":
    for page in sorted(DOCS.rglob("*.md")):
        before = page.read_text(encoding="utf-8")
        after = generated(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(page.relative_to(DOCS))
