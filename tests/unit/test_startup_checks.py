"""What a developer can get wrong is told at start, or by the first request, in words that say how to mend it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask

from flask_otp import OTP, Channel, ConfigError, InvalidRequest, Message, otp_required
from flask_otp.testing import Clock, capture_codes
from tests.support.apps import SECRET

MakeApp = Callable[..., Flask]


async def late(*arguments: object) -> None:
    """The result of every ``async`` hook: a coroutine that is not awaited."""


@pytest.mark.parametrize(
    "hook",
    [
        "recipient_loader",
        "identifier_loader",
        "before_send",
        "verified_handler",
        "unauthorized_handler",
        "dispatcher",
    ],
)
@pytest.mark.parametrize("function", [late, "not a function", None], ids=["async", "text", "nothing"])
def test_a_hook_that_is_no_plain_function_is_refused(hook: str, function: Any) -> None:
    with pytest.raises(ConfigError, match="plain function"):
        getattr(OTP(), hook)(function)


class Fax(Channel):
    def deliver(self, message: Message) -> None:
        pass


@pytest.mark.parametrize("sender", [late, Fax, 3, None], ids=["async", "class", "number", "nothing"])
def test_a_channel_that_could_not_deliver_is_refused(sender: Any) -> None:
    with pytest.raises(ConfigError, match="fax"):
        OTP().channel("fax")(sender)
    with pytest.raises(ConfigError, match="accepts"):
        OTP().channel("fax", accepts="letters")(lambda message: None)
    OTP().channel("fax")(Fax())


def test_a_channel_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r'write @otp.channel\("sms"\)'):

        @OTP().channel  # type: ignore[arg-type]
        def fax(message: Message) -> None:
            """Without its name, it would never be asked to deliver."""


class User:
    def __str__(self) -> str:
        return "ann@example.com"


@pytest.mark.parametrize("loaded", [User(), {"email": "ann@example.com"}, True, 5], ids=["user", "dict", "yes", "id"])
def test_a_loader_that_returns_something_else_than_text_is_named(make_app: MakeApp, clock: Clock, loaded: Any) -> None:
    otp = OTP(clock=clock)
    app, kind = make_app(otp), type(loaded).__name__
    app.add_url_rule("/", "account", otp_required(identifier=lambda: loaded)(lambda: "in"))
    with pytest.raises(ConfigError, match=f"otp_required: identifier must return text, not {kind}"):
        app.test_client().get("/")
    otp.recipient_loader(lambda identifier, channel: loaded)
    with pytest.raises(ConfigError, match=f"the recipient_loader must return text or None, not {kind}"):
        app.test_client().post("/otp/send", json={"email": "ann@example.com"})
    otp.identifier_loader(lambda: loaded)
    with pytest.raises(ConfigError, match=f"the identifier_loader must return text or None, not {kind}"):
        app.test_client().get("/otp/")


def wants_an_argument(amount: str) -> str:
    return amount


@pytest.mark.parametrize("argument", ["context", "identifier"])
@pytest.mark.parametrize("function", [late, wants_an_argument, "not a function"])
def test_a_guard_refuses_what_it_cannot_call(argument: str, function: Any) -> None:
    with pytest.raises(ConfigError, match=f"{argument} must be a function without arguments"):
        otp_required(**{argument: function})


@pytest.mark.parametrize("function", [dict, lambda amount=1: amount], ids=["class", "default"])
def test_a_guard_takes_whatever_can_be_called_without_arguments(function: Any) -> None:
    assert callable(otp_required(context=function))


@pytest.mark.parametrize("options", [{"channels": ["smss"]}, {"purpose": "transfer", "channels": ["email"]}])
def test_a_guard_that_wants_a_channel_nobody_can_use_stops_the_app(make_app: MakeApp, options: Any) -> None:
    otp = OTP()
    for name in ("email", "sms"):
        otp.channel(name)(lambda message: None)
    app = make_app(otp, OTP_PURPOSES={"login": {}, "transfer": {"channels": ["sms"]}})
    app.add_url_rule("/", "account", otp_required(**options)(lambda: "in"))
    with pytest.raises(ConfigError, match="account: no channel of the purpose"):
        app.test_client().get("/")


def test_protect_takes_an_app_or_a_blueprint() -> None:
    with pytest.raises(ConfigError, match="an app or a blueprint, not 'admin'"):
        OTP().protect("admin")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "config",
    [
        {"OTP_CHANNEL_BUDGET": {"emial": "10/day"}},
        {"OTP_PURPOSES": {"login": {"channels": ["emial"]}}},
    ],
    ids=str,
)
def test_a_channel_that_does_not_exist_is_named_at_the_first_request(make_app: MakeApp, config: dict[str, Any]) -> None:
    app = make_app(OTP_CHANNELS={"email": lambda message: None}, **config)
    with pytest.raises(ConfigError, match=r"emial.*email"):
        app.test_client().get("/")


@pytest.mark.parametrize("name", ["totp", "recovery", "trusted"])
@pytest.mark.parametrize("by_hook", [True, False], ids=["hook", "setting"])
def test_a_channel_with_a_name_of_ours_stops_the_app(make_app: MakeApp, clock: Clock, name: str, by_hook: bool) -> None:
    """By ``totp``, nothing would be sent, without an error. By ``trusted``, a right code would give an empty proof."""
    otp = OTP(clock=clock)
    app = make_app(otp, **({} if by_hook else {"OTP_CHANNELS": {name: lambda message: None}}))
    if by_hook:
        otp.channel(name)(lambda message: None)
    with pytest.raises(ConfigError, match=f"no channel can be called '{name}'"):
        app.test_client().get("/otp/")


def test_one_that_a_hook_adds_later_does_exist(make_app: MakeApp, clock: Clock) -> None:
    otp = OTP(clock=clock)
    app = make_app(otp, OTP_CHANNEL_BUDGET={"pigeon": "10/day"})
    otp.channel("pigeon")(lambda message: None)
    assert app.test_client().get("/").status_code == 404


def nested(app: Flask, otp: OTP) -> None:
    outer = Blueprint("outer", __name__, url_prefix="/outer")
    outer.register_blueprint(otp.blueprint, url_prefix="/otp")
    app.register_blueprint(outer)


def renamed(app: Flask, otp: OTP) -> None:
    app.register_blueprint(otp.blueprint, url_prefix="/otp", name="codes")


def without_prefix(app: Flask, otp: OTP) -> None:
    app.register_blueprint(otp.blueprint)


@pytest.mark.parametrize("mount", [nested, renamed, without_prefix])
def test_a_blueprint_that_is_mounted_where_it_does_not_work_stops_the_app(
    make_app: MakeApp, clock: Clock, mount: Callable[[Flask, OTP], None]
) -> None:
    otp = OTP(clock=clock, register_blueprint=False)
    app = make_app(otp)
    mount(app, otp)
    with pytest.raises(ConfigError, match=r"otp\.blueprint"):
        app.test_client().get("/")


def test_exempt_takes_a_list_and_not_one_name(app: Flask) -> None:
    with pytest.raises(ConfigError, match="list"):
        OTP().protect(app, exempt="health")


@pytest.mark.parametrize("whole", [True, False], ids=["app", "blueprint"])
def test_an_exemption_that_does_not_exist_stops_the_app_with_the_nearest_name(
    make_app: MakeApp, clock: Clock, whole: bool
) -> None:
    """Else what it was meant for would be shut, and what is named so one day would be open."""
    otp = OTP(clock=clock)
    app, shop = make_app(otp), Blueprint("shop", __name__)
    shop.add_url_rule("/health", "health", lambda: "well")
    otp.protect(app if whole else shop, exempt=["helth"])
    app.register_blueprint(shop)
    with pytest.raises(ConfigError, match=r"'helth' to exempt.*health"):
        app.test_client().get("/health")


def test_protecting_too_late_is_refused_and_not_in_vain(make_app: MakeApp, clock: Clock) -> None:
    otp = OTP(clock=clock)
    app, shop = make_app(otp), Blueprint("shop", __name__)
    app.register_blueprint(shop)
    with pytest.raises(AssertionError, match="can no longer be called on the blueprint"):
        otp.protect(shop)
    app.test_client().get("/")
    with pytest.raises(AssertionError, match="already handled its first request"):
        otp.protect(app)


def test_debug_that_is_switched_on_after_the_start_has_its_console(capsys: pytest.CaptureFixture[str]) -> None:
    app = Flask("site")
    app.config.update(SECRET_KEY="x" * 32, OTP_STORAGE_URI="memory://")
    OTP(app)
    app.debug = True
    assert app.test_client().post("/otp/send", json={"email": "ann@example.com"}).status_code == 200
    assert "ann@example.com" in capsys.readouterr().err


def test_what_is_too_long_to_be_confirmed_is_a_clear_400(make_app: MakeApp) -> None:
    app = make_app()
    app.add_url_rule("/transfer", "transfer", otp_required(context=lambda: {"payee": "x" * 600})(lambda: "done"))
    answer = app.test_client().get("/transfer")
    assert (answer.status_code, answer.json["reason"]) == (400, "invalid_request")
    with app.app_context(), pytest.raises(InvalidRequest):
        OTP().send("ann@example.com", context="x" * 600)


def test_many_outstanding_purposes_never_burst_the_cookie(make_app: MakeApp) -> None:
    purposes = [f"purpose{number}" for number in range(6)]
    app = make_app(OTP_PURPOSES={name: {} for name in purposes}, OTP_COOLDOWN=0)
    for purpose in purposes:
        guard = otp_required(purpose=purpose, context=lambda: {"note": "é" * 240})
        app.add_url_rule(f"/{purpose}", purpose, guard(lambda: "done"))
    client = app.test_client()
    with capture_codes(app) as codes:
        for purpose in purposes:
            client.get(f"/{purpose}")
            client.post("/otp/send", json={"email": "ann@example.com", "purpose": purpose})
            cookie = client.get_cookie("session")
            assert cookie is not None
            assert len(cookie.value) < 4000
        assert client.post("/otp/verify", json={"code": codes.code, "purpose": purpose}).status_code == 200
        assert client.get(f"/{purpose}").text == "done"


def test_the_way_without_a_next_stays_within_the_apps_root(make_app: MakeApp) -> None:
    client = make_app().test_client()
    answer = client.post("/otp/logout", headers={"Accept": "text/html"}, base_url="http://localhost/shop")
    assert answer.headers["Location"] == "/shop/"


@pytest.mark.parametrize(
    ("config", "reloader", "told"),
    [({}, "true", 1), ({}, None, 0), ({"DEBUG": False}, "true", 0), ({"OTP_STORAGE_URI": "memory://"}, "true", 0)],
)
def test_a_developer_is_told_once_that_the_reloader_forgets_codes_in_memory(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    config: dict[str, Any],
    reloader: str | None,
    told: int,
) -> None:
    monkeypatch.delenv("WERKZEUG_RUN_MAIN", raising=False)
    if reloader is not None:
        monkeypatch.setenv("WERKZEUG_RUN_MAIN", reloader)
    app = Flask("site")
    app.config.update({"DEBUG": True, "TESTING": True, "SECRET_KEY": SECRET} | config)
    OTP(app)
    for _ in range(2):
        app.test_client().get("/otp/")
    assert sum("sqlite:///dev.db" in record.getMessage() for record in caplog.records) == told
    assert "init-db" not in caplog.text  # SQLite makes its table without it


def test_a_guard_on_before_request_that_guards_our_pages_too_stops_the_app(make_app: MakeApp) -> None:
    """Else a browser is redirected for ever: the page that asks for the code wants a code."""
    app = make_app()
    app.before_request(otp_required(lambda: None))
    with pytest.raises(ConfigError, match=r"use otp\.protect\(app\)"):
        app.test_client().get("/")


def test_a_guard_on_before_request_of_a_blueprint_or_without_our_pages_does_not(
    make_app: MakeApp, clock: Clock
) -> None:
    app, admin = make_app(), Blueprint("admin", __name__)
    admin.before_request(otp_required(lambda: None))
    admin.add_url_rule("/admin", view_func=lambda: "in", endpoint="home")
    app.register_blueprint(admin)
    assert app.test_client().get("/admin").status_code == 401
    assert app.test_client().get("/otp/").status_code == 200
    app = make_app(OTP(clock=clock, register_blueprint=False))
    app.before_request(otp_required(lambda: None))
    assert app.test_client().get("/").status_code == 401


def test_a_challenge_in_place_of_its_handle_is_named(make_app: MakeApp, clock: Clock) -> None:
    """It was "That code is not right", for a right code."""
    otp = OTP(clock=clock)
    app = make_app(otp)
    with app.app_context(), capture_codes(app) as codes:
        challenge: Any = otp.send("ann@example.com")
        for call in (lambda: otp.verify(codes.code, challenge=challenge), lambda: otp.resend(challenge)):
            with pytest.raises(TypeError, match=r"pass challenge\.handle"):
                call()
        assert otp.verify(codes.code, challenge=challenge.handle).identifier == "ann@example.com"
