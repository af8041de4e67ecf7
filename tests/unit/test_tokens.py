"""The strings that clients hold: what they hide, what they are worth when changed, and what older ones are worth."""

from __future__ import annotations

import base64
import hashlib
import string
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import Signer

from flask_otp import OTP, ConfigError, current_verification, otp_required
from flask_otp.crypto import envelopes
from flask_otp.crypto.envelopes import Sealed, Signed
from flask_otp.crypto.keys import Keys
from flask_otp.crypto.payloads import Handle, KnownBrowser, NextSend, Proof, Requirement
from flask_otp.crypto.tokens import Tokens
from flask_otp.stores import Attempt, ChallengeRequest
from tests.support.apps import SECRET as SECRET_TEXT
from tests.support.apps import START, AppFactory
from tests.support.examples import examples

ANN = "ann@example.com"
SECRET = SECRET_TEXT.encode()
KEYS = Keys(SECRET, "otp")
SEALED = ("handle", "requirement", "repeat", "delivery")
BASE64 = string.ascii_letters + string.digits + "-_"


def handle(keys: Keys = KEYS, **changed: Any) -> Handle:
    members: dict[str, Any] = {
        "challenge_id": b"i" * 16,
        "purpose": "login",
        "channel": "email",
        "context": b"",
        "strong": False,
        "length": 6,
        "expires_at": START + 300,
        "ready_at": START + 30,
        "identifier": ANN,
        "is_decoy": False,
        "context_values": None,
        "keys": keys,
    }
    return Handle(**(members | changed))


def proof(keys: Keys = KEYS, **changed: Any) -> Proof:
    members: dict[str, Any] = {
        "proof_id": b"p" * 12,
        "purpose": "login",
        "channel": "email",
        "context": b"",
        "verified_at": START + 0.5,
        "expires_at": START + 900,
        "identifier": ANN,
        "keys": keys,
    }
    return Proof(**(members | changed))


NEXT = NextSend("handle", ("sms", "voice"), START + 45.5, "zh_Hans_CN", "192.0.2.0", b"b" * 8, b"", 0)
KNOWN = [KnownBrowser(b"s" * 16, b"l" * 8, 1)]


def one_of_each(tokens: Tokens) -> dict[str, str]:
    return {
        "handle": tokens.dump_handle(handle(tokens.keys)),
        "proof": tokens.dump_proof(proof(tokens.keys)),
        "requirement": tokens.dump_requirement(Requirement("login", b"", None, None, (), START + 900)),
        "repeat": tokens.dump_repeat(b"", ["login", "/pay"]),
        "delivery": tokens.dump_delivery("handle", ANN, "message", "en"),
        "next": tokens.dump_next(NEXT),
        "call": tokens.dump_call([START, "123456"]),
        "known": tokens.dump_known(KNOWN),
    }


KINDS = tuple(one_of_each(Tokens([KEYS])))


def load(tokens: Tokens, kind: str, token: object) -> Any:
    if kind == "repeat":
        return tokens.load_repeat(token, lambda context, values: (context, values))
    return getattr(tokens, f"load_{kind}")(token)


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


# What goes in comes out


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"context_values": {"amount": "5 €"}, "context": b"c" * 32},
        {"is_decoy": True},
        {"strong": True},
        {"length": 8},
        {"user": "bob@example.com", "is_test": True},
        {"is_decoy": True, "is_test": True, "numbers": "+4915"},
        {"numbers": ""},
        {"challenge_id": bytes(range(16)), "identifier": "münchen ✓"},
    ],
    ids=repr,
)
def test_a_handle_comes_back_as_it_was(changed: dict[str, Any]) -> None:
    tokens, made = Tokens([KEYS]), handle(**changed)
    assert tokens.load_handle(tokens.dump_handle(made)) == made


