"""Stores of apps and of other packages: found by the scheme of the URI."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_otp import stores
from flask_otp.errors import ConfigError
from flask_otp.stores import ChallengeRequest, RedeemOutcome, Store, register_store, store_from_uri
from flask_otp.stores.memory import MemoryStore
from flask_otp.stores.redis import RedisStore
from flask_otp.testing import capture_codes
from tests.support.apps import AppFactory

URI = "fake://ann:hunter2@host/0"


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_registered", {})


class Made(MemoryStore):
    """Remembers what its factory was given."""

    def __init__(self, *given: Any) -> None:
        super().__init__()
        self.given = given


@pytest.mark.parametrize("uri", [URI, "fake+local:///tmp/file", "fake+a+b://"])
def test_a_registered_factory_is_given_uri_prefix_and_options(uri: str) -> None:
    register_store("fake", Made)
    store = store_from_uri(uri, "shop", {"timeout": 2})
    assert isinstance(store, Made)
    assert store.given == (uri, "shop", {"timeout": 2})


def test_the_whole_scheme_comes_before_the_part_before_the_plus() -> None:
    register_store("fake", lambda *_: MemoryStore())
    register_store("fake+local", Made)
    assert isinstance(store_from_uri("fake+local://", "otp", {}), Made)
    assert not isinstance(store_from_uri("fake+other://", "otp", {}), Made)


def test_the_later_factory_stands() -> None:
    register_store("fake", lambda *_: MemoryStore())
    register_store("fake", Made)
    assert isinstance(store_from_uri(URI, "otp", {}), Made)


@pytest.mark.parametrize("scheme", ["s3", "fake", "x-1.b+c"])
def test_an_app_uses_a_registered_store(make_app: AppFactory, scheme: str) -> None:
    made: list[Store] = []

    def factory(uri: str, prefix: str, options: dict[str, Any]) -> Store:
        made.append(Made(uri, prefix, options))
        return made[-1]

    register_store(scheme, factory)
    app = make_app(OTP_STORAGE_URI=f"{scheme}://where", OTP_KEY_PREFIX="shop", OTP_STORAGE_OPTIONS={"a": 1})
    with capture_codes(app) as outbox:
        client = app.test_client()
        assert client.post("/otp/send", json={"email": "ann@example.com"}).status_code == 200
        assert client.post("/otp/verify", json={"code": outbox.code}).status_code == 200
    assert [store.given for store in made if isinstance(store, Made)] == [(f"{scheme}://where", "shop", {"a": 1})]


@pytest.mark.parametrize("scheme", ["memory", "redis", "rediss", "valkey", "redis+mine", "memory+mine"])
def test_our_own_schemes_cannot_be_replaced(scheme: str) -> None:
    with pytest.raises(ConfigError, match="cannot be replaced"):
        register_store(scheme, Made)
    assert isinstance(store_from_uri("memory://", "otp", {}), MemoryStore)
    assert isinstance(store_from_uri("redis://", "otp", {}), RedisStore)


@pytest.mark.parametrize("scheme", ["", "Fake", "fake://", "1st", "fa ke", "fake\n", "fäke"])
def test_what_is_no_scheme_is_told(scheme: str) -> None:
    with pytest.raises(ConfigError, match="scheme"):
        register_store(scheme, Made)


def test_an_unknown_scheme_is_told_with_the_known_ones_and_without_the_uri() -> None:
    register_store("fake", Made)
    with pytest.raises(ConfigError, match=r"memory://.*redis://.*fake://") as caught:
        store_from_uri("hunter2://ann:hunter2@host", "otp", {})
    assert "hunter2" not in str(caught.value)


def test_a_config_error_of_a_factory_is_passed_on() -> None:
    def factory(uri: str, prefix: str, options: dict[str, Any]) -> Store:
        raise ConfigError("fake:// takes a region")

    register_store("fake", factory)
    with pytest.raises(ConfigError, match="fake:// takes a region"):
        store_from_uri(URI, "otp", {})


@pytest.mark.parametrize("error", [ValueError, KeyError, OSError])
def test_any_other_error_of_a_factory_is_told_without_the_uri(error: type[Exception]) -> None:
    def factory(uri: str, prefix: str, options: dict[str, Any]) -> Store:
        raise error(f"cannot read {uri}")

    register_store("fake", factory)
    with pytest.raises(ConfigError, match=f"OTP_STORAGE_URI.*{error.__name__}") as caught:
        store_from_uri(URI, "otp", {})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("made", [None, object(), MemoryStore])
def test_a_factory_that_makes_no_store_is_told(made: Any) -> None:
    register_store("fake", lambda *_: made)
    with pytest.raises(ConfigError, match=r"OTP_STORAGE_URI.*Store"):
        store_from_uri(URI, "otp", {})


# Installed packages


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with a store, ``installed://``; ``broken://`` and, not minding us, ``redis://``."""
    (tmp_path / "otp_installed.py").write_text(
        "from flask_otp.stores.memory import MemoryStore\n"
        "class Installed(MemoryStore):\n"
        "    pass\n"
        "def factory(uri, prefix, options):\n"
        "    return Installed()\n"
    )
    info = tmp_path / "otp_installed-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: otp-installed\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[flask_otp.stores]\n"
        "installed = otp_installed:factory\n"
        "broken = otp_installed:nothing\n"
        "redis = otp_installed:factory\n"
        "redis+own = otp_installed:factory\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("otp_installed", None)


@pytest.mark.usefixtures("package")
@pytest.mark.parametrize("uri", ["installed://host", "installed+tls://host"])
def test_an_installed_package_brings_its_store(uri: str) -> None:
    assert type(store_from_uri(uri, "otp", {})).__name__ == "Installed"


@pytest.mark.usefixtures("package")
def test_what_the_app_registered_comes_before_what_is_installed() -> None:
    register_store("installed", Made)
    assert isinstance(store_from_uri("installed://", "otp", {}), Made)


@pytest.mark.usefixtures("package")
def test_an_installed_package_cannot_replace_our_own() -> None:
    assert isinstance(store_from_uri("redis://", "otp", {}), RedisStore)
    with pytest.raises(ConfigError, match="must begin with"):
        store_from_uri("redis+own://", "otp", {})


@pytest.mark.usefixtures("package")
def test_an_installed_package_that_cannot_be_loaded_is_named() -> None:
    with pytest.raises(ConfigError, match=r"otp_installed:nothing.*broken://"):
        store_from_uri("broken://ann:hunter2@host", "otp", {})


@pytest.mark.parametrize("uri", ["memory://", "redis://", "fake://", "fake+tls://"])
def test_packages_are_looked_at_for_an_unknown_scheme_only(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    looked = []
    monkeypatch.setattr(stores, "entry_points", lambda **asked: looked.append(asked["name"]) or ())
    register_store("fake", Made)
    store_from_uri(uri, "otp", {})
    assert looked == (["fake+tls"] if uri == "fake+tls://" else [])


def test_a_former_name_of_the_contract_still_works_and_is_told() -> None:
    with pytest.deprecated_call(match="is called ChallengeRequest; the old name goes with 0.2"):
        asking = stores.Asking(b"id", b"network", holder=b"tag", known_lane=b"browser")
    assert asking == ChallengeRequest(b"id", b"network", session_tag=b"tag", known_bucket=b"browser")
    with pytest.deprecated_call(match="RedeemOutcome"):
        assert stores.Redemption is RedeemOutcome
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = stores.Nothing
