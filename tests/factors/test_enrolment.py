"""Adding, removing and moving authenticator apps in Python, and the column that holds them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from flask import Flask, current_app

from flask_otp import OTP, ConfigError, FactorsUnavailable, InvalidCode, InvalidRequest
from flask_otp.factors.column import Column
from flask_otp.factors.record import App, FactorRecord
from flask_otp.factors.sealing import seal, unseal
from flask_otp.signals import factor_added, factor_removed
from flask_otp.testing import Clock
from tests.support.apps import SECRET, AppFactory
from tests.support.factor_site import ANN, BOB, SEALED, Browser, Phone, Table, add_views, enrol, make_otp


@pytest.fixture(autouse=True)
def context(app: Flask) -> Any:
    with app.app_context():
        yield


def test_nothing_is_kept_before_the_first_right_code(otp: OTP, clock: Clock, table: Table) -> None:
    enrolment = otp.totp.begin(ANN)
    phone = Phone(enrolment.uri, clock)
    with pytest.raises(InvalidCode):
        otp.totp.confirm(enrolment.token, phone.wrong())
    assert table.rows[ANN] is None
    assert otp.factors(ANN).totp == ()
    codes = otp.totp.confirm(enrolment.token, phone.code())
    assert otp.factors(ANN).totp == ("phone",)
    assert otp.factors(ANN).recovery_left == len(set(codes)) == 10
    assert all(re.fullmatch("[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{5}", code) for code in codes)


def test_the_uri_and_the_written_secret_are_what_apps_expect(otp: OTP, app: Flask) -> None:
    enrolment = otp.totp.begin(ANN)
    assert re.fullmatch(r"otpauth://totp/site:ann%40example\.com\?secret=[A-Z2-7]{32}&issuer=site", enrolment.uri)
    assert re.fullmatch("[A-Z2-7]{4}( [A-Z2-7]{4}){7}", enrolment.written_secret)
    assert enrolment.written_secret.replace(" ", "") == enrolment.secret
    assert enrolment.expires_in == 600
    assert "secret" not in repr(enrolment)
    assert enrolment.secret not in repr(enrolment)


def test_recovery_codes_come_with_the_first_app_and_go_with_the_last(otp: OTP, app: Flask, clock: Clock) -> None:
    _, first = enrol(app, clock)
    _, second = enrol(app, clock, name="tablet")
    assert (len(first), second) == (10, ())
    otp.totp.remove(ANN, "phone")
    assert otp.factors(ANN).totp == ("tablet",)
    assert otp.factors(ANN).recovery_left == 10
    otp.totp.remove(ANN, "tablet")
    assert (otp.factors(ANN).totp, otp.factors(ANN).recovery_left) == ((), 0)
    _, third = enrol(app, clock)
    assert len(set(first) & set(third)) == 0


def test_the_factors_of_a_number_that_gets_no_message_any_more_can_be_changed(
    make_app: AppFactory, clock: Clock
) -> None:
    """A test recipient's, after its last day: like those of any number that is no longer accepted."""
    table = Table("+15550100", "+15550101")
    otp = make_otp(clock, table)
    day = datetime.fromtimestamp(clock(), timezone.utc).date()
    testers = dict.fromkeys(table.rows, ("402817", day))
    with make_app(otp, OTP_TEST_RECIPIENTS=testers).app_context():
        clock.advance("2d")
        enrolment = otp.totp.begin("+1 555 0100", "tablet")
        otp.totp.confirm(enrolment.token, Phone(enrolment.uri, clock).code())
        assert len(otp.recovery.renew("+15550100")) == 10
        otp.move_factors("+15550100", "+15550101")
        otp.totp.remove("+15550101", "tablet")
        assert otp.factors("+15550101").totp == ()