@pytest.mark.parametrize("context_values", [None, {"amount": "5 €"}], ids=repr)
def test_what_else_is_made_comes_back_as_it_was(context_values: Any) -> None:
    tokens = Tokens([Keys(SECRET, "new"), KEYS])
    asked = Requirement("transfer", b"c" * 32, context_values, ANN, ("sms", "email"), START + 900, "bob")
    assert tokens.load_requirement(tokens.dump_requirement(asked)) == asked
    passed = proof(purpose="transfer", channel="sms", context=b"c" * 32, identifier="müller@example.com")
    assert [tokens.load_proof(tokens.dump_proof(passed)) for _ in range(2)] == [passed] * 2
    delivery = ("handle", ANN, "message", "en")
    assert tokens.load_delivery(tokens.dump_delivery(*delivery)) == delivery
    for next_send in (NEXT, replace(NEXT, network=None, known_bucket=b"k" * 8, known_since=START * 1000)):
        assert tokens.load_next(tokens.dump_next(next_send)) == next_send
    known = [*KNOWN, KnownBrowser(b"\0" * 16, b"\xff" * 8, START * 1000)]
    assert tokens.load_known(tokens.dump_known(known)) == known
    kept = (bytes(range(32)), ["login", context_values])
    assert load(tokens, "repeat", tokens.dump_repeat(*kept)) == kept


def test_the_proofs_that_are_remembered_are_bounded() -> None:
    tokens = Tokens([KEYS])
    for number in range(1001):
        made = proof(proof_id=b"%012d" % number)
        assert tokens.load_proof(tokens.dump_proof(made)) == made
        assert len(tokens._proofs) <= 1000
    assert len(tokens._proofs) == 1


def test_the_handles_that_are_remembered_are_bounded() -> None:
    tokens = Tokens([KEYS])
    for number in range(101):
        made = handle(challenge_id=b"%016d" % number)
        assert tokens.load_handle(tokens.dump_handle(made)) == made
        assert len(tokens._handles) <= 100
    assert len(tokens._handles) == 1


def test_r34_no_value_shows_a_code_or_an_address_when_it_is_printed() -> None:
    tokens = Tokens([KEYS])
    one = one_of_each(tokens)
    assert repr(handle()) == "<Handle login email>"
    assert repr(tokens.load_proof(one["proof"])) == "<Proof login email>"
    assert repr(tokens.load_requirement(one["requirement"])) == "<Requirement login>"


# What a client can tell from a token


@pytest.mark.parametrize("kind", SEALED)
def test_what_is_sealed_shows_nothing_but_its_version_and_looks_different_each_time(kind: str) -> None:
    made = {decode(one_of_each(Tokens([KEYS]))[kind]) for _ in range(100)}
    assert len(made) == 100
    # From the nonce on, no byte is the same in all of them, as it would be if a part were not sealed.
    same = [place for place, values in enumerate(zip(*made, strict=True)) if len(set(values)) == 1]
    assert same == [0]


def test_a_member_that_changes_does_not_show_in_a_handle() -> None:
    """Whether a message was withheld may come out otherwise at the second request: no half may stay the same."""
    tokens = Tokens([KEYS])
    real, decoy = (decode(tokens.dump_handle(handle(is_decoy=is_decoy))) for is_decoy in (False, True))
    assert len(real) == len(decoy)
    for start in range(9, len(real) - 16):
        assert real[start : start + 8] != decoy[start : start + 8]


def test_the_length_of_what_is_sealed_does_not_tell_one_address_from_another() -> None:
    tokens = Tokens([KEYS])

    lengths = [len(tokens.dump_handle(handle(identifier="a" * size))) for size in range(1, 97)]
    steps = [place for place, (shorter, longer) in enumerate(pairwise(lengths)) if shorter != longer]
    assert [later - earlier for earlier, later in pairwise(steps)] == [32, 32]


@pytest.mark.parametrize("size", range(1, 33))
def test_whether_a_handle_only_pretends_does_not_show_in_its_length(size: int) -> None:
    """Nor who is a test recipient, or has a phone, whatever the length of the address."""
    tokens = Tokens([KEYS])

    def lengths(numbers: tuple[str, ...] | None) -> set[int]:
        return {
            len(tokens.dump_handle(handle(identifier="a" * size, is_decoy=decoy, is_test=test, numbers=number)))
            for decoy, test, number in product((False, True), (False, True), numbers or (None,))
        }

    assert len(lengths(None)) == 1
    assert len(lengths(("", "+4915112US", "+4930", "+123456789012"))) == 1


def test_tokens_are_short() -> None:
    """They must fit into cookies and links. SPEC.md 23: 210, 170 and 119 characters."""
    tokens = Tokens([KEYS])
    by_phone = {"channel": "sms", "identifier": "+4915112345678", "numbers": "+491511234DE"}
    for changed in ({}, {"identifier": "person123456@example.com"}, {"user": ANN}, by_phone):
        assert len(tokens.dump_handle(handle(**changed))) <= 204
    assert len(tokens.dump_proof(proof(verified_at=START + 0.123456))) <= 150
    assert len(tokens.dump_known([KnownBrowser(b"s" * 16, b"l" * 8, START * 1000)])) == 88


