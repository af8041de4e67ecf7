"""The look of pages and mails: the brand, the content security policy, and the static files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from flask_otp import OTP, ConfigError, assets, otp_required
from flask_otp.config.brand import Brand, brand
from flask_otp.config.page_policy import csp
from flask_otp.http import static_files
from flask_otp.testing import capture_codes
from tests.support.apps import AppFactory
from tests.support.examples import examples

HTML = {"Accept": "text/html"}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
FULL = {"logo": "https://img.example/logo.svg", "accent": "#0B7285", "help": "mailto:help@example.com"}


@pytest.fixture
def page_of(make_app: AppFactory) -> Callable[..., Any]:
    def page_of(path: str = "/otp/", **config: Any) -> Any:
        return make_app(OTP(), **config).test_client().get(path, headers=HTML)

    return page_of


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_an_error_page_says_what_failed_and_leads_back_to_the_start(make_app: AppFactory) -> None:
    answer = make_app(OTP()).test_client().post("/otp/send", data={}, headers=HTML | {"Origin": "https://evil.example"})
    assert answer.status_code == 403
    assert "<h1>That is not allowed</h1>" in answer.text
    assert '<a class="button" href="/otp/">Start again</a>' in answer.text
    assert "403 Forbidden" in answer.text


# OTP_BRAND


def test_a_brand_is_on_every_page_and_in_every_mail(make_app: AppFactory) -> None:
    app = make_app(OTP(), OTP_BRAND=FULL, OTP_SITE_NAME="Shop & Sons")
    client = app.test_client()
    with capture_codes(app) as sent:
        client.post("/otp/send", json={"email": "ann@example.com"})
    for path in ("/otp/", "/otp/verify", "/otp/nothing-here"):
        page = client.get(path, headers=HTML)
        assert '<img class="logo" src="https://img.example/logo.svg" alt="Shop &amp; Sons">' in page.text
        assert '<a href="mailto:help@example.com">Help</a>' in page.text
        assert "img-src 'self' https://img.example;" in page.headers["Content-Security-Policy"]
        sheet = client.get(re.search(r'href="(/otp/brand\.css[^"]*)"', page.text)[1])  # type: ignore[index]
        assert "--accent: #0b7285" in sheet.text
    for part in ('src="https://img.example/logo.svg"', 'href="mailto:help@example.com"', "color: #0b7285"):
        assert part in sent[0].html


def test_without_a_brand_nothing_is_said_of_one(make_app: AppFactory) -> None:
    app = make_app(OTP())
    assert not re.search("<img|brand|Help", app.test_client().get("/otp/", headers=HTML).text)
    assert app.test_client().get("/otp/brand.css").status_code == 404


@pytest.mark.parametrize(("base_url", "is_shown"), [("https://shop.example", True), (None, False)])
def test_a_mail_has_no_relative_address(make_app: AppFactory, base_url: str | None, is_shown: bool) -> None:
    app = make_app(OTP(), OTP_BRAND={"logo": "/static/logo.png", "help": "/help"}, OTP_BASE_URL=base_url)
    with capture_codes(app) as sent:
        app.test_client().post("/otp/send", json={"email": "ann@example.com"})
    assert ('src="https://shop.example/static/logo.png"' in sent[0].html) is is_shown
    assert ('href="https://shop.example/help"' in sent[0].html) is is_shown
    assert 'src="/' not in sent[0].html
    assert 'href="/' not in sent[0].html


@pytest.mark.parametrize(
    "value",
    [
        None,
        "#0b7285",
        {"colour": "#0b7285"},
        {"accent": "teal"},
        {"accent": "#0b728"},
        {"accent": 7},
        {"accent": "#0b7285;}*{"},
        {"logo": "logo.svg"},
        {"logo": "//evil.example/x"},
        {"logo": "http://example.com/x.png"},
        {"logo": "https://user@example.com/x.png"},
        {"logo": "https://example.com/x.png; script-src *"},
        {"logo": "data:image/png;base64,AA=="},
        {"help": "javascript:alert(1)"},
        {"help": 'https://example.com/"onclick'},
        {"help": "help@example.com"},
        {"help": ["/help"]},
    ],
    ids=repr,
)
def test_a_bad_brand_stops_the_app(make_app: AppFactory, value: object) -> None:
    with pytest.raises(ConfigError, match=r"OTP_BRAND .*settings/otp-brand"):
        make_app(OTP(), OTP_BRAND=value)


def test_an_accent_that_people_cannot_read_stops_the_app(make_app: AppFactory) -> None:
    with pytest.raises(ConfigError, match=r'\["accent"\] has a contrast of 1\.\d with a light page.*darker'):
        make_app(OTP(), OTP_BRAND={"accent": "#ffd43b"})


@examples(200, 5000)
@given(st.integers(0, 0xFFFFFF).map("#{:06x}".format))
def test_any_accent_is_refused_or_read_in_both_schemes(accent: str) -> None:
    try:
        made = brand({"accent": accent})
    except ValueError:
        assert contrast(accent, "#f3f1ec") < 4.5
        return
    assert contrast(accent, "#f3f1ec") >= 4.5
    light, dark = made.style_sheet.split("@media")
    for part, backgrounds in ((light, ("#ffffff", "#f5f3ee", "#f3f1ec")), (dark, ("#1d2327", "#14181b"))):
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]+)", part.replace("#fff ", "#ffffff ")))
        assert all(contrast(colours["accent"], background) >= 4.5 for background in backgrounds)
        assert contrast(colours["accent"], colours["on-accent"]) >= 4.5
        assert contrast(colours["accent-strong"], colours["on-accent"]) >= 4.5


# OTP_CSP


def test_a_page_loads_only_what_is_ours_and_sends_its_forms_only_to_us(page_of: Callable[..., Any]) -> None:
    assert page_of().headers["Content-Security-Policy"] == POLICY


def test_forms_may_lead_on_to_the_apps_own_origins(page_of: Callable[..., Any]) -> None:
    origins = ("https://app.example.com", "capacitor://localhost")
    page = page_of(OTP_BASE_URL="https://shop.example", OTP_TRUSTED_ORIGINS=origins)
    forms = "form-action 'self' https://shop.example https://app.example.com;"
    assert forms in page.headers["Content-Security-Policy"]


def test_the_page_of_a_kept_form_may_lead_on_to_a_payment_provider(make_app: AppFactory) -> None:
    app = make_app(OTP())
    app.add_url_rule("/pay", "pay", otp_required(lambda: "paid"), methods=["GET", "POST"])
    client = app.test_client()
    with capture_codes(app) as sent:
        client.post("/pay", data={"amount": "5"}, headers=HTML | {"Sec-Fetch-Site": "same-origin"})
        client.post("/otp/send", data={"identifier": "ann@example.com"})
        answer = client.post("/otp/verify", data={"code": sent.code}, headers=HTML)
    page = client.get(answer.location, headers=HTML)
    assert "One click left" in page.text
    assert page.headers["Content-Security-Policy"] == POLICY.replace("form-action 'self'", "form-action 'self' https:")


def test_the_policy_can_be_widened(page_of: Callable[..., Any]) -> None:
    wider = {
        "style-src": ["https://cdn.example"],
        "img-src": ["data:", "https://*.cdn.example:8443"],
        "font-src": ("https://cdn.example/fonts/a@1.2/",),
    }
    told = page_of(OTP_CSP=wider).headers["Content-Security-Policy"]
    for part in (
        "style-src 'self' https://cdn.example;",
        "img-src 'self' data: https://*.cdn.example:8443;",
        "font-src https://cdn.example/fonts/a@1.2/",
    ):
        assert part in told
    for kept in ("default-src 'none'", "script-src 'self';", "base-uri 'none'", "frame-ancestors 'none'"):
        assert kept in told


def bad_policies() -> Iterator[object]:
    yield from (None, "https://cdn.example", ["style-src"], {"style-src": "https://cdn.example"}, {"style-src": None})
    for name in ("default-src", "base-uri", "frame-ancestors", "object-src", "sandbox", "script", "script-src-elem", 1):
        yield {name: ["https://cdn.example"]}
    keywords = ("unsafe-inline", "unsafe-eval", "unsafe-hashes", "strict-dynamic", "wasm-unsafe-eval", "nonce-abc")
    for source in (
        *(f"'{keyword}'" for keyword in keywords),
        "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='",
        *("*", "https:", "https://*", "http://cdn.example", "//cdn.example", "cdn.example", "blob:", "filesystem:", ""),
        *("https://cdn.example; script-src *", "https://cdn.example 'unsafe-inline'", "https://cdn.example\r\nX: y"),
        *("https://cdn.example,https://x", "https://*.*.example", "https://localhost", None, 7),
    ):
        yield from ({name: [source]} for name in ("script-src", "style-src"))
    yield {"script-src": ["data:"]}
    yield {"style-src": ["data:"]}


@pytest.mark.parametrize("value", [*bad_policies()], ids=repr)
def test_r36_no_setting_admits_an_inline_script_or_any_host(make_app: AppFactory, value: object) -> None:
    with pytest.raises(ConfigError, match=r"OTP_CSP .*settings/otp-csp"):
        make_app(OTP(), OTP_CSP=value)


@examples(300, 5000)
@given(st.text(max_size=40) | st.from_regex(r"https://[ -~]{1,30}"))
def test_r36_whatever_is_admitted_is_one_host(source: str) -> None:
    try:
        csp({"script-src": [source]})
    except ValueError:
        return
    assert re.fullmatch(r"https://[^\s;,'\"]+\.[^\s;,'\"]+", source)


# Static files


SECRET_FILE = Path(static_files.__file__)
UP = f"../http/{SECRET_FILE.name}"


@pytest.mark.parametrize(
    "path",
    [UP, str(SECRET_FILE), "../" * 20 + str(SECRET_FILE)[1:], "nothing.css", "", "../static"],
    ids=["up", "from the root", "up to the root", "missing", "none", "a folder"],
)
@pytest.mark.parametrize("method", ["OPTIONS", "GET", "HEAD"])
@pytest.mark.parametrize("is_answered_by_the_app", [False, True])
def test_the_route_of_static_files_reads_no_other_file(
    make_app: AppFactory, path: str, method: str, is_answered_by_the_app: bool
) -> None:
    """Its headers would tell whether a file exists, and whether a guess of its content is right."""
    app = make_app()
    if is_answered_by_the_app:
        app.before_request(lambda: "closed for an hour")
    version = assets.digest(SECRET_FILE.read_text("utf-8"))
    answer = app.test_client().open(f"/otp/static/{path}", method=method, query_string={"v": version})
    assert answer.status_code in (200, 404)
    assert "max-age" not in answer.headers.get("Cache-Control", "")


def test_browsers_keep_static_files_for_a_year_and_load_changed_ones(
    make_app: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(OTP(), OTP_BRAND=FULL)
    client = app.test_client()
    page = client.get("/otp/", headers=HTML).text
    addresses = re.findall(r'(?:href|src)="(/otp/(?:static|brand)[^"]+)"', page)
    assert len(addresses) == 3
    for address in addresses:
        with client.get(address) as kept:
            assert kept.headers["Cache-Control"] == "private, max-age=31536000, immutable"
            assert "Vary" not in kept.headers
            again = client.get(address, headers={"If-None-Match": kept.headers.get("ETag", "")})
            assert again.headers["Cache-Control"] == "private, max-age=31536000, immutable"
            again.close()
        for other in (address.split("?")[0], address[:-1], f"{address}0"):
            with client.get(other) as short:
                assert short.headers["Cache-Control"] == "private, max-age=300"
    monkeypatch.setattr(static_files.assets, "version", lambda filename: "changed")
    assert 'otp.css?v=changed"' in client.get("/otp/", headers=HTML).text


def test_every_selector_is_ours() -> None:
    """Otherwise our style sheet could change the app's layout around our content."""
    sheet = (Path(static_files.__file__).parents[1] / "static" / "otp.css").read_text("utf-8")
    sheet = re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL)
    sheet = re.sub(r"@keyframes otp-\S+ \{(?:[^{}]*\{[^{}]*\})*\s*\}", "", sheet)
    sheet += Brand(accent="#0b7285").style_sheet
    selectors = [
        selector.strip()
        for rule in re.findall(r"([^{}]+)\{[^{}]*\}", re.sub(r"@media[^{]*\{", "", sheet))
        for selector in re.split(r",(?![^(]*\))", rule)
    ]
    assert len(selectors) > 80
    assert [selector for selector in selectors if not re.match(r"\.otp(?![\w-])", selector)] == []


def test_a_layout_of_the_apps_own_has_our_head_content_and_footer(make_app: AppFactory, tmp_path: Path) -> None:
    layout = tmp_path / "templates" / "flask_otp" / "base.html"
    layout.parent.mkdir(parents=True)
    layout.write_text(
        "<html><head>{% include 'flask_otp/_head.html' %}</head><body><nav>Shop</nav>"
        "<main class='otp'>{% block content %}{% endblock %}{% include 'flask_otp/_footer.html' %}</main></body></html>"
    )
    app = Flask("site", root_path=str(tmp_path))
    app.config.update(TESTING=True, SECRET_KEY="x" * 40, OTP_STORAGE_URI="memory://", OTP_BRAND=FULL)
    OTP(app)
    page = app.test_client().get("/otp/", headers=HTML).text
    assert page.index("<nav>Shop") < page.index("Send me a code")
    for part in ("otp.css?v=", "otp.js?v=", "brand.css?v=", ">Help</a>"):
        assert part in page
