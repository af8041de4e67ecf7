"""The audit log: what is in a line, and that no change of a file goes unseen."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_otp.crypto.keys import Keys
from flask_otp.events import Event, pseudonym
from flask_otp.observability.audit import Audit, check
from flask_otp.testing import capture_codes
from tests.support.apps import AppFactory
from tests.support.examples import examples
from tests.support.leaks import layers

ANN = "ann@example.com"
KEYS = Keys(b"a secret of tests only", "otp")


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the audit logger is given."""
    written: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(record.getMessage())

    log, handler = logging.getLogger("flask_otp.audit"), Keep()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield written
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


def visit(app: Flask) -> list[str]:
    """Send, fail, verify, be refused, log out. Answers what must not be in a line."""
    client = app.test_client()
    client.environ_base["REMOTE_ADDR"] = "203.0.113.77"
    with capture_codes(app) as sent:
        handle = client.post("/otp/send", json={"email": ANN}).get_json()["challenge"]
        wrong = f"{(int(sent.code) + 1) % 10**6:06}"
        client.post("/otp/verify", json={"code": wrong})
        proof = client.post("/otp/verify", json={"code": sent.code}).get_json()["proof"]
        app.test_client().post("/otp/send", json={"email": ANN}, environ_base={"REMOTE_ADDR": "203.0.113.77"})
        client.post("/otp/logout")
        return [ANN, "203.0.113.77", handle, proof, sent.code, wrong]


def test_a_visit_is_written_in_ocsfs_words_and_names_nobody(make_app: AppFactory, lines: list[str]) -> None:
    app = make_app(OTP_AUDIT=True)
    secrets = visit(app)
    found = [json.loads(line) for line in lines]
    assert [line["unmapped"]["kind"] for line in found] == [
        "code_sent",
        "code_rejected",
        "code_verified",
        "limit_reached",
        "proof_revoked",
    ]
    assert [(line["class_uid"], line["activity_id"], line["status"]) for line in found] == [
        (3002, 99, "Success"),
        (3002, 1, "Failure"),
        (3002, 1, "Success"),
        (3002, 99, "Failure"),
        (3002, 2, "Success"),
    ]
    assert {line["type_uid"] - line["activity_id"] for line in found} == {300200}
    assert found[1]["status_detail"] == "wrong"
    assert {line["src_endpoint"]["subnet_uid"] for line in found} == {"203.0.113.0/24"}
    subject = pseudonym(app.extensions["otp"].tokens.keys, ANN)
    assert [line["user"]["uid"] for line in found if "user" in line] == [subject] * 4
    for secret in secrets:
        assert not any(secret.encode() in layer for layer in layers("\n".join(lines))), secret
    assert check(lines, app.extensions["otp"].tokens.keyring).problems == []


@pytest.mark.parametrize(
    ("kind", "activity", "status", "severity"),
    [
        ("code_sent", (99, "Other"), (1, "Success"), 1),
        ("delivery_failed", (99, "Other"), (2, "Failure"), 2),
        ("message_withheld", (99, "Other"), (2, "Failure"), 2),
        ("code_verified", (1, "Logon"), (1, "Success"), 1),
        ("code_rejected", (1, "Logon"), (2, "Failure"), 2),
        ("limit_reached", (99, "Other"), (2, "Failure"), 2),
        ("guard_decided", (99, "Other"), (2, "Failure"), 2),
        ("budget_spent", (99, "Other"), (1, "Success"), 3),
        ("surge", (99, "Other"), (1, "Success"), 3),
        ("sms_pumping", (99, "Other"), (1, "Success"), 3),
        ("proof_revoked", (2, "Logoff"), (1, "Success"), 1),
    ],
)
def test_a_line_has_exactly_these_members(
    lines: list[str], kind: str, activity: tuple[int, str], status: tuple[int, str], severity: int
) -> None:
    audit = Audit(Flask("shop"), KEYS)
    own = {"purpose": "pay", "channel": "sms", "step": "send", "country": "DE", "message_id": "an id"}
    event = Event(kind, 1_790_000_000.5, "ended", "a reason", **own, subject="ann", challenge="one", network="net")
    for each in (event, Event(kind, 1_790_000_001, "ended")):
        audit._receive(Flask("x"), each)
    full, least = map(json.loads, lines)
    assert re.fullmatch("[0-9a-f]{32}", full.pop("mac"))
    chain = full["metadata"].pop("log_name")
    assert full == {
        "class_uid": 3002,
        "class_name": "Authentication",
        "category_uid": 3,
        "activity_id": activity[0],
        "activity_name": activity[1],
        "type_uid": 300200 + activity[0],
        "time": 1_790_000_000_500,
        "severity_id": severity,
        "status_id": status[0],
        "status": status[1],
        "status_detail": "a reason",
        "user": {"uid": "ann"},
        "session": {"uid": "one"},
        "src_endpoint": {"subnet_uid": "net"},
        "service": {"name": "shop"},
        "metadata": {"version": "1.3.0", "product": {"name": "flask_otp"}, "sequence": 0},
        "unmapped": {"kind": kind, "outcome": "ended", **own},
    }
    assert full.keys() - least.keys() == {"status_detail", "user", "session", "src_endpoint"}
    assert (least["metadata"]["log_name"], least["metadata"]["sequence"]) == (chain, 1)
    assert least["unmapped"] == {"kind": kind, "outcome": "ended"}


def test_a_passed_guard_is_not_written(lines: list[str]) -> None:
    Audit(Flask("x"), KEYS)._receive(Flask("x"), Event("guard_decided", 0, "passed"))
    assert lines == []