def test_a_proof_of_several_channels_has_a_layout_of_its_own_and_one_of_a_single_channel_is_as_before() -> None:
    tokens = Tokens([KEYS])
    single = Proof(b"p" * 12, "login", "sms", b"", 1.5, 9, "ann@example.com", KEYS)
    several = replace(single, others=("email", "voice"))
    loaded = tokens.load_proof(tokens.dump_proof(several))
    assert loaded is not None
    assert loaded.channels == ("sms", "email", "voice")
    versions = [Signed("proof", [KEYS]).open(tokens.dump_proof(proof)) for proof in (single, several)]
    assert [opened.version for opened in versions if opened] == [2, 3]


def test_a_proof_spends_no_byte_that_json_does_not_need() -> None:
    shown = decode(Tokens([KEYS]).dump_proof(proof(identifier="müller@example.com")).partition(".")[0])
    values = f'["login","email",{START}.5,{START + 900},"müller@example.com"]'
    assert shown == b"\x02\x0cpppppppppppp\x00" + values.encode()


# What is changed, cut, joined, or of another kind


def test_r26_a_token_of_one_kind_is_nothing_to_the_others() -> None:
    tokens = Tokens([KEYS])
    for (made, token), asked in product(one_of_each(tokens).items(), KINDS):
        assert bool(load(tokens, asked, token)) == (made == asked), (made, asked)


def test_r26_a_token_is_opened_by_the_keys_it_was_made_with_and_by_no_others() -> None:
    older, newer, foreign = Keys(SECRET, "older"), Keys(SECRET, "newer"), Keys(SECRET, "foreign")
    for kind, token in one_of_each(Tokens([older])).items():
        loaded = load(Tokens([newer, older]), kind, token)
        assert loaded
        assert getattr(loaded, "keys", older) is older
        assert not load(Tokens([newer, foreign]), kind, token)


def test_what_belongs_to_an_older_challenge_is_made_with_its_own_key() -> None:
    older, newer = Keys(SECRET, "older"), Keys(SECRET, "newer")
    both, old = Tokens([newer, older]), Tokens([older])
    assert old.load_handle(both.dump_handle(handle(older))) == handle(older)
    assert old.load_proof(both.dump_proof(proof(older))) == proof(older)
    assert not old.load_known(both.dump_known(KNOWN))


@pytest.mark.parametrize("envelope", [Signed, Sealed])
def test_a_version_that_is_not_known_is_refused_and_cannot_be_changed(envelope: type[Signed | Sealed]) -> None:
    kind = "proof" if envelope is Signed else "handle"
    tokens, made = Tokens([KEYS]), envelope(kind, [KEYS])
    opened = made.open(one_of_each(tokens)[kind])
    assert opened is not None
    assert load(tokens, kind, made.close(KEYS, opened.version, opened.body))
    for version in (0, 1, 4, 255):
        other = made.close(KEYS, version, opened.body)
        assert load(tokens, kind, other) is None
        text, dot, signature = other.partition(".")
        changed = encode(bytes([opened.version]) + decode(text)[1:])
        assert load(tokens, kind, changed + dot + signature) is None


def test_the_kind_is_bound_even_if_two_kinds_had_one_key() -> None:
    one, other = Sealed("one", [KEYS]), Sealed("other", [KEYS])
    other._ciphers = one._ciphers
    assert one.open(one.close(KEYS, 2, b"body")) == (KEYS, 2, b"body")
    assert other.open(one.close(KEYS, 2, b"body")) is None


@pytest.mark.parametrize("kind", KINDS)
def test_r26_a_token_has_one_spelling(kind: str) -> None:
    """Base64 has bits that mean nothing and letters that are passed over; each would make two tokens of one."""
    tokens = Tokens([KEYS])
    token = one_of_each(tokens)[kind]
    parts = token.split(".")
    spellings = {token[:-1] + letter for letter in BASE64}
    spellings |= {".".join([parts[0][:-1] + letter, *parts[1:]]) for letter in BASE64}
    for foreign, place in product("=\n !*+/\0.", (0, 1, len(parts[0]), len(token) - 1, len(token))):
        spellings.add(token[:place] + foreign + token[place:])
    spellings |= {f"{token}==", f"{token}====", token.replace("-", "+"), token.replace("_", "/"), token + token}
    for spelling in spellings - {token}:
        assert not load(tokens, kind, spelling), spelling
    assert load(tokens, kind, token)


