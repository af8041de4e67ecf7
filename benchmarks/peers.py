"""Two other packages, set up as their documentation does, with their own limits off. ``pip install -e '.[bench]'``."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, jsonify, request
from werkzeug.wrappers import Response

from .sites import Mailbox
from .traffic import Way

#: By the module that must be installed: what a peer is called, and how a person logs in by e-mail.
NAMES = {"flask_security": "Flask-Security", "allauth": "django-allauth"}
WAYS = {
    "flask_security": Way(
        lambda email: {"path": "/us-signin/send-code", "json": {"identity": email, "chosen_method": "email"}},
        lambda email, code, sent: {"path": "/us-signin", "json": {"identity": email, "passcode": code}},
        lambda email: {"path": "/join", "json": {"email": email}},
        keeps_cookies=True,
    ),
    "allauth": Way(
        lambda email: {"path": "/accounts/login/code/", "data": {"email": email}},
        lambda email, code, sent: {"path": "/accounts/login/code/confirm/", "data": {"code": code}},
        lambda email: {"path": "/join", "data": {"email": email}},
        keeps_cookies=True,
    ),
}
_CODE = re.compile(r"\b\d{6}\b")


def create_app() -> Callable[..., Any]:
    """For gunicorn: the peer that the environment names."""
    make, database = APPS[os.environ["BENCHMARK_PEER"]], os.environ["BENCHMARK_DATABASE"]
    return make(database, Mailbox(os.environ["BENCHMARK_URI"]))


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

    here: Any = sys.modules[__name__]
    here.Adapter = Adapter
    here.urlpatterns = [
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
    django, middleware = "django.contrib.{}", "django.contrib.{}.middleware.{}Middleware"
    where = urlsplit(database)
    engine: dict[str, Any] = {"ENGINE": "django.db.backends.sqlite3", "NAME": where.path[1:]}
    if where.hostname:
        engine |= {"ENGINE": "django.db.backends.postgresql", "HOST": where.hostname}
        engine |= {"PORT": where.port, "USER": where.username}
    templates = {"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}
    templates["OPTIONS"] = {"context_processors": ["django.template.context_processors.request"]}
    apps = [django.format(name) for name in ("auth", "contenttypes", "sessions", "messages")]
    parts = (("sessions", "Session"), ("auth", "Authentication"), ("messages", "Message"))
    import_module("django.conf").settings.configure(
        SECRET_KEY="only for benchmarks",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        DATABASES={"default": engine},
        INSTALLED_APPS=[*apps, "allauth", "allauth.account"],
        MIDDLEWARE=[*(middleware.format(*part) for part in parts), "allauth.account.middleware.AccountMiddleware"],
        TEMPLATES=[templates],
        AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
        EMAIL_BACKEND="django.core.mail.backends.locmem.EmailBackend",
        LOGIN_REDIRECT_URL="/plain",
        ACCOUNT_ADAPTER=f"{__name__}.Adapter",
        ACCOUNT_LOGIN_METHODS={"email"},
        ACCOUNT_LOGIN_BY_CODE_ENABLED=True,
        ACCOUNT_EMAIL_VERIFICATION="none",
        ACCOUNT_RATE_LIMITS=False,
    )


APPS = {"flask_security": flask_security, "allauth": allauth}