def test_the_same_form_sent_twice_is_one_app_and_shows_the_codes_again(otp: OTP, clock: Clock) -> None:
    enrolment = otp.totp.begin(ANN)
    code = Phone(enrolment.uri, clock).code()
    assert otp.totp.confirm(enrolment.token, code) == otp.totp.confirm(enrolment.token, code) != ()
    assert otp.factors(ANN).totp == ("phone",)
    # Once a recovery code was used, the codes are not shown again: the request is then no repeat from that page.
    column = Column(current_app.extensions["otp"])
    column.change(ANN, lambda record: (record.with_use(0), None))
    assert otp.totp.confirm(enrolment.token, code) == ()


def test_a_device_has_a_short_random_name(app: Flask, clock: Clock) -> None:
    """Five of them must fit into the column."""
    for name in ("phone", "tablet"):
        enrol(app, clock, name=name)
    devices = {known.device for known in Column(app.extensions["otp"]).read(ANN).apps}
    assert [len(device) for device in devices] == [8, 8]


def test_an_enrolment_is_good_for_ten_minutes(otp: OTP, clock: Clock, table: Table) -> None:
    enrolment = otp.totp.begin(ANN)
    clock.advance(599)
    enroller = current_app.extensions["otp"].factors.enroller
    assert enroller.show_again(enrolment.token, ANN).expires_in == 1
    assert enroller.show_again(enrolment.token, ANN).secret == enrolment.secret
    assert enroller.show_again(enrolment.token, BOB) is None
    otp.totp.confirm(enrolment.token, Phone(enrolment.uri, clock).code())
    late = otp.totp.begin(ANN, "tablet")
    clock.advance(600)
    with pytest.raises(InvalidRequest, match="too long"):
        otp.totp.confirm(late.token, Phone(late.uri, clock).code())


@pytest.mark.parametrize("name", ["", "  ", "x" * 41, "a\u202eb", "a\0b", 5, None])
def test_names_that_do_not_fit_are_refused(otp: OTP, name: Any) -> None:
    assert refusal(lambda: otp.totp.begin(ANN, name)) == ("Give the app a name of at most 40 characters.", "name")
    for longest_and_shortest in ("x" * 40, "x"):
        otp.totp.begin(ANN, longest_and_shortest)


def refusal(call: Callable[[], object]) -> tuple[str | None, str | None]:
    with pytest.raises(InvalidRequest) as caught:
        call()
    return caught.value.description, caught.value.field


def test_each_refusal_says_what_to_do(otp: OTP, app: Flask, clock: Clock) -> None:
    apps = "There are too many authenticator apps. Remove one first."
    assert refusal(lambda: otp.totp.confirm("x", "123456")) == (
        "This took too long. Please scan the new QR code.",
        None,
    )
    assert refusal(lambda: otp.recovery.renew(ANN)) == ("There is no authenticator app yet.", None)
    enrol(app, clock)
    taken = "You have an app of this name already. Choose another name."
    assert refusal(lambda: otp.totp.begin(ANN, "phone")) == (taken, "name")
    for name in "abcd":
        enrol(app, clock, name=name)
    assert refusal(lambda: otp.totp.begin(ANN, "sixth")) == (apps, None)
    assert refusal(lambda: otp.totp.remove(ANN, "x")) == ("There is no authenticator app of this name.", "name")


@pytest.mark.parametrize("code", [123456, None, b"123456", "12345", ""])
def test_what_cannot_be_a_code_confirms_nothing(otp: OTP, table: Table, code: Any) -> None:
    with pytest.raises(InvalidCode):
        otp.totp.confirm(otp.totp.begin(ANN).token, code)
    assert table.rows[ANN] is None


def test_names_are_told_apart_and_there_is_room_for_five(otp: OTP, app: Flask, clock: Clock, table: Table) -> None:
    enrol(app, clock, name=" my  phone ")
    assert otp.factors(ANN).totp == ("my phone",)
    with pytest.raises(InvalidRequest, match="already"):
        otp.totp.begin(ANN, "my phone")
    for number in range(4):
        enrol(app, clock, name="\U0001f4f1" * 38 + f"{number:02}")
    with pytest.raises(InvalidRequest, match="too many"):
        otp.totp.begin(ANN, "sixth")
    assert len(table.rows[ANN] or "") <= 4096
    with pytest.raises(InvalidRequest, match="no authenticator app"):
        otp.totp.remove(ANN, "another")