def _flip(token: str, where: int) -> str:
    """One bit of the bytes, in the part that it falls into."""
    text, dot, signature = token.partition(".")
    part = signature if dot and where % 2 else text
    data = bytearray(decode(part))
    data[where // 8 % len(data)] ^= 1 << where % 8
    return token.replace(part, encode(bytes(data)))


_MADE = [
    token
    for keys in (KEYS, Keys(SECRET, "otp2"), Keys(SECRET + b"2", "otp"))
    for token in one_of_each(Tokens([keys])).values()
]
_places = st.integers(0, 5000)
_ours = st.sampled_from(_MADE)
_damaged: st.SearchStrategy[str] = st.one_of(
    st.builds(_flip, _ours, _places),
    st.builds(lambda token, place: token[: place % len(token)], _ours, _places),
    st.builds(lambda token, place: token[place % len(token) + 1 :], _ours, _places),
    st.builds(lambda one, two, place: one[: place % len(one)] + two[place % len(one) :], _ours, _ours, _places),
    st.builds(lambda one, two: f"{one.partition('.')[0]}.{two.rpartition('.')[2]}", _ours, _ours),
    st.builds(lambda one, two: f"{one}.{two}", _ours, _ours),
    st.builds(lambda token, text, place: token[:place] + text + token[place:], _ours, st.text(min_size=1), _places),
    st.builds(lambda data: encode(b"\x02" + data), st.binary(max_size=4000)),
    st.builds(lambda data: f"{encode(data)}.{encode(data[:32])}", st.binary(max_size=200)),
    st.text(max_size=200),
    st.builds(lambda text, count: text * count, st.text(BASE64 + ".=é", min_size=1), st.integers(0, 3000)),
)


@examples(200, 2000)
@given(_damaged)
def test_what_is_damaged_is_nothing_and_never_an_error(text: str) -> None:
    if text not in _MADE:
        tokens = Tokens([KEYS, Keys(SECRET, "otp2")])
        assert [load(tokens, kind, text) or None for kind in KINDS] == [None] * len(KINDS)


@pytest.mark.parametrize(
    "token", [None, 1, 1.5, b"x", [], {}, "", ".", "a.b", "A" * 34, "é", "x" * 5000, "Ag"], ids=repr
)
def test_what_is_no_token_is_none_and_never_an_error(token: object) -> None:
    tokens = Tokens([KEYS])
    assert [load(tokens, kind, token) or None for kind in KINDS] == [None] * len(KINDS)


def test_what_is_ours_but_of_another_layout_is_none_and_never_an_error() -> None:
    """As after a step back to an older release."""
    tokens = Tokens([KEYS])
    bodies = (
        b"",
        b"[",
        b"\xff",
        b"\x00",
        b"\x00\x00[]",
        b"\x00\x00{}",
        b"\x00\x00" + b"[" * 9,
        b"\x01a\x01b[1,2]",
        b"1" * 31,
    )
    for kind, version, body in product(KINDS, (2, ord("["), 7), bodies):
        envelope = (Sealed if kind in SEALED else Signed)(kind, [KEYS])
        assert not load(tokens, kind, envelope.close(KEYS, version, body)) or (kind, body) == ("repeat", b"\x00\x00[]")


@pytest.mark.parametrize(("size", "opens"), [(4096, True), (4098, False)])
def test_a_token_has_a_bound(size: int, opens: bool) -> None:
    """No token is one character longer: base64 knows no such length."""
    tokens, made = Tokens([KEYS]), proof()
    while len(token := tokens.dump_proof(made)) < size:
        made = proof(purpose=made.purpose + "x")
    assert len(token) == size
    assert bool(tokens.load_proof(token)) is opens


# What the release before has made: flask_otp at commit fb1b122, with SECRET and the prefix "otp"


OLD_PROOFS = [
    (
        "WyJjSEJ3Y0hCd2NIQndjSEJ3IiwibG9naW4iLCJlbWFpbCIsIiIsMTc5MDAwMDAwMC41LDE3OTAwMDA5MDAsImFubkBleGFtcGxl"
        "LmNvbSJd.UEphoIlii0FY_9OLirI4QYWF6mwffzJixLh9NMlxEcg",
        proof(),
    ),
    (
        "WyJBQUVDQXdRRkJnY0lDUW9MIiwidHJhbnNmZXIiLCJzbXMiLCJBQUVDQXdRRkJnY0lDUW9MREEwT0R4QVJFaE1VRlJZWEdCa2FH"
        "eHdkSGg4IiwxNzkwMDAwMDAwLjEyMzQ1NiwxNzkwMDQzMjAwLCJtw7xsbGVyQGV4YW1wbGUuY29tIl0.0VpafoIeLasD04Zs0YnVC"
        "RcbFgEqSLVTtngORKMlk08",
        proof(
            proof_id=bytes(range(12)),
            purpose="transfer",
            channel="sms",
            context=bytes(range(32)),
            verified_at=START + 0.123456,
            expires_at=START + 43_200,
            identifier="müller@example.com",
        ),
    ),
]
OLD_KNOWN = (
    "W1siQUFFQ0F3UUZCZ2NJQ1FvTERBME9EdyIsIl9fX19fX19fX184IiwxNzkwMDAwMDAwMTIzXSxbImRIUjBkSFIwZEhSMGRIUjBkSFIw"
    "ZEEiLCJBQUFBQUFBQUFBQSIsMl1d.beOYK_Ao_HTmmLw5DIahRyFarZ0kZ-2XePUKHH4pc_o"
)


def test_what_the_release_before_has_signed_opens() -> None:
    tokens = Tokens([Keys(SECRET, "new"), KEYS])
    for old, made in OLD_PROOFS:
        loaded = tokens.load_proof(old)
        assert loaded == made
        assert tokens.dump_proof(loaded) == old  # else it would have two spellings
    first = KnownBrowser(bytes(range(16)), b"\xff" * 8, START * 1000 + 123)
    assert tokens.load_known(OLD_KNOWN) == [first, KnownBrowser(b"t" * 16, b"\0" * 8, 2)]


def test_what_the_release_before_has_signed_has_one_spelling_too() -> None:
    tokens = Tokens([KEYS])
    for old, letter in product((OLD_PROOFS[0][0], OLD_KNOWN), BASE64):
        if not old.endswith(letter):
            assert not load(tokens, "proof", old[:-1] + letter)
            assert not load(tokens, "known", old[:-1] + letter)


def test_a_proof_of_the_release_before_opens_the_door(make_app: AppFactory) -> None:
    app: Flask = make_app(OTP(clock=lambda: START + 60))
    app.add_url_rule("/account", "account", otp_required(lambda: current_verification.identifier))
    state = app.extensions["otp"]
    old, made = OLD_PROOFS[0]
    ask = app.test_client().get
    bearer = {"Authorization": f"Bearer {old}"}
    assert ask("/account", headers=bearer).status_code == 401  # the store does not know it
    subject = KEYS.subject("login", ANN)
    asked = ChallengeRequest(b"i" * 16, b"b" * 8, b"t" * 8, b"", 0)
    state.store.open(subject, asked, state.service._policies["login"], START)
    attempt = Attempt(b"i" * 16, True, made.proof_id, made.expires_at)
    state.store.redeem(subject, attempt, state.service._policies["login"], START)
    assert ask("/account", headers=bearer).text == ANN


# Where there is no AES-SIV


def test_an_environment_without_the_cipher_is_told_at_start(
    make_app: AppFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(key: bytes) -> Callable[..., bytes]:
        raise UnsupportedAlgorithm("AES-SIV is not supported by this version of OpenSSL")

    monkeypatch.setattr(envelopes, "AESSIV", missing)
    with pytest.raises(ConfigError, match="has no AES-SIV"):
        make_app()


@given(body=st.binary(max_size=80))
def test_what_is_signed_is_what_itsdangerous_would_make_of_it(body: bytes) -> None:
    token = Signed("proof", [KEYS]).close(KEYS, 7, body)
    signer = Signer(KEYS.derive("proof"), key_derivation="none", digest_method=hashlib.sha256)
    assert signer.unsign(token) == base64.urlsafe_b64encode(b"\7" + body).rstrip(b"=")
    assert signer.sign(signer.unsign(token)).decode() == token