def test_without_the_setting_nothing_is_written(make_app: AppFactory, lines: list[str]) -> None:
    visit(make_app())
    assert lines == []


def test_the_command_says_what_it_found(make_app: AppFactory, lines: list[str], tmp_path: Path) -> None:
    app = make_app(OTP_AUDIT=True)
    visit(app)
    runner, path = app.test_cli_runner(), tmp_path / "audit.log"

    def run(text: list[str]) -> tuple[int, str]:
        path.write_text("".join(f"INFO {line}\n" for line in text), encoding="utf-8")
        result = runner.invoke(args=["otp", "audit", str(path)])
        return result.exit_code, result.output

    code, output = run(lines)
    assert (code, output.splitlines()[-1]) == (0, "5 lines, unchanged.")
    assert "5 lines, the last is 4" in output
    code, output = run(lines[:2] + lines[3:])
    assert code == 1
    assert "line 3: chain" in output
    assert "after a gap, expected 2" in output
    assert run([])[0] == 1
    app.secret_key = "another secret altogether"
    other = make_app(SECRET_KEY="another secret of the same size")
    runner = other.test_cli_runner()
    assert "SECRET_KEY is a different one" in run(lines)[1]


def write(count: int, audit: Audit, lines: list[str]) -> list[str]:
    before = len(lines)
    for number in range(count):
        audit._receive(Flask("x"), Event("code_sent", 1_790_000_000 + number, "sent", subject=f"{number:016x}"))
    return lines[before:]


@examples(50, 1000)
@given(data=st.data())
def test_any_change_of_a_file_of_several_processes_is_found(data: st.DataObject, lines: list[str]) -> None:
    lines.clear()
    chains = [write(data.draw(st.integers(2, 5)), Audit(Flask("x"), KEYS), lines) for _ in range(2)]
    # However the processes take turns.
    turns = data.draw(st.permutations([index for index, chain in enumerate(chains) for _ in chain]))
    rest = [iter(chain) for chain in chains]
    file = [next(rest[turn]) for turn in turns]
    assert check(file, [Keys(b"newer, so tried first", "otp"), KEYS]).problems == []

    ends = [file.index(chain[-1]) for chain in chains]
    place = data.draw(st.integers(0, len(file) - 1))
    same = [index for index, turn in enumerate(turns) if turn == turns[place] and index != place]
    change = data.draw(st.sampled_from(["remove", "repeat", "swap", "change", "mac", "cut"]))
    forged = list(file)
    if change == "remove":
        del forged[place]
    elif change == "repeat":
        forged.insert(data.draw(st.integers(place, len(file))), file[place])
    elif change == "swap":
        other = data.draw(st.sampled_from(same))
        forged[place], forged[other] = forged[other], forged[place]
    else:
        forged[place] = spoilt(file[place], change, data)
    if change == "remove" and place in ends:
        return  # the end of a chain: nothing comes after it
    assert check(forged, [KEYS]).problems != []


def spoilt(line: str, change: str, data: Any) -> str:
    if change == "cut":
        return line[: data.draw(st.integers(1, len(line) - 1))]
    at = line.rindex('"mac":"') + 7 if change == "mac" else 0
    place = data.draw(st.integers(at, len(line) - 3))
    other = data.draw(st.sampled_from("0123456789abcdef}{\"',: "))
    return line[:place] + (other if other != line[place] else "z") + line[place + 1 :]


def test_a_change_of_the_first_line_is_found(lines: list[str]) -> None:
    first, *others = write(3, Audit(Flask("x"), KEYS), lines)
    (problem,) = check([first.replace('"sent"', '"SENT"'), *others], [KEYS]).problems
    assert re.fullmatch("line 1: chain [0-9a-f]{16}: line 0 was changed, or SECRET_KEY is a different one", problem)


def test_lines_between_are_told_and_the_others_are_checked(lines: list[str]) -> None:
    file = write(3, Audit(Flask("x"), KEYS), lines)
    cut, odd = file[2][:-1], file[2].replace('"sequence":2', '"sequence":"2"')
    report = check([file[0], "", "hello", file[1], file[1], cut, odd, file[2]], [KEYS])
    chain = json.loads(file[0])["metadata"]["log_name"]
    assert report.problems == [
        "line 3: not a line of the audit log",
        f"line 5: chain {chain}: line 1 is repeated or out of order, expected 2",
        "line 6: it cannot be read: it was changed or cut",
        "line 7: it cannot be read: it was changed or cut",
    ]
    assert (report.lines, report.chains[chain].lines) == (6, 4)


def test_a_file_that_was_rotated_is_checked_with_the_one_before(lines: list[str]) -> None:
    file = write(6, Audit(Flask("x"), KEYS), lines)
    assert check(file[:3] + file[3:], [KEYS]).problems == []
    (problem,) = check(file[3:], [KEYS]).problems
    assert "its first 3 lines are missing, or are in an earlier file" in problem


def test_a_handler_that_breaks_breaks_nothing_else(
    make_app: AppFactory, lines: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(OTP_AUDIT=True)
    monkeypatch.setattr("flask_otp.observability.audit._members", lambda *_: 1 / 0)
    with capture_codes(app):
        assert app.test_client().post("/otp/send", json={"email": ANN}).status_code == 200
    told = "a line of the audit log was not written: ZeroDivisionError"
    assert caplog.record_tuples == [("flask_otp", logging.ERROR, told)]