def test_renewed_recovery_codes_are_others(otp: OTP, app: Flask, clock: Clock) -> None:
    _, codes = enrol(app, clock)
    renewed = otp.recovery.renew(ANN)
    assert (len(renewed), set(codes) & set(renewed)) == (10, set())
    with pytest.raises(InvalidRequest, match="no authenticator app"):
        otp.recovery.renew(BOB)


def test_signals_tell_of_every_change(otp: OTP, app: Flask, clock: Clock) -> None:
    heard: list[Any] = []
    for signal in (factor_added, factor_removed):
        signal.connect(
            lambda sender, event, signal=signal, **told: heard.append((signal.name, sender, told)), weak=False
        )
    try:
        enrol(app, clock)
        otp.totp.remove(ANN, "phone")
    finally:
        for signal in (factor_added, factor_removed):
            signal.receivers.clear()
    told = {"identifier": ANN, "name": "phone"}
    assert heard == [("otp-factor-added", app, told), ("otp-factor-removed", app, told)]


# Two at once


def test_of_two_enrolments_at_once_one_is_first_and_nobody_loses_an_app(otp: OTP, app: Flask, clock: Clock) -> None:
    for _ in range(20):
        answers = confirmed_at_once(otp, app, clock, ("phone", "tablet"))
        assert sorted(otp.factors(ANN).totp) == ["phone", "tablet"]
        assert sorted(map(len, answers)) == [0, 10]
        for name in ("phone", "tablet"):
            otp.totp.remove(ANN, name)


def confirmed_at_once(otp: OTP, app: Flask, clock: Clock, names: tuple[str, ...]) -> list[tuple[str, ...]]:
    enrolments = [otp.totp.begin(ANN, name) for name in names]
    barrier = threading.Barrier(len(names))

    def confirm(number: int) -> tuple[str, ...]:
        barrier.wait(5)
        with app.app_context():
            return otp.totp.confirm(enrolments[number].token, Phone(enrolments[number].uri, clock).code())

    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(confirm, range(len(names))))


def test_a_saver_that_never_saves_is_told_and_one_that_answers_nothing_is_a_mistake(otp: OTP, clock: Clock) -> None:
    enrolment = otp.totp.begin(ANN)
    code = Phone(enrolment.uri, clock).code()
    otp.factors_saver(lambda identifier, new, old: False)
    with pytest.raises(FactorsUnavailable):
        otp.totp.confirm(enrolment.token, code)
    otp.factors_saver(lambda identifier, new, old: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(
        ConfigError, match=r"^otp.factors_saver must return True if it saved, and False if it did not \(see: "
    ):
        otp.totp.confirm(enrolment.token, code)
    otp.factors_loader(lambda identifier: b"bytes")  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match=r"^otp.factors_loader must return a str or None, not bytes \(see: "):
        otp.factors(ANN)


def test_a_column_that_is_empty_text_is_no_app_and_is_swapped_as_it_is(
    otp: OTP, app: Flask, clock: Clock, table: Table
) -> None:
    table.rows[ANN] = ""
    assert otp.factors(ANN).totp == ()
    enrol(app, clock)
    assert otp.factors(ANN).totp == ("phone",)


# At rest


def test_a_column_of_the_release_before_opens(otp: OTP, app: Flask, table: Table, caplog: Any) -> None:
    table.rows[ANN] = SEALED
    column = Column(app.extensions["otp"])
    device = App("Zoë's phone", bytes(range(20)), bytes(range(8)), 59_000_000)
    assert column.find(ANN) == column.read(ANN) == FactorRecord((device,), bytes(range(32)), 0b1001)
    assert otp.factors(ANN).recovery_left == 8
    huge = replace(device, name="x" * 4000)
    with pytest.raises(InvalidRequest, match=r"There are too many authenticator apps\. Remove one first\."):
        column.save(ANN, FactorRecord((huge,), bytes(32)), SEALED)
    # Nor does it become longer, of what the app keeps 4 KiB.
    assert column.save(ANN, column.read(ANN), SEALED)
    assert len(table.rows[ANN] or "") == len(SEALED)
    # An account without factors is not reported like one whose factors do not open.
    assert column.find(BOB) == column.find("nobody@example.com") == FactorRecord()
    assert caplog.text == ""


