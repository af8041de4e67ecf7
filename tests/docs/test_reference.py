"""The reference is complete and true: each page against the code, its examples run, what is generated is current."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from jinja2 import Environment, nodes

from flask_otp import OTP, errors, signals
from flask_otp.cli import commands
from flask_otp.config.settings import Settings, known_keys
from flask_otp.errors import OTPError
from flask_otp.hooks import HookDecorators
from flask_otp.http.routes import ROUTES
from tests.support.apps import AppFactory

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
TEMPLATES = ROOT / "flask_otp" / "templates" / "flask_otp"
PAGES = sorted(REFERENCE.glob("*.md"))

sys.path.append(str(ROOT / "docs"))
import generate  # noqa: E402


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """What stands under a heading of the second level."""
    return re.split(r"^## ", text.partition(f"\n## {title}\n")[2], flags=re.MULTILINE)[0]


def headings(text: str, level: int) -> list[str]:
    return re.findall(rf"^{'#' * level} (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_what_is_generated_is_current(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text == generate.generated(text), "run python docs/generate.py"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_example_is_python(path: Path) -> None:
    for block in blocks(path.read_text(encoding="utf-8"), "python"):
        compile(block, path.name, "exec")


# Settings


def test_every_setting_has_a_place_and_its_facts() -> None:
    text = page("settings")
    assert sorted(found for found in headings(text, 3) if found.startswith("OTP_")) == sorted(known_keys())
    for key in known_keys():
        mine = re.split(r"^###? ", text.partition(f"\n### {key}\n")[2], flags=re.MULTILINE)[0]
        assert f"<!-- generated: setting {key} -->" in mine
        assert '"?"' not in mine, "a refused value of the generator"
        [example] = blocks(mine, "python")
        assert f'app.config["{key}"] = ' in example


def test_every_example_of_a_setting_is_accepted() -> None:
    for block in blocks(page("settings"), "python"):
        app = Flask("site")
        exec(compile(block, "settings.md", "exec"), {"app": app})
        assert Settings.from_config(app.config)


# HTTP


def curl(command: str, base: str) -> tuple[int, str]:
    """The few options of curl that the page uses."""
    words = iter(shlex.split(command)[1:])
    method, headers, data, url = "GET", {}, None, ""
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-d":
            data = next(words).encode()
        else:
            url = word.replace("http://127.0.0.1:5000", base)
    asked = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def commands_of(text: str) -> list[str]:
    joined = "".join(blocks(text, "sh")).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("curl")]


def test_the_three_requests_run(example: tuple[str, Any]) -> None:
    base, namespace = example
    text = section(page("http"), "Three requests")
    send, verify, use, end = commands_of(text)
    shown = [json.loads(block) for block in blocks(text, "json")]
    status, body = curl(send, base)
    sent = json.loads(body)
    assert status == 200
    assert sent.keys() == shown[0].keys()
    for name, value in sent.items():
        # The clock is real here, and may tick on between the two ends of a request.
        assert name == "challenge" or value == shown[0][name] or 0 <= shown[0][name] - value <= 1
    code = namespace["app"].extensions["otp"].delivery.transport.outbox.messages()[0].code
    status, body = curl(verify.replace("CODE", code).replace("CHALLENGE", sent["challenge"]), base)
    proved = json.loads(body)
    assert status == 200
    assert proved.keys() == shown[1].keys()
    use, end = (command.replace("PROOF", proved["proof"]) for command in (use, end))
    assert curl(use, base)[0] == 200
    assert curl(end, base)[0] == 204
    assert curl(use, base)[0] == 401


def test_the_requests_of_other_clients_run(example: tuple[str, Any]) -> None:
    base, namespace = example
    send, verify = commands_of(section(page("http"), "Clients that keep the handle themselves"))
    status, body = curl(send, base)
    assert status == 200
    code = namespace["app"].extensions["otp"].delivery.transport.outbox.messages()[0].code
    status, _ = curl(verify.replace("123456", code).replace("HANDLE", json.loads(body)["challenge"]), base)
    assert status == 200
    [repeated] = commands_of(section(page("http"), "Repeating a request safely"))
    assert [curl(repeated.replace("ann@", "eve@"), base)[0] for _ in range(2)] == [200, 200]
    messages = namespace["app"].extensions["otp"].delivery.transport.outbox.messages()
    assert [message.recipient for message in messages].count("eve@example.com") == 1


def test_a_typing_error_is_told_as_shown(app: Flask) -> None:
    [shown] = blocks(section(page("http"), "What a body may contain"), "json")
    answer = app.test_client().post("/otp/send", json={"email": "ann@example.com", "chanel": "x"})
    assert answer.get_json() == json.loads(shown)


def test_every_route_has_a_place() -> None:
    assert sorted(re.findall(r"<!-- generated: route (\w+) -->", page("http"))) == sorted(
        each.endpoint for each in ROUTES
    )


def test_every_endpoint_is_listed(make_app: AppFactory) -> None:
    otp = OTP()
    otp.factors_loader(lambda identifier: None)
    app = make_app(otp)
    there = {rule.endpoint for rule in app.url_map.iter_rules() if rule.endpoint.startswith("otp.")}
    listed = re.findall(r"^\| `(otp\.\w+)`", page("endpoints"), re.MULTILINE)
    assert sorted(listed) == sorted(name for name in there if not name.startswith("otp.unknown"))
    namespace = {"app": app}
    exec(compile(blocks(page("endpoints"), "python")[0], "endpoints.md", "exec"), namespace)
    assert namespace["login_url"] == "/otp/?purpose=transfer&next=/account"


# The rest


def test_every_error_has_a_place() -> None:
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, OTPError)]
    found = headings(section(page("errors"), "Errors of a request"), 3)
    assert sorted(found) == sorted(kind.reason for kind in kinds)
    assert sorted(re.findall(r"<!-- generated: error (\w+) -->", page("errors"))) == sorted(
        kind.__name__ for kind in kinds
    )


def test_every_command_has_a_place(app: Flask) -> None:
    with app.app_context():
        context = commands.make_context("otp", ["routes"])
        there = commands.list_commands(context)
    assert headings(page("cli"), 2) == there
    assert re.findall(r"<!-- generated: command (\S+) -->", page("cli")) == there


def test_every_hook_has_a_place() -> None:
    there = [name for name in vars(HookDecorators) if not name.startswith("_")]
    assert sorted(headings(page("hooks"), 2)) == sorted(there)
    for name in there:
        text = section(page("hooks"), name)
        assert all(f"- **{word}**" in text for word in ("When", "Returns", "Raises")), name


def test_every_signal_is_described_where_the_page_takes_it_from() -> None:
    source = inspect.getsource(signals)
    for name in re.findall(r"^(\w+) = _signals", source, re.MULTILINE):
        assert re.search(rf"^#: .+\n{name} = ", source, re.MULTILINE), name


def test_every_template_is_listed_with_its_blocks_and_variables() -> None:
    text = page("templates")
    there = {path.name for path in TEMPLATES.iterdir()}
    listed = set(re.findall(r"`(\w+\.(?:html|txt))`", text))
    assert listed == there
    sources = "".join((ROOT / "flask_otp" / "http" / name).read_text() for name in ("pages.py", "factor_views.py"))
    for name, shown_blocks, shown in re.findall(
        r"^\| `(\w+\.html)` \| [^|]+ \| ([^|]*) \| ([^|]*) ?\|$", section(text, "Pages"), re.MULTILINE
    ):
        tree = Environment().parse((TEMPLATES / name).read_text(encoding="utf-8"))
        assert re.findall(r"`(\w+)`", shown_blocks) == [block.name for block in tree.find_all(nodes.Block)], name
        documented = set(re.findall(r"`(\w+)`", shown))
        assert used(tree) - documented <= {"site_name", "lang", "dir", "error"}, name
        assert all(f"{each}=" in sources or name == "outbox.html" for each in documented), name
    documented = set(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", section(text, "Messages"), re.MULTILINE))
    words = set(re.findall(r"`(\w+)`", "".join(documented)))
    for name in ("subject.txt", "email.txt", "email.html", "sms.txt"):
        assert used(Environment().parse((TEMPLATES / name).read_text(encoding="utf-8"))) <= words, name


def used(tree: nodes.Template) -> set[str]:
    """The variables that a template gets from outside."""
    made = {each.name for each in tree.find_all(nodes.Name) if each.ctx == "store"} | {"url_for", "loop"}
    made |= {each.target for each in tree.find_all(nodes.Import)} | {each.name for each in tree.find_all(nodes.Macro)}
    for statement in tree.find_all(nodes.FromImport):
        made |= {each if isinstance(each, str) else each[1] for each in statement.names}
    found = {each.name for each in tree.find_all(nodes.Name) if each.ctx == "load"} - made
    return {name for name in found if not name.startswith("otp_")}


TERMS = """identifier, recipient, channel, provider, purpose, context, context values, challenge, handle, code,
strong code, proof, requirement, subject, failure budget, cooldown, send limit, bucket, known browser, trusted browser,
surge, decoy, failover, store, session tag"""


def test_every_term_is_defined_once_and_in_order() -> None:
    found = headings(page("glossary"), 2)
    assert found == sorted(set(found))
    assert {" ".join(term.split()) for term in TERMS.split(",")} <= set(found)


# What commands print


def sessions(text: str) -> list[tuple[list[str], list[str]]]:
    """The arguments of each command that a page shows after ``$ flask otp``, and the lines that it prints."""
    found = []
    for block in blocks(text, "console"):
        command, _, output = block.partition("\n")
        found.append((shlex.split(command.partition(" otp ")[2]), output.splitlines()))
    return found


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """The app of the examples: e-mail by Flask-Mail, which sends nothing here, and a database."""
    app = Flask("shop")
    app.config.update(
        SECRET_KEY="7f3b1c9a04e85d26b1f7c0e9a3d45286cc19e07b5a42f8d3",
        OTP_STORAGE_URI=f"sqlite:///{tmp_path / 'otp.db'}",
        MAIL_SERVER="localhost",
        MAIL_DEFAULT_SENDER="codes@example.com",
        MAIL_SUPPRESS_SEND=True,
        SESSION_COOKIE_SAMESITE="Lax",
        OTP_AUDIT=True,
    )
    OTP(app)
    monkeypatch.chdir(tmp_path)
    return app


def shown_in_order(expected: list[str], printed: list[str]) -> bool:
    """Whether the lines are printed in this order; ``...`` stands for others."""
    if "..." not in expected:
        return expected == printed
    rest = iter(printed)
    return all(line in rest for line in expected if line != "...")


def test_commands_print_what_the_page_shows(shop: Flask, caplog: pytest.LogCaptureFixture) -> None:
    shown = {" ".join(args): lines for args, lines in sessions(page("cli")) if args[0] != "config"}

    def run(command: str) -> list[str]:
        return shop.test_cli_runner().invoke(args=["otp", *command.split()]).output.splitlines()

    # What the others need, in this order.
    first = ("init-db", "show ann@example.com", "send ann@example.com", "unlock ann@example.com")
    with caplog.at_level("INFO", "flask_otp.audit"):
        printed = {command: run(command) for command in first}
    Path("audit.log").write_text("".join(f"{each.message}\n" for each in caplog.records if "audit" in each.name))
    printed |= {command: run(command) for command in shown if command not in first}
    for command, lines in shown.items():
        assert shown_in_order(_alike(command, lines), _alike(command, printed[command])), printed[command]


def _alike(command: str, lines: list[str]) -> list[str]:
    """How much there is to count differs, and so do the random names of chains."""
    counts = command.startswith(("purge", "audit"))
    return [re.sub(r"chain \w+|\d+", "", line) if counts else line for line in lines]


def test_the_finding_on_the_page_of_the_doctor_is_printed_so(shop: Flask) -> None:
    [(args, lines)] = sessions((ROOT / "docs" / "operate" / "doctor.md").read_text(encoding="utf-8"))
    output = shop.test_cli_runner().invoke(args=["otp", *args]).output
    assert shown_in_order([*lines, "..."], output.splitlines()), output


def test_the_error_on_the_page_reads_so(make_app: AppFactory) -> None:
    [shown] = blocks(section(page("errors"), "ConfigError"), "text")
    with pytest.raises(errors.ConfigError) as caught:
        make_app(OTP_CODE_LENGTH=4)
    assert str(caught.value) == shown.strip()
