"""``flask otp ...``, as an operator sees it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_otp import OTP, Message
from flask_otp.testing import Clock, Outbox
from tests.support.apps import SECRET, START, AppFactory, ValkeyServer, free_port


def run(app: Flask, *args: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["otp", *args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def test_the_commands_are_listed(app: Flask) -> None:
    code, output = run(app, "--help")
    assert code == 0
    for name in ("init-db", "purge", "send", "revoke", "routes", "show", "unlock"):
        assert f"  {name} " in output


def test_a_store_that_needs_nothing_says_so(app: Flask) -> None:
    assert run(app, "init-db") == (0, "This store needs no preparation.\n")
    assert run(app, "purge") == (0, "This store removes expired state on its own.\n")


def test_send_sends_a_real_code_and_shows_the_destination_masked(app: Flask, outbox: Outbox) -> None:
    code, output = run(app, "send", "Ann@example.com")
    assert (code, output) == (0, "Sent by channel 'console', to a***@example.com.\n")
    assert outbox.code not in output
    assert [message.recipient for message in outbox] == ["ann@example.com"]


@pytest.mark.parametrize("mode", ["auto", "inline", "background"])
def test_send_waits_for_what_becomes_of_the_message(make_app: AppFactory, mode: str) -> None:
    """A background thread would end with the process, and the operator would not see its error."""
    otp, sent, broken = OTP(), list[Message](), [True]

    @otp.channel("sms")
    def deliver(message: Message) -> None:
        if broken:
            raise OSError
        sent.append(message)

    otp.recipient_loader(lambda identifier, channel: "+4915112345678" if identifier == "ann@example.com" else None)
    app = make_app(otp, OTP_DELIVERY=mode, OTP_SMS_COUNTRIES=("DE",), OTP_COOLDOWN=0)
    assert run(app, "send", "ann@example.com") == (
        1,
        "Error: The code could not be sent. Please try again in a moment.\n",
    )
    broken.clear()
    assert run(app, "send", "ann@example.com") == (0, "Sent by channel 'sms', to +4*******78.\n")
    assert [message.recipient for message in sent] == ["+4915112345678"]
    assert run(app, "send", "bob@example.com") == (
        1,
        "Error: Nothing was sent: the recipient_loader returns no recipient for it.\n",
    )


@pytest.mark.parametrize(
    ("identifier", "config", "why"),
    [
        ("+14155550132", {}, "the phone number is not valid, or not in OTP_SMS_COUNTRIES"),
        ("+4915112345678", {"OTP_PREFIX_BUDGET": {"+49": "1/day"}}, "OTP_PREFIX_BUDGET or OTP_PUMPING"),
        ("+4915112345678", {"OTP_DELIVER_ONLY_TO": ("@example.org",)}, "the recipient is not in OTP_DELIVER_ONLY_TO"),
        ("+15550100", {"OTP_TEST_RECIPIENTS": {"+15550100": ("402817", "2099-01-31")}}, "it is a test recipient"),
    ],
)
def test_send_says_why_nothing_went_out(
    make_app: AppFactory, identifier: str, config: dict[str, Any], why: str
) -> None:
    otp = OTP()
    otp.channel("sms")(lambda message: None)
    app = make_app(otp, OTP_SMS_COUNTRIES=("DE",), OTP_COOLDOWN=0, **config)
    if "OTP_PREFIX_BUDGET" in config:
        assert run(app, "send", "+4915112345679")[0] == 0
    code, output = run(app, "send", identifier)
    assert code == 1
    assert f"Nothing was sent: {why}" in output


def test_send_says_what_before_send_withheld_and_what_a_queue_was_given(make_app: AppFactory) -> None:
    otp, queued = OTP(), list[dict[str, str]]()
    otp.before_send(lambda message: message.recipient != "ann@example.com")
    app = make_app(otp)
    assert run(app, "send", "ann@example.com") == (1, "Error: Nothing was sent: before_send withheld it.\n")
    otp.dispatcher(queued.append)
    assert run(app, "send", "bob@example.com")[1].startswith("Given to the dispatcher for channel 'console', to b***")
    assert len(queued) == 1


@pytest.mark.parametrize("channel", ["totp", "recovery"])
def test_send_says_that_nothing_is_sent_for_codes_that_people_look_up(make_app: AppFactory, channel: str) -> None:
    otp = OTP()
    otp.factors_loader(lambda identifier: None)
    assert run(make_app(otp), "send", "ann@example.com", "--channel", channel) == (
        1,
        f"Error: Nothing was sent: channel '{channel}' sends nothing, because people look its codes up.\n",
    )


def test_send_says_what_a_worker_withheld_within_the_command(make_app: AppFactory) -> None:
    otp = OTP()
    otp.dispatcher(otp.deliver)
    code, output = run(make_app(otp, OTP_DELIVER_ONLY_TO=("@example.org",)), "send", "ann@example.com")
    assert code == 1
    assert "Error: Nothing was sent: the recipient is not in OTP_DELIVER_ONLY_TO" in output


def test_send_takes_a_channel_and_a_purpose(make_app: AppFactory) -> None:
    sent = []
    otp = OTP()
    otp.channel("pigeon")(sent.append)
    app = make_app(otp, OTP_PURPOSES={"login": {}, "transfer": {}})
    assert run(app, "send", "ann@example.com", "--channel", "pigeon", "--purpose", "transfer")[0] == 0
    assert [(message.channel, message.purpose) for message in sent] == [("pigeon", "transfer")]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["send", "nobody"], "Please enter a valid e-mail address"),
        (["send", "ann@example.com", "--channel", "pigeon"], "There is no such channel"),
        (["send", "ann@example.com", "--purpose", "nothing"], "There is no such purpose"),
        (["revoke", "ann@example.com"], "memory:// is inside the serving process"),
    ],
)
def test_a_failure_is_one_line_and_exit_code_1(app: Flask, args: list[str], line: str) -> None:
    code, output = run(app, *args)
    assert code == 1
    assert f"Error: {line}" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "command", [["init-db"], ["purge"], ["revoke", "ann@example.com"], ["show", "ann@example.com"]]
)
@pytest.mark.parametrize("scheme", ["postgresql+psycopg://me:hunter2@", "mysql+pymysql://me:hunter2@"])
def test_a_store_out_of_reach_is_a_failure_too(make_app: AppFactory, scheme: str, command: list[str]) -> None:
    app = make_app(OTP_STORAGE_URI=f"{scheme}127.0.0.1:{free_port()}/db")
    code, output = run(app, *command)
    assert code == 1
    assert "Error: This is temporarily unavailable" in output
    assert "OperationalError" in output
    assert "hunter2" not in output


def test_routes_lists_ours_wherever_they_are(make_app: AppFactory) -> None:
    app = make_app(OTP_URL_PREFIX="/codes")
    code, output = run(app, "routes")
    assert code == 0
    assert "POST   /codes/send\n" in output
    listed = {line.split()[1] for line in output.splitlines()}
    assert listed == {rule.rule for rule in app.url_map.iter_rules() if "/codes/" in rule.rule} - {"/codes/<path:rest>"}


def test_routes_of_an_app_without_pages(make_app: AppFactory) -> None:
    app = make_app(OTP(register_blueprint=False))
    assert run(app, "routes") == (0, "None: its blueprint is not registered.\n")


def test_an_apps_own_command_of_that_name_stays(make_app: AppFactory) -> None:
    app = Flask("site")
    app.config.update(TESTING=True, SECRET_KEY="a secret that is long enough")
    app.cli.command("otp")(lambda: print("mine"))
    OTP(app)
    assert run(app) == (0, "mine\n")


# For support


@pytest.fixture
def desk(make_app: AppFactory, tmp_path: Path) -> Flask:
    """An app whose state another process can see."""
    otp = OTP(clock=Clock(START))
    otp.channel("email")(lambda message: None)
    return make_app(otp, OTP_STORAGE_URI=f"sqlite:///{tmp_path / 'otp.db'}", OTP_DELIVERY="inline")


def ask(app: Flask, address: str, times: int = 1) -> list[int]:
    """Answers to requests for a code from one network, one in each cooldown."""
    answers = []
    for _ in range(times):
        client = app.test_client()
        body = {"email": "ann@example.com"}
        answers.append(client.post("/otp/send", json=body, environ_base={"REMOTE_ADDR": address}).status_code)
        clock: Any = app.extensions["otp"].clock
        clock.advance(30)
    return answers


def test_show_says_that_nothing_is_in_the_way(desk: Flask) -> None:
    assert run(desk, "show", "Ann@example.com") == (0, "a***@example.com\n\nlogin: A code can go out now.\n")


def test_show_says_who_gets_no_code_until_when_and_why(desk: Flask) -> None:
    assert ask(desk, "192.0.2.1", 6) == [200] * 5 + [429]
    code, output = run(desk, "show", "ann@example.com")
    assert code == 0
    assert (
        "login: A code can go out now, but none to network 1 before 2026-09-21 15:13:20 UTC (OTP_SEND_LIMIT).\n"
        in output
    )
    assert "messages          5 of 20 in 1 hour (OTP_RECIPIENT_LIMIT), until 2026-09-21 15:13:20 UTC;" in output
    assert "code              short, by email, requested at 2026-09-21 14:13:20 UTC, valid until" in output
    assert "ann@" not in output
    named = run(desk, "show", "ann@example.com", "--network", "192.0.2.1")[1]
    assert "No code goes out to 192.0.2.1 before 2026-09-21 15:13:20 UTC (OTP_SEND_LIMIT). A browser that has" in named
    assert "A code can go out to 192.0.2.9 now." in run(desk, "show", "ann@example.com", "--network", "192.0.2.9")[1]


def test_show_speaks_to_programs_too(desk: Flask) -> None:
    ask(desk, "192.0.2.1")
    told = json.loads(run(desk, "show", "ann@example.com", "--json")[1])
    assert told["identifier"] == "a***@example.com"
    login = told["purposes"]["login"]
    assert login["sentence"] == "A code can go out now."
    assert login["codes"] == [
        {
            "asked_at": "2026-09-21T14:13:20+00:00",
            "until": "2026-09-21T14:18:20+00:00",
            "strong": False,
            "channels": ["email"],
            "attempts_left": 5,
        }
    ]
    assert [window["count"] for window in login["messages"]] == [1, 1]
    assert login["outlook"] == {"asker": "a network that has not asked yet", "wait": 0, "reason": ""}


def test_show_sends_and_counts_nothing(desk: Flask) -> None:
    before = run(desk, "show", "ann@example.com", "--json")
    for _ in range(3):
        assert run(desk, "show", "ann@example.com", "--network", "192.0.2.1", "--json")[0] == 0
    assert run(desk, "show", "ann@example.com", "--json") == before


@pytest.mark.server
def test_show_writes_nothing_at_all(make_app: AppFactory, valkey: ValkeyServer, clock: Clock) -> None:
    """Neither into the store nor into the counters of any limit."""
    otp = OTP(clock=clock)
    otp.channel("sms")(lambda message: None)
    limits = {"OTP_CHANNEL_BUDGET": {"sms": "9/day"}, "OTP_PREFIX_BUDGET": {"+49": "9/day"}}
    app = make_app(otp, OTP_STORAGE_URI=valkey.uri, OTP_SMS_COUNTRIES=["DE"], OTP_DELIVERY="inline", **limits)
    phone = "+4915112345678"
    app.test_client().post("/otp/send", json={"phone": phone})
    with contextlib.closing(valkey.client()) as client:

        def written() -> list[tuple[bytes, Any, Any]]:
            keys: Any = sorted(client.keys("*"))
            return [(key, client.dump(key), client.pexpiretime(key)) for key in keys]

        before = written()
        assert len(before) > 3
        for _ in range(2):
            code, output = run(app, "show", phone, "--network", "127.0.0.1")
            assert (code, "OTP_COOLDOWN until" in output) == (0, True)
        assert written() == before


def test_show_tells_of_a_channel_that_only_some_purposes_have(make_app: AppFactory, tmp_path: Path) -> None:
    app = make_app(
        OTP_STORAGE_URI=f"sqlite:///{tmp_path}/otp.db",
        OTP_CHANNELS={"email": lambda message: None, "sms": lambda message: None},
        OTP_SMS_COUNTRIES=("DE",),
        OTP_PURPOSES={"login": {}, "news": {"channels": ["email"]}},
    )
    run(app, "init-db")
    code, output = run(app, "show", "+4915112345678", "--channel", "sms")
    assert (code, "login: A code can go out now." in output) == (0, True)
    assert "news: No code goes out: this purpose has no channel 'sms'." in output


@pytest.mark.parametrize(
    ("args", "line"),
    [
        (["show", "nobody"], "Please enter a valid e-mail address"),
        (["show", "ann@example.com", "--channel", "pigeon"], "There is no such channel"),
        (["show", "ann@example.com", "--purpose", "nothing"], "There is no such purpose"),
        (["show", "ann@example.com", "--network", "nowhere"], "is not an IP address"),
    ],
)
def test_show_refuses_what_is_not_there(desk: Flask, args: list[str], line: str) -> None:
    code, output = run(desk, *args)
    assert code != 0
    assert line in output


def test_unlock_lets_messages_go_out_and_says_that_failures_stay(desk: Flask) -> None:
    ask(desk, "192.0.2.1", 6)
    assert run(desk, "unlock", "ann@example.com") == (
        0,
        "Messages to a***@example.com can go out again. Failures stay.\n",
    )
    assert ask(desk, "192.0.2.1") == [200]


def test_unlock_reaches_every_purpose_and_older_keys(make_app: AppFactory, tmp_path: Path) -> None:
    uri, clock = f"sqlite:///{tmp_path / 'otp.db'}", Clock(START)
    purposes = {"login": {}, "transfer": {}}
    otp = OTP(clock=clock)
    old = make_app(otp, OTP_STORAGE_URI=uri, OTP_PURPOSES=purposes)
    with old.app_context():
        sent = [otp.send("ann@example.com", purpose=name) for name in purposes]
    new = make_app(
        otp,
        OTP_STORAGE_URI=uri,
        OTP_PURPOSES=purposes,
        SECRET_KEY="another secret, for tests too",
        SECRET_KEY_FALLBACKS=[SECRET],
    )
    assert run(new, "unlock", "ann@example.com")[0] == 0
    with new.app_context():
        for challenge in sent:
            otp.resend(challenge.handle, purpose=challenge.purpose)


@pytest.mark.parametrize("command", ["show", "unlock"])
def test_of_the_memory_of_another_process_nothing_is_told(app: Flask, command: str) -> None:
    code, output = run(app, command, "ann@example.com")
    assert code == 1
    assert "Error: memory:// is inside the serving process" in output