def test_what_is_sealed_opens_whatever_its_last_character_up_to_4096(app: Flask) -> None:
    keys = app.extensions["otp"].tokens.keys
    for number in range(400):
        assert unseal([keys], "kind", ANN, seal(keys, "kind", ANN, "x" * (number % 3))) == ("x" * (number % 3), keys)
    longest, too_long = (seal(keys, "kind", ANN, "x" * length) for length in (3040, 3041))
    assert (len(longest), len(too_long)) == (4096, 4097)
    assert unseal([keys], "kind", ANN, longest) is not None
    assert unseal([keys], "kind", ANN, too_long) is None


def test_what_goes_wrong_with_the_column_is_told_in_full(
    otp: OTP, app: Flask, table: Table, caplog: pytest.LogCaptureFixture
) -> None:
    column = Column(app.extensions["otp"])
    table.rows[BOB] = SEALED
    with pytest.raises(FactorsUnavailable):
        column.read(BOB)
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        (
            "flask_otp",
            "the factors of b***@example.com do not open: they belong to another identifier (see otp.move_factors), or "
            "were sealed with a key that is in neither SECRET_KEY nor SECRET_KEY_FALLBACKS",
        )
    ]
    caplog.clear()
    table.rows[ANN] = SEALED
    refused: list[str] = []
    otp.factors_saver(lambda identifier, new, old: bool(refused.append(identifier)))
    for change in (otp.recovery.renew, lambda identifier: otp.move_factors(identifier, "new@example.com")):
        refused.clear(), caplog.clear()
        with pytest.raises(FactorsUnavailable):
            change(ANN)
        assert len(refused) == 10
        assert caplog.messages == ["factors_saver refused 10 changes of one column in a row"]


def test_a_dump_of_the_column_shows_nothing_without_the_secret_key(
    otp: OTP, app: Flask, clock: Clock, table: Table
) -> None:
    phone, codes = enrol(app, clock, name="the name of it")
    dump = json.dumps(table.rows)
    for shown in (phone.secret, "the name of it", *codes, *(code.replace("-", "") for code in codes)):
        assert shown not in dump


def test_a_column_copied_to_another_person_is_worth_nothing(otp: OTP, app: Flask, clock: Clock, table: Table) -> None:
    phone, _ = enrol(app, clock)
    table.rows[BOB] = table.rows[ANN]
    with pytest.raises(FactorsUnavailable):
        otp.factors(BOB)
    with pytest.raises(FactorsUnavailable):
        otp.totp.begin(BOB)
    thief = Browser(app)
    thief.send(identifier=BOB)
    assert thief.verify(phone.code()).status_code == 400
    assert otp.factors(ANN).totp == ("phone",)


@pytest.mark.parametrize("place", [0, 2, 20, -2])
def test_a_column_that_was_changed_does_not_open(otp: OTP, app: Flask, clock: Clock, table: Table, place: int) -> None:
    enrol(app, clock)
    text = list(table.rows[ANN] or "")
    text[place] = "B" if text[place] == "A" else "A"
    table.rows[ANN] = "".join(text)
    with pytest.raises(FactorsUnavailable):
        otp.factors(ANN)


def test_a_column_of_fixed_width_is_padded_with_spaces(otp: OTP, app: Flask, clock: Clock, table: Table) -> None:
    """As CHAR(2048) is in PostgreSQL."""
    enrol(app, clock)
    table.rows[ANN] = f"{table.rows[ANN]:2048}"
    assert otp.factors(ANN).totp == ("phone",)


