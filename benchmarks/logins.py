"""One contestant of :mod:`.peers`, in a process of its own: reads how many logins to do, and says how long they took.

::

    echo 10 | python -m benchmarks.logins flask_security redis://localhost
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from flask import Flask
from werkzeug.test import create_environ

from flask_otp import OTP

_CODE = re.compile(r"\b\d{6}\b")


class Site(NamedTuple):
    """One site, and how a person logs in there.

    :param send: path and form of the request for a code, by address.
    :param verify: the same with the code, for what ``send`` has answered.
    :param codes: the messages that were sent.
    """

    app: Callable[..., Any]
    people: Callable[[int], str]
    send: Callable[[str], tuple[str, dict[str, Any]]]
    verify: Callable[[str, str, bytes], tuple[str, dict[str, Any]]]
    codes: list[str]
    is_json: bool


def ask(site: Site, path: str, body: dict[str, Any] | None, cookie: str, number: int) -> Any:
    """A request that is ready to be made: ``() -> (status, body, cookie)``."""
    more: dict[str, Any] = {
        "environ_base": {"REMOTE_ADDR": f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"}
    }
    if body is not None:
        more |= {"method": "POST"}
        more |= {"json": body} if site.is_json else {"data": body}
    environ = create_environ(path, headers={"Cookie": cookie, "Accept": "application/json"}, **more)

    def call() -> tuple[str, bytes, str]:
        told: list[Any] = []
        answer = b"".join(site.app(environ, lambda *given: told.extend(given)))
        cookies = [value.partition(";")[0] for name, value in told[1] if name.lower() == "set-cookie"]
        return told[0], answer, "; ".join(cookies)

    return call


def block(site: Site, size: int, first: int) -> dict[str, float]:
    """Seconds of a bare view, a send and a verify, each for one request."""
    people = [site.people(first + number) for number in range(size)]
    bare = [ask(site, "/bare", None, "", first) for _ in people]
    sends = [ask(site, *site.send(who), "", first + number) for number, who in enumerate(people)]
    seconds = {}
    seconds["bare"], _ = _timed(bare)
    seconds["send"], sent = _timed(sends)
    codes, site.codes[:] = site.codes[-size:], []
    verifies = [
        ask(site, *site.verify(who, code, answer), cookie, first + number)
        for number, (who, code, (_, answer, cookie)) in enumerate(zip(people, codes, sent, strict=True))
    ]
    seconds["verify"], _ = _timed(verifies)
    return seconds


def _timed(calls: list[Any]) -> tuple[float, list[Any]]:
    began = time.perf_counter()
    answers = [call() for call in calls]
    seconds = (time.perf_counter() - began) / len(calls)
    for status, body, _ in answers:
        if not status.startswith(("200", "302")) or b"errorlist" in body:
            raise RuntimeError(f"{status} {body[:300]!r}")
    return seconds, answers


def ours(uri: str) -> Site:
    codes: list[str] = []
    app = Flask("site")
    app.config.update(SECRET_KEY="only for benchmarks", OTP_STORAGE_URI=uri)
    app.config.update(OTP_CHANNELS={"email": [lambda message: codes.append(message.code)]})
    OTP(app)
    app.add_url_rule("/bare", "bare", lambda: "hello")
    return Site(
        app,
        lambda number: f"person{number}@example.com",
        lambda who: ("/otp/send", {"email": who}),
        lambda who, code, answer: ("/otp/verify", {"code": code, "challenge": json.loads(answer)["challenge"]}),
        codes,
        is_json=True,
    )


def ours_memory(uri: str) -> Site:
    return ours("memory://")


def flask_security(uri: str) -> Site:
    security = import_module("flask_security")
    database = import_module("flask_sqlalchemy").SQLAlchemy()
    codes: list[str] = []

    class Mail(security.MailUtil):  # type: ignore[name-defined, misc]
        def send_mail(
            self, template: str, subject: str, recipient: str, sender: Any, body: str, *more: Any, **_: Any
        ) -> None:
            codes.append(_CODE.findall(body)[0])

    app = Flask("site")
    app.config.update(SECRET_KEY="only for benchmarks", SECURITY_PASSWORD_SALT="1" * 20)
    app.config.update(SQLALCHEMY_DATABASE_URI=f"sqlite:///{tempfile.mkdtemp()}/peer.sqlite", WTF_CSRF_ENABLED=False)
    app.config.update(SECURITY_UNIFIED_SIGNIN=True, SECURITY_US_ENABLED_METHODS=["email"])
    app.config.update(SECURITY_TOTP_SECRETS={"1": "x" * 32}, SECURITY_TOTP_ISSUER="site", SECURITY_MAIL_UTIL_CLS=Mail)
    database.init_app(app)
    models = import_module("flask_security.models.fsqla_v3")
    models.FsModels.set_db_info(database)
    user = type("User", (database.Model, models.FsUserMixin), {})
    role = type("Role", (database.Model, models.FsRoleMixin), {})
    store = security.SQLAlchemyUserDatastore(database, user, role)
    security.Security(app, store, mail_util_cls=Mail)
    app.add_url_rule("/bare", "bare", lambda: "hello")
    with app.app_context():
        database.create_all()

    def person(number: int) -> str:
        with app.app_context():
            who = store.create_user(email=f"person{number}@example.com", password=None)
            store.us_setup_email(who)
            store.commit()
        return f"person{number}@example.com"

    return Site(
        app,
        person,
        lambda who: ("/us-signin/send-code", {"identity": who, "chosen_method": "email"}),
        lambda who, code, answer: ("/us-signin", {"identity": who, "passcode": code}),
        codes,
        is_json=True,
    )


def allauth(uri: str) -> Site:
    codes: list[str] = []
    _django_settings()
    import_module("django").setup()
    adapter = import_module("allauth.account.adapter").DefaultAccountAdapter
    handlers, urls = import_module("django.core.handlers.wsgi"), import_module("django.urls")
    user, answer = import_module("django.contrib.auth.models").User, import_module("django.http").HttpResponse

    class Adapter(adapter):  # type: ignore[misc, valid-type]
        def generate_login_code(self) -> str:
            codes.append(super().generate_login_code())
            return codes[-1]

    here: Any = sys.modules["__main__"]
    here.Adapter = Adapter
    here.urlpatterns = [
        urls.path("accounts/", urls.include("allauth.urls")),
        urls.path("bare", lambda request: answer("hello")),
    ]
    import_module("django.core.management").call_command("migrate", verbosity=0)

    def person(number: int) -> str:
        email = f"person{number}@example.com"
        user.objects.create(username=email, email=email)
        return email

    return Site(
        handlers.WSGIHandler(),
        person,
        lambda who: ("/accounts/login/code/", {"email": who}),
        lambda who, code, answer: ("/accounts/login/code/confirm/", {"code": code}),
        codes,
        is_json=False,
    )


def _django_settings() -> None:
    django, middleware = "django.contrib.{}", "django.contrib.{}.middleware.{}Middleware"
    engine = {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{tempfile.mkdtemp()}/peer.sqlite"}
    templates = {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
    templates["OPTIONS"] = {"context_processors": ["django.template.context_processors.request"]}
    apps = [django.format(name) for name in ("auth", "contenttypes", "sessions", "messages")]
    parts = (("sessions", "Session"), ("auth", "Authentication"), ("messages", "Message"))
    import_module("django.conf").settings.configure(
        SECRET_KEY="only for benchmarks",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="__main__",
        DATABASES={"default": engine},
        INSTALLED_APPS=[*apps, "allauth", "allauth.account"],
        MIDDLEWARE=[*(middleware.format(*part) for part in parts), "allauth.account.middleware.AccountMiddleware"],
        TEMPLATES=[templates],
        AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
        EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
        LOGIN_REDIRECT_URL="/bare",
        ACCOUNT_ADAPTER="__main__.Adapter",
        ACCOUNT_LOGIN_METHODS={"email"},
        ACCOUNT_LOGIN_BY_CODE_ENABLED=True,
        ACCOUNT_EMAIL_VERIFICATION="none",
        ACCOUNT_RATE_LIMITS=False,
    )


_SITES = {"ours": ours, "ours_memory": ours_memory, "flask_security": flask_security, "allauth": allauth}


def main() -> None:
    site, first = _SITES[sys.argv[1]](sys.argv[2]), 1
    for line in sys.stdin:
        print(json.dumps(block(site, int(line), first)), flush=True)
        first += int(line)


if __name__ == "__main__":
    main()
