"""Whole logins by e-mail code, beside other packages: how fast they are, and how many of 200 requests at once get in.

The packages are set up as their documentation says, with their own limits off: ``pip install -e '.[bench]'``. For the
speed, all of them run in this process and take turns by blocks, without a server. For the race, each runs under
gunicorn, and 200 requests submit one right code at the same moment. A request counts as accepted if its cookies then
sign the person in.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, jsonify, request
from werkzeug.wrappers import Response

from .measure import Case, Rounds, Scale, spread
from .report import Row
from .servers import Gunicorn, Servers
from .sites import Mailbox, Site, our_way, way_by_hand
from .traffic import Traffic, Way, call, environ, post

_AT_ONCE = 200
#: Of gunicorn: it works on 32 requests at one moment.
_PROCESSES, _THREADS = 4, 8
_CODE = re.compile(r"\b\d{6}\b")


def speed(scale: Scale, servers: Servers) -> Iterator[Row]:
    sites: dict[str, Traffic] = {}
    for name, uri in (("flask_otp, Redis", servers.valkey.uri), ("flask_otp, memory", "memory://")):
        sites[name] = Site(uri, servers.valkey.uri).traffic(our_way(keeps_cookies=True))
    for name, (make, way) in PEERS.items():
        codes: list[str] = []
        app = make(f"sqlite:///{servers.directory}/{name}.sqlite", codes)
        sites[f"{name}, SQLite"] = Traffic(partial(call, app), way, codes)
    gc.freeze()  # no site pays for the objects of the others
    cases: dict[str, Case] = {}
    for name, traffic in sites.items():
        cases[f"{name}: bare"] = traffic.open("/plain")
        cases |= {f"{name}: send": traffic.send(), f"{name}: verify": traffic.verify()}
    measured = Rounds(cases, scale.rounds // 2, scale.block)
    gc.unfreeze()
    for name in sites:
        for step in ("send", "verify"):
            ratio = measured.rate(f"{name}: {step}", f"{name}: bare")
            yield Row(f"{step}, over its own bare view", name, ratio, "x")
        logins = (1 / sum(pair) for pair in measured.pairs(f"{name}: send", f"{name}: verify"))
        yield Row("whole logins", name, spread(*logins), "a second")


def race(scale: Scale, servers: Servers) -> Iterator[Row]:
    settings = {"BENCHMARK_URI": servers.valkey.uri}
    ways = {
        "flask_otp, Redis": our_way(keeps_cookies=True),
        "by hand, code in Redis": way_by_hand("naive"),
        "by hand, code in the session": way_by_hand("in-session"),
    }
    yield from _race(scale, servers, "benchmarks.sites", ways, settings)
    for name, (_, way) in PEERS.items():
        settings |= {"BENCHMARK_PEER": name, "BENCHMARK_DATABASE": servers.new_postgresql().uri}
        yield from _race(scale, servers, "benchmarks.peers", {f"{name}, PostgreSQL": way}, settings)


def _race(
    scale: Scale, servers: Servers, module: str, ways: Mapping[str, Way], settings: Mapping[str, str]
) -> Iterator[Row]:
    codes = Mailbox(servers.valkey.uri)
    with closing(Gunicorn(servers.directory, module, "gthread", _PROCESSES, _THREADS, **settings)) as server:
        for name, way in ways.items():
            traffic = Traffic(server.call, way, codes)
            accepted = [_accepted(server, traffic) for _ in range(max(1, scale.rounds // 10))]
            note = f"{min(accepted)} to {max(accepted)}"
            yield Row(f"accepted of {_AT_ONCE} at once", name, spread(*accepted), note=note)


def _accepted(server: Gunicorn, traffic: Traffic) -> int:
    """How many of the requests that submit one right code at once sign its owner in."""
    answers = server.ask([traffic.enter()] * _AT_ONCE, clients=_AT_ONCE)
    visits = server.ask([environ("/who", answer.cookies) for answer in answers if answer.cookies])
    return sum(b"@" in visit.body for visit in visits)


def create_app() -> Callable[..., Any]:
    """For gunicorn: the peer that the environment names."""
    make, _ = PEERS[os.environ["BENCHMARK_PEER"]]
    return make(os.environ["BENCHMARK_DATABASE"], Mailbox(os.environ["BENCHMARK_URI"]))


def flask_security(database: str, codes: Any) -> Callable[..., Any]:
    security, login = import_module("flask_security"), import_module("flask_login")
    sql = import_module("flask_sqlalchemy").SQLAlchemy()

    class Mail(security.MailUtil):  # type: ignore[name-defined, misc]
        def send_mail(
            self, template: str, subject: str, recipient: str, sender: Any, body: str, *more: Any, **_: Any
        ) -> None:
            codes.append(_CODE.findall(body)[0])

    app = Flask("site")
    app.config.update(SECRET_KEY="only for benchmarks", SECURITY_PASSWORD_SALT="1" * 20)
    app.config.update(SQLALCHEMY_DATABASE_URI=database, WTF_CSRF_ENABLED=False)
    app.config.update(SECURITY_UNIFIED_SIGNIN=True, SECURITY_US_ENABLED_METHODS=["email"])
    app.config.update(SECURITY_TOTP_SECRETS={"1": "x" * 32}, SECURITY_TOTP_ISSUER="site", SECURITY_MAIL_UTIL_CLS=Mail)
    sql.init_app(app)
    models = import_module("flask_security.models.fsqla_v3")
    models.FsModels.set_db_info(sql)
    user, role = (type(name, (sql.Model, getattr(models, f"Fs{name}Mixin")), {}) for name in ("User", "Role"))
    store = security.SQLAlchemyUserDatastore(sql, user, role)
    security.Security(app, store, mail_util_cls=Mail)
    with app.app_context():
        sql.create_all()
        sql.engine.dispose()  # gunicorn forks

    @app.post("/join")
    def join() -> Response:
        store.us_setup_email(store.create_user(email=request.get_json()["email"], password=None))
        store.commit()
        return jsonify(joined=True)

    app.add_url_rule("/plain", "plain", lambda: "hello")
    app.add_url_rule("/who", "who", lambda: getattr(login.current_user, "email", ""))
    return app


def allauth(database: str, codes: Any) -> Callable[..., Any]:
    _configure_django(database)
    import_module("django").setup()
    adapter = import_module("allauth.account.adapter").DefaultAccountAdapter
    urls, answer = import_module("django.urls"), import_module("django.http").HttpResponse

    class Adapter(adapter):  # type: ignore[misc, valid-type]
        def generate_login_code(self) -> str:
            code = str(super().generate_login_code())
            codes.append(code)
            return code

    def join(asked: Any) -> Any:
        email = asked.POST["email"]
        import_module("django.contrib.auth.models").User.objects.create(username=email, email=email)
        return answer("joined")

    # Where the settings look for them.
    globals()["Adapter"] = Adapter
    globals()["urlpatterns"] = [
        urls.path("accounts/", urls.include("allauth.urls")),
        urls.path("join", join),
        urls.path("plain", lambda asked: answer("hello")),
        urls.path("who", lambda asked: answer(getattr(asked.user, "email", ""))),
    ]
    import_module("django.core.management").call_command("migrate", verbosity=0)
    import_module("django.db").connections.close_all()  # gunicorn forks
    app: Callable[..., Any] = import_module("django.core.wsgi").get_wsgi_application()
    return app


def _configure_django(database: str) -> None:
    where = urlsplit(database)
    kind = "postgresql" if where.hostname else "sqlite3"
    engine: dict[str, Any] = {"ENGINE": f"django.db.backends.{kind}", "NAME": where.path[1:]}
    engine |= {"HOST": where.hostname, "PORT": where.port, "USER": where.username}
    templates = {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
    templates["OPTIONS"] = {"context_processors": ["django.template.context_processors.request"]}
    import_module("django.conf").settings.configure(
        SECRET_KEY="only for benchmarks",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        DATABASES={"default": engine},
        INSTALLED_APPS=[
            *(f"django.contrib.{name}" for name in ("auth", "contenttypes", "sessions", "messages")),
            *("allauth", "allauth.account"),
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
            "allauth.account.middleware.AccountMiddleware",
        ],
        TEMPLATES=[templates],
        AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
        EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
        ACCOUNT_ADAPTER=f"{__name__}.Adapter",
        ACCOUNT_LOGIN_METHODS={"email"},
        ACCOUNT_LOGIN_BY_CODE_ENABLED=True,
        ACCOUNT_EMAIL_VERIFICATION="none",
        ACCOUNT_RATE_LIMITS=False,
    )


#: Those that are installed: what makes the app, and how a person logs in.
PEERS: dict[str, tuple[Callable[[str, Any], Callable[..., Any]], Way]] = {}
if find_spec("flask_security"):
    PEERS["Flask-Security"] = (
        flask_security,
        Way(
            lambda email: post("/us-signin/send-code", identity=email, chosen_method="email"),
            lambda email, code, sent: post("/us-signin", identity=email, passcode=code),
            lambda email: post("/join", email=email),
            keeps_cookies=True,
        ),
    )
if find_spec("allauth"):
    PEERS["django-allauth"] = (
        allauth,
        Way(
            lambda email: {"path": "/accounts/login/code/", "data": {"email": email}},
            lambda email, code, sent: {"path": "/accounts/login/code/confirm/", "data": {"code": code}},
            lambda email: {"path": "/join", "data": {"email": email}},
            keeps_cookies=True,
        ),
    )