@pytest.mark.parametrize("text", ["1.", "1.AAAA", "2.AAAA", "nonsense", "1.\u00e9", "1." + "A" * 5000])
def test_a_column_that_we_did_not_write_is_told_and_never_overwritten(otp: OTP, table: Table, text: str) -> None:
    table.rows[ANN] = text
    with pytest.raises(FactorsUnavailable):
        otp.totp.begin(ANN)
    assert table.rows[ANN] == text


# Keys and addresses that change


def site_with(make_app: AppFactory, clock: Clock, table: Table, secret: str, *older: str) -> tuple[OTP, Flask]:
    otp = make_otp(clock, table)
    app = make_app(otp, SECRET_KEY=secret, SECRET_KEY_FALLBACKS=list(older))
    add_views(app, account={})
    return otp, app


def test_an_older_key_opens_the_column_until_it_is_sealed_with_the_new_one(
    make_app: AppFactory, app: Flask, clock: Clock, table: Table
) -> None:
    new = "another secret for the tests only"
    enrol(app, clock)
    enrol(app, clock, BOB)
    otp, rotated = site_with(make_app, clock, table, new, SECRET)
    with rotated.app_context():
        assert otp.factors(ANN).totp == otp.factors(BOB).totp == ("phone",)
        otp.reseal(ANN)
        saves = table.saves
        otp.reseal(ANN)
        assert table.saves == saves
    otp, without = site_with(make_app, clock, table, new)
    with without.app_context():
        assert otp.factors(ANN).totp == ("phone",)
        with pytest.raises(FactorsUnavailable):
            otp.factors(BOB)


def test_a_save_under_a_new_key_seals_with_it(make_app: AppFactory, app: Flask, clock: Clock, table: Table) -> None:
    new = "another secret for the tests only"
    enrol(app, clock)
    otp, rotated = site_with(make_app, clock, table, new, SECRET)
    enrol(rotated, clock, name="tablet")
    otp, without = site_with(make_app, clock, table, new)
    with without.app_context():
        assert otp.factors(ANN).totp == ("phone", "tablet")


@pytest.mark.parametrize("moved_by_app", [True, False], ids=["row has moved", "row is still there"])
def test_factors_move_with_a_changed_address(
    otp: OTP, app: Flask, clock: Clock, table: Table, moved_by_app: bool
) -> None:
    phone, codes = enrol(app, clock)
    new = "ann@example.org"
    table.rows[new] = table.rows.pop(ANN) if moved_by_app else None
    if moved_by_app:
        with pytest.raises(FactorsUnavailable):
            otp.factors(new)
    otp.move_factors(ANN, new)
    otp.move_factors(ANN, new)
    assert otp.factors(new).totp == ("phone",)
    assert table.rows.get(ANN) is None
    browser = Browser(app)
    browser.send(identifier=new)
    assert browser.verify(phone.code()).status_code == 400  # perhaps it was used at the old address
    clock.advance(30)
    assert browser.verify(phone.code()).status_code == 200
    browser.send("recovery", identifier=new)
    assert browser.verify(codes[0]).status_code == 200


def test_a_person_without_apps_moves_silently(otp: OTP, table: Table) -> None:
    table.rows["new@example.com"] = None
    otp.move_factors(ANN, "new@example.com")
    assert otp.factors("new@example.com").totp == ()


def test_without_the_hooks_the_methods_say_what_is_missing(make_app: AppFactory, clock: Clock) -> None:
    bare = OTP(clock=clock)
    app = make_app(bare)
    with app.app_context():
        assert Column(app.extensions["otp"]).find(ANN) == FactorRecord()  # no account has factors
        with pytest.raises(
            ConfigError, match=r"^otp.factors_loader is not set: there are no authenticator apps \(see: "
        ):
            bare.totp.begin(ANN)
        bare.factors_loader(lambda identifier: None)
        enrolment = bare.totp.begin(ANN)
        with pytest.raises(ConfigError, match=r"^otp.factors_saver is not set: factors cannot be changed \(see: "):
            bare.totp.confirm(enrolment.token, Phone(enrolment.uri, clock).code())
