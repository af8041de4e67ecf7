"""The data of ``flask otp show`` for one identifier and purpose: everything open, counted and left, and the
sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from ..config.settings import Purpose
from ..crypto.keys import Keys
from ..factors.trusted import TRUSTED_PREFIX
from ..identifiers import Identifier
from ..networks import network_of
from ..service.base import channel_tag
from ..state import AppState
from ..stores.record import Record, Windows, end_of
from .outlook import Asker, Forecast, Outlook
from .sentence import as_time, sentence

#: Bytes of a proof's id. Names of other notes have another length.
_PROOF_ID = 12


@dataclass(frozen=True)
class Window:
    """One rate of a limit, and its count."""

    setting: str
    count: int
    amount: int
    #: Seconds.
    period: int
    until: datetime


@dataclass(frozen=True)
class Code:
    """A code that can still be verified."""

    asked_at: datetime
    until: datetime
    strong: bool
    channels: tuple[str, ...]
    attempts_left: int


@dataclass(frozen=True)
class Source:
    """A network or a known browser that has asked for codes."""

    label: str
    cooldown_until: datetime | None
    windows: tuple[Window, ...]
    outlook: Outlook


@dataclass(frozen=True)
class View:
    """One purpose."""

    purpose: str
    channel: str
    sentence: str
    #: For an unknown browser on a network that has not asked yet, or on the given network.
    outlook: Outlook
    codes: tuple[Code, ...]
    messages: tuple[Window, ...]
    failures: tuple[Window, ...]
    sources: tuple[Source, ...]
    #: Expiry of each proof and of each browser's trust.
    proofs: tuple[datetime, ...]
    trusted_browsers: tuple[datetime, ...]
    revoked_at: datetime | None


def view(
    state: AppState, purpose: str, address: Identifier, channel: str | None = None, network: str | None = None
) -> View:
    """
    :param network: the client's IP address, to tell the result for its network.
    :raises StoreUnavailable: the store or the limits' storage does not answer.
    :raises InvalidRequest: there is no such purpose or channel.
    """
    rules, keys, now = state.service.purpose(purpose), state.tokens.keys, int(state.clock())
    records = [state.store.inspect(key.subject(purpose, address.value), now) for key in state.tokens.keyring]
    record = records[0]
    forecast = Forecast(state, rules, address, record, channel)
    names = _names(keys, keys.subject(purpose, address.value), network)
    asker = _asker(names, network)
    sources = tuple(_sources(record, rules, forecast, names))
    others = [source.outlook for source in sources if source.label != asker.label]
    proofs = {name: end for each in records for name, end in each.proofs.items()}
    return View(
        purpose=purpose,
        channel=forecast.channel,
        sentence=sentence(forecast, asker, () if network else others, now),
        outlook=forecast.of(asker),
        codes=tuple(code for each in records for code in _codes(each, rules, state)),
        messages=_windows("OTP_RECIPIENT_LIMIT", record.sends, rules.recipient_limit),
        failures=_windows("OTP_FAILURE_BUDGET", record.failures, rules.failure_budget),
        sources=sources,
        proofs=_times(end for name, end in proofs.items() if len(name) == _PROOF_ID),
        trusted_browsers=_times(end for name, end in proofs.items() if name.startswith(TRUSTED_PREFIX)),
        revoked_at=as_time(record.revoked_ms // 1000) if record.revoked_ms else None,
    )


def _names(keys: Keys, subject: bytes, network: str | None) -> dict[bytes, str]:
    """Labels of the buckets whose networks can be named. For all others, the store has only pseudonyms."""
    names = {_bucket(keys, subject, ""): "the app itself"}
    return names | ({_bucket(keys, subject, network_of(network)): network} if network else {})


def _bucket(keys: Keys, subject: bytes, network: str) -> bytes:
    return keys.tag(subject, b"network", network.encode())


def _asker(names: dict[bytes, str], network: str | None) -> Asker:
    if network is None:
        return Asker("a network that has not asked yet", b"")
    bucket = next(bucket for bucket, name in names.items() if name == network)
    return Asker(network, bucket, network=network_of(network))


def _sources(record: Record, rules: Purpose, forecast: Forecast, names: dict[bytes, str]) -> Iterator[Source]:
    """The clients that have asked, latest first. Revoked browsers are left out."""
    latest = sorted(record.buckets.items(), key=lambda item: (end_of(item[1].sends), item[1].ready_at, item[0]))
    numbers = dict.fromkeys((False, True), 0)
    for name, bucket in reversed(latest):
        if bucket.failures and not bucket.known:
            continue
        label = names.get(name)
        if label is None:
            numbers[bucket.known] += 1
            label = f"{'known browser' if bucket.known else 'network'} {numbers[bucket.known]}"
        windows = _windows("OTP_SEND_LIMIT", bucket.sends, rules.send_limit)
        windows += _windows("OTP_FAILURE_BUDGET", bucket.failures, rules.failure_budget)
        cooldown = as_time(bucket.ready_at) if bucket.ready_at else None
        yield Source(label, cooldown, windows, forecast.of(Asker(label, name, bucket.known)))


def _codes(record: Record, rules: Purpose, state: AppState) -> Iterator[Code]:
    names = {channel_tag(name): name for name in state.routing.channels()}
    for live in sorted(record.challenges.values(), key=lambda live: live.expires_at):
        yield Code(
            asked_at=as_time(live.expires_at - rules.expires_in),
            until=as_time(live.expires_at),
            strong=live.strong,
            channels=tuple(names.get(tag, "?") for tag in live.channels),
            attempts_left=max(0, rules.max_attempts - live.attempts),
        )


def _windows(setting: str, windows: Windows, rates: Iterable[tuple[int, int]]) -> tuple[Window, ...]:
    counted = zip(windows, rates, strict=False)
    return tuple(
        Window(setting, count, amount, period, as_time(end)) for (count, end), (amount, period) in counted if count
    )


def _times(ends: Iterable[int]) -> tuple[datetime, ...]:
    return tuple(as_time(end) for end in sorted(ends))
