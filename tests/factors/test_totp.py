"""Codes of authenticator apps: the vectors of RFC 6238, another implementation, and which time steps are accepted."""

from __future__ import annotations

import subprocess
from base64 import b32decode
from xml.etree import ElementTree

import pytest

from flask_otp import ConfigError
from flask_otp.factors import recovery, totp
from flask_otp.factors.record import App, FactorRecord
from tests.support.factor_site import code_at
from tests.support.programs import program

#: RFC 6238, appendix B, the rows of SHA-1: the time, and the last six of the eight digits.
VECTORS = {
    59: "287082",
    1111111109: "081804",
    1111111111: "050471",
    1234567890: "005924",
    2000000000: "279037",
    20000000000: "353130",
}
SECRET = b"12345678901234567890"
APP = App("phone", SECRET, b"device", -1)
NOW = 1_790_000_010


@pytest.mark.parametrize(("now", "code"), VECTORS.items())
def test_the_vectors_of_rfc_6238_fit_their_step(now: int, code: str) -> None:
    assert totp.fitting(APP, code, now, 0) == [(now // 30,)]
    assert totp.fitting(APP, code, now + 30, 1) == [(now // 30,)]
    assert totp.fitting(APP, code, now + 30, 0) == []


@pytest.mark.parametrize("now", [NOW, NOW + 29, 59, 20_000_000_000])
def test_codes_of_oathtool_fit(now: int) -> None:
    secret = totp.as_base32(totp.new_secret())
    command = [program("oathtool"), "--totp", "--base32", f"--now=@{now}", secret]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    app = App("phone", b32decode(secret), b"device", -1)
    assert totp.fitting(app, code, now, 1) == [(now // 30,)]


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_only_so_many_steps_before_the_present_one_are_accepted_and_none_after_it(steps: int) -> None:
    accepted = [
        back for back in range(-3, 5) if totp.fitting(APP, code_at(totp.as_base32(SECRET), NOW - 30 * back), NOW, steps)
    ]
    assert accepted == list(range(steps + 1))


def test_two_codes_in_a_row_fit_in_their_order_only() -> None:
    last, before = (code_at(totp.as_base32(SECRET), NOW, -back) for back in (0, 1))
    assert totp.fitting(APP, before + last, NOW, 1) == [(NOW // 30 - 1, NOW // 30)]
    assert totp.fitting(APP, last + before, NOW, 1) == []
    assert totp.fitting(APP, last + last, NOW, 1) == []
    assert totp.fitting(APP, before + last, NOW + 30, 1) == [(NOW // 30 - 1, NOW // 30)]
    assert totp.fitting(APP, before + last, NOW + 60, 1) == []


def test_all_steps_that_a_code_fits_are_found_the_oldest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps in a row have the same code once in a million: both are one use each."""
    monkeypatch.setattr(totp.library("pyotp").TOTP, "generate_otp", lambda self, step: "123456")
    assert totp.fitting(APP, "123456", NOW, 2) == [(NOW // 30 - 2,), (NOW // 30 - 1,), (NOW // 30,)]


def test_codes_up_to_the_step_that_the_app_was_confirmed_with_do_not_fit() -> None:
    app = App("phone", SECRET, b"device", NOW // 30 - 1)
    codes = [code_at(totp.as_base32(SECRET), NOW, steps) for steps in (-1, 0)]
    assert totp.fitting(app, codes[0], NOW, 2) == []
    assert totp.fitting(app, codes[1], NOW, 2) == [(NOW // 30,)]
    assert totp.fitting(app, "".join(codes), NOW, 2) == []


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("123 456", "123456"),
        ("\uff11\uff12\uff13456", "123456"),
        ("\u0661\u0662\u0663 \u06f4\u06f5\u06f6", "123456"),
        ("123456-654321", "123456654321"),
        ("123 456 654 321", "123456654321"),
        ("12345", None),
        ("1234567", None),
        ("12345678901", None),
        ("abcdef", None),
        ("", None),
    ],
)
def test_one_code_or_two_in_a_row_are_read_as_people_type_them(typed: str, read: str | None) -> None:
    assert totp.read(typed) == read


def test_a_look_at_the_apps_takes_as_many_steps_for_every_person() -> None:
    assert [len(totp.padded([APP] * number)) for number in range(6)] == [5] * 6
    decoy = totp.padded([])[0]
    assert totp.fitting(decoy, code_at(totp.as_base32(decoy.secret), NOW), NOW, 2) == []


def test_the_qr_code_has_nothing_that_a_strict_policy_forbids() -> None:
    svg = totp.qr_code(totp.uri(SECRET, "ann@example.com", "Shop: Ünited & <Sons>"))
    for element in ElementTree.fromstring(svg).iter():
        assert element.tag.rpartition("}")[2] in ("svg", "path")
        assert not {name for name in element.attrib if name == "style" or name.startswith("on") or "href" in name}
    assert "data:" not in svg
    assert "<style" not in svg


def test_the_qr_code_has_the_border_and_the_contrast_that_scanners_need() -> None:
    text = "otpauth://totp/site:ann%40example.com?secret=AAECAwQFBgcICQoLDA0ODxAREhMAAEC&issuer=site"
    square = 41  # ISO/IEC 18004: version 6, the smallest with so many characters at level M; and a border of 4
    assert totp.qr_code(text).startswith(
        f'<svg viewBox="0 0 {square + 8} {square + 8}" class="qr">'
        f'<path fill="#fff" d="M0 0h{square + 8}v{square + 8}h-{square + 8}z"/><path stroke="#000" d="M4 4.5'
    )
    # Never a micro code, which apps do not read.
    assert 'viewBox="0 0 29 29"' in totp.qr_code("x")


def test_a_secret_has_160_bits_and_its_uri_names_site_and_person() -> None:
    assert {len(totp.new_secret()) for _ in range(9)} == {20}
    assert totp.uri(SECRET, "ann@example.com", "Bank") == (
        f"otpauth://totp/Bank:ann%40example.com?secret={totp.as_base32(SECRET)}&issuer=Bank"
    )
    assert totp.MARKS_LIVE == 3600


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"^otp.factors_loader needs pyotp and segno: pip install 'flask-otp-codes\[totp\]' \(see: "
    ):
        totp.library("no_such_package_of_ours")


# Recovery codes


def test_recovery_codes_are_ten_strong_codes_of_their_seed() -> None:
    seed = recovery.new_seed()
    codes = recovery.codes(seed)
    assert len(set(codes)) == 10
    assert {len(code) for code in codes} == {13}
    assert recovery.codes(seed) == codes
    assert not set(codes) & set(recovery.codes(recovery.new_seed()))
    record = FactorRecord((APP,), seed)
    assert [recovery.find(record, code) for code in codes] == list(range(10))
    assert recovery.find(record, "0" * 13) is None
    assert recovery.find(FactorRecord(), codes[0]) is None


def test_recovery_codes_stay_the_same_from_release_to_release() -> None:
    """People have them on paper."""
    codes = recovery.codes(bytes(range(32)))
    assert (codes[0], codes[9]) == ("8B08CFSDACGBB", "YYQ5THD0XK3FB")
    assert len(recovery.new_seed()) == 32
    assert recovery.MARKS_LIVE == 86400


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("abcd-efgh-jkmnp", "ABCDEFGHJKMNP"),
        (" ABCD EFGH JKMNP", "ABCDEFGHJKMNP"),
        ("oil0-0000-00000", "0110000000000"),
        ("abcd-efgh-jkmn", None),
        ("abcd-efgh-jkmnpq", None),
        ("123456", None),
    ],
)
def test_a_recovery_code_is_read_as_people_type_it(typed: str, code: str | None) -> None:
    assert recovery.read(typed) == code


def test_used_recovery_codes_are_one_bit_each_and_survive_being_written() -> None:
    record = FactorRecord((APP,), bytes(32)).with_use(0).with_use(3)
    assert record.used == 0b1001
    assert FactorRecord.from_json(record.to_json()) == record
    assert FactorRecord.from_json([[], "", 0]) == FactorRecord()


def test_how_many_recovery_codes_are_left() -> None:
    record = FactorRecord((APP,), recovery.new_seed())
    assert [recovery.left(record), recovery.left(record.with_use(3).with_use(9)), recovery.left(FactorRecord())] == [
        10,
        8,
        0,
    ]


def test_nothing_shows_a_secret() -> None:
    assert repr(APP) == "<App>"
    assert repr(FactorRecord((APP,), b"seed")) == "<FactorRecord of 1 apps>"
