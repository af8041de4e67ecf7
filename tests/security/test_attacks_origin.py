"""What other sites, and proxies that let everything through, can do to a browser's session, forms and redirects."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from flask import Flask, render_template_string, request
from flask_wtf import FlaskForm
from flask_wtf.csrf import CSRFProtect, generate_csrf
from werkzeug.middleware.proxy_fix import ProxyFix
from wtforms import StringField

from flask_otp import OTP, ConfigError, otp_required
from flask_otp.testing import capture_codes
from tests.support.apps import AppFactory

ANN = "ann@example.com"
PAGE = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
IDN = "http://xn--bcher-kva.example"


@pytest.fixture
def bank(make_app: AppFactory) -> Flask:
    app = make_app(OTP_PURPOSES={"login": {}, "transfer": {}}, OTP_COOLDOWN=0)

    @app.route("/transfer", methods=["GET", "POST"])
    @otp_required(purpose="transfer", context=lambda: {"payee": request.values["payee"]})
    def transfer() -> str:
        return "done"

    app.add_url_rule("/account", "account", otp_required(lambda: "in"), methods=["GET", "POST"])
    return app


# Other sites


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("tag", ["image", "script", "iframe", "empty"])
@pytest.mark.parametrize(
    "path",
    ["/otp/?purpose=transfer&next=/x", "/otp/", "/otp/verify", "/otp/repeat", "/transfer?payee=mallory", "/account"],
)
def test_r29_another_sites_page_writes_and_deletes_nothing_in_the_session(
    bank: Flask, site: str, tag: str, path: str
) -> None:
    client = bank.test_client()
    client.post("/transfer", data={"payee": "bob"}, headers=PAGE)
    with client.session_transaction() as stored:
        before = dict(stored)
    mode = "navigate" if tag == "iframe" else "no-cors"
    accept = "text/html" if tag == "iframe" else "*/*"
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": tag, "Accept": accept}
    answer = client.get(path, headers=headers)
    with client.session_transaction() as stored:
        assert dict(stored) == before
    assert not any("repeat" in cookie for cookie in answer.headers.getlist("Set-Cookie"))
    assert "bob" in client.get("/otp/?purpose=transfer", headers=PAGE).text


@pytest.mark.parametrize("base_url", [None, "https://bücher.example/", "https://XN--BCHER-KVA.example:443"])
def test_an_idn_host_is_one_origin_however_it_is_written(make_app: AppFactory, base_url: str | None) -> None:
    app = make_app(OTP_BASE_URL=base_url)
    client, origins = app.test_client(), [IDN, *(["https://xn--bcher-kva.example"] if base_url else [])]
    assert app.extensions["otp"].settings.base_url in (None, "https://xn--bcher-kva.example")
    with capture_codes(app):
        for number, origin in enumerate(
            [*origins, "http://evil.example", "http://b\u00fccher.example", "http://bucher.example"]
        ):
            answer = client.post(
                "/otp/send",
                data={"identifier": f"ann{number}@example.com"},
                headers={"Origin": origin.encode().decode("latin-1"), "Accept": "text/html"},
                base_url=IDN,
            )
            assert (answer.status_code == 303) == (origin in origins), origin


def test_a_form_of_an_idn_host_comes_back_to_its_page(bank: Flask) -> None:
    client = bank.test_client()
    answer = client.post(
        "/account",
        data=b"a,b",
        content_type="text/plain",
        base_url=IDN,
        headers={"Accept": "text/html", "Referer": f"{IDN}/form?x=1"},
    )
    assert answer.location == "/otp/?next=/form?x%3D1"


@pytest.mark.parametrize(
    "value", ["https://", "https://b\u00fccher.example/x", "https://b\u00fccher example", "bücher.example"]
)
def test_a_base_url_that_is_no_origin_is_refused(make_app: AppFactory, value: str) -> None:
    with pytest.raises(ConfigError, match="OTP_BASE_URL"):
        make_app(OTP_BASE_URL=value)


# A proxy that lets X-Forwarded-Prefix through

ROOTS = ["//evil.example", "///evil.example", "/\\evil.example", "/\t/evil.example", "https://evil.example", "evil"]


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("accept", ["text/html", "application/json"])
def test_r30_a_forged_prefix_makes_no_address_that_leaves_the_host(bank: Flask, root: str, accept: str) -> None:
    bank.wsgi_app = ProxyFix(bank.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    bank.config["PROPAGATE_EXCEPTIONS"] = False
    otp = OTP()
    bank.add_url_rule("/code", "code", lambda: str(otp.verify("1", challenge="x")))
    client = bank.test_client()
    headers = {"X-Forwarded-Prefix": root, "Accept": accept, "Sec-Fetch-Site": "same-origin"}
    with capture_codes(bank) as codes:
        answers = [
            client.get(path, headers=headers) for path in ("/account", "/otp/", "/otp/verify", "/otp/repeat", "/code")
        ]
        answers += [
            client.post(path, headers=headers) for path in ("/account", "/otp/send", "/otp/logout", "/otp/nowhere")
        ]
    for answer in answers:
        assert answer.status_code == 400
        assert "Location" not in answer.headers
        assert "evil" not in answer.text
    assert codes == []


def test_a_true_prefix_is_kept(bank: Flask) -> None:
    bank.wsgi_app = ProxyFix(bank.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    for root, location in (
        ("/app", "/app/otp/?next=/app/account"),
        ("/caf\u00e9", "/caf%C3%A9/otp/?next=/caf%25C3%25A9/account"),
    ):
        headers = {"X-Forwarded-Prefix": root.encode().decode("latin-1"), "Accept": "text/html"}
        assert bank.test_client().get("/account", headers=headers).location == location


# The token against forged forms


@pytest.fixture
def forms(make_app: AppFactory) -> Flask:
    app = make_app(OTP_COOLDOWN=0)
    CSRFProtect(app)

    class Profile(FlaskForm):
        words = StringField()

    app.add_url_rule("/token", "token", lambda: generate_csrf())

    @app.route("/profile", methods=["GET", "POST"])
    def profile() -> Any:
        form = Profile(prefix="p")
        if request.method == "GET":
            return render_template_string("{{ form.csrf_token }}", form=form)
        return guarded_save()

    @otp_required
    def guarded_save() -> str:
        form = Profile(prefix="p")
        assert form.validate_on_submit()
        return f"saved {form.words.data}"

    return app


def prove(app: Flask, client: Any) -> None:
    with capture_codes(app) as codes:
        client.post("/otp/send", data={"identifier": ANN}, headers=PAGE)
        client.post("/otp/verify", data={"code": codes.code}, headers=PAGE)


def test_r24_flask_wtfs_token_is_renewed_with_the_session(forms: Flask) -> None:
    client = forms.test_client()
    planted = client.get("/token").text
    with client.session_transaction() as stored:
        before = stored["csrf_token"]
    prove(forms, client)
    with client.session_transaction() as stored:
        assert stored.get("csrf_token") != before
    assert (
        client.post("/profile", data={"p-csrf_token": planted, "csrf_token": planted, "p-words": "x"}).status_code
        == 400
    )


def test_a_kept_form_goes_out_with_the_new_token(forms: Flask) -> None:
    client = forms.test_client()
    token = client.get("/token").text
    fields = {"csrf_token": token, "p-csrf_token": token, "p-words": "as typed"}
    assert client.post("/profile", data=fields, headers=PAGE).status_code == 303
    prove(forms, client)
    page = client.get("/otp/repeat", headers=PAGE).text
    kept = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
    assert kept.keys() == fields.keys()
    assert token not in page
    assert client.post("/profile", data=kept, headers=PAGE).text == "saved as typed"


def test_without_flask_wtf_a_field_of_that_name_is_the_apps_own() -> None:
    """In a process of its own, where nothing has imported it."""
    program = """
import sys
from flask import Flask
from flask_otp import OTP, otp_required
from flask_otp.testing import capture_codes
app = Flask("site")
app.config.update(TESTING=True, SECRET_KEY="x" * 32, OTP_STORAGE_URI="memory://")
OTP(app)
app.add_url_rule("/pay", "pay", otp_required(lambda: "paid"), methods=["POST"])
page, client = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}, app.test_client()
client.post("/pay", data={"csrf_token": "the app's own"}, headers=page)
with client.session_transaction() as session:
    session["csrf_token"] = "the app's own"
with capture_codes(app) as codes:
    client.post("/otp/send", data={"identifier": "ann@example.com"}, headers=page)
    client.post("/otp/verify", data={"code": codes.code}, headers=page)
with client.session_transaction() as session:
    assert session["csrf_token"] == "the app's own"
assert "the app&#39;s own" in client.get("/otp/repeat", headers=page).text
assert "flask_wtf" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
