"""Predicts whether a code can go out now, and if not, why and from when: what ``send`` would do, without sending."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..channels.kept import KEPT_FACTORS
from ..config.safe_recipients import may_go_to
from ..config.settings import Purpose
from ..delivery.routing import Route
from ..errors import DeliveryFailed, InvalidIdentifier, InvalidRequest
from ..identifiers import Identifier
from ..state import AppState
from ..stores import subject_state
from ..stores.record import Record

#: Reasons why no code goes out to anyone, however long they wait. ``{}``: the channel.
BARRIERS = {
    "no_channel": "no channel can send codes",
    "channel": "this purpose has no channel {!r}",
    "kind": "no channel of this purpose takes such an identifier",
    "kept": "codes of channel {!r} are not sent, because the person looks them up",
    "loader_failed": "the recipient_loader raises an exception",
    "unknown": "the recipient_loader returns no recipient for it",
    "countries": "the phone number is not valid, or not in OTP_SMS_COUNTRIES",
    "test_recipient": "it is a test recipient (OTP_TEST_RECIPIENTS)",
}


@dataclass(frozen=True)
class Outlook:
    """What ``send`` would do for one client."""

    #: The client's label.
    asker: str
    #: Seconds to wait. 0 for none.
    wait: int = 0
    #: The setting that refuses or withholds, or a word of :data:`BARRIERS`. Empty: a message goes out.
    reason: str = ""

    @property
    def can_send(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Asker:
    """A client that may ask: a bucket of the record, or a new one."""

    label: str
    bucket: bytes
    known: bool = False
    network: str | None = None


class Forecast:
    """What ``send`` would do for one identifier and purpose.

    :param channel: as in ``otp.send``.
    :raises InvalidRequest: there is no such channel.
    """

    def __init__(
        self, state: AppState, rules: Purpose, address: Identifier, record: Record, channel: str | None = None
    ) -> None:
        self._state, self._rules, self._record = state, rules, record
        self._now = int(state.clock())
        self.channel, self.barrier, self._route = _routed(state, rules, address, channel)

    @property
    def barrier_in_words(self) -> str:
        return BARRIERS[self.barrier].format(self.channel)

    @property
    def is_diverted(self) -> bool:
        """Whether the message would be printed instead of sent."""
        allowed = self._state.settings.deliver_only_to
        recipient = self._route.recipient if self._route is not None else None
        return (
            allowed is not None and recipient is not None and not may_go_to(allowed, recipient, self._state.identifiers)
        )

    @property
    def may_be_vetoed(self) -> bool:
        return self._state.hooks.before_send is not None

    def strength(self, asker: Asker) -> str:
        """The setting that would make the client's new code a strong one. Empty: it would be a short one."""
        if subject_state.budget_wait(self._record, asker.bucket, asker.known, self._rules.policy(), self._now):
            return "OTP_FAILURE_BUDGET"
        is_surge = self._rules.typed and not asker.known and self._state.limits.is_surge(asker.network)
        return "OTP_SURGE_LIMIT" if is_surge else ""

    def of(self, asker: Asker) -> Outlook:
        """The result for a browser without a valid code. With one, the same code would be sent again."""
        if self.barrier:
            return Outlook(asker.label, reason=self.barrier)
        reasons = [*self._reasons(asker)]
        wait, reason = max(reasons, key=lambda found: found[0], default=(0, ""))
        return Outlook(asker.label, wait, reason)

    def _reasons(self, asker: Asker) -> Iterator[tuple[int, str]]:
        limits, policy = self._state.limits, self._rules.policy()
        if asker.network is not None:
            wait = limits.wait_to_send(asker.network)
            if wait:
                yield wait, "OTP_IP_SEND_LIMIT"
        waits = subject_state.waits_to_open(self._record, asker.bucket, asker.known, policy, self._now)
        yield from ((wait, f"OTP_{name.upper()}") for name, wait in waits.items() if wait)
        assert self._route is not None
        recipient = self._route.reached
        if recipient is not None:
            withheld = self._state.sms_pumping.withheld_by(recipient, self.channel, known=asker.known, now=self._now)
            if withheld:
                yield 0, withheld
        if wait := limits.wait_for_channel(self.channel):
            yield wait, "OTP_CHANNEL_BUDGET"


def _routed(state: AppState, rules: Purpose, address: Identifier, channel: str | None) -> tuple[str, str, Route | None]:
    """The channel, the reason that stops every message, and the route."""
    try:
        name = state.routing.choose(channel, rules, address)
    except DeliveryFailed:
        return "", "no_channel", None
    except InvalidIdentifier:
        return channel or "", "kind", None
    except InvalidRequest:
        # Another purpose may have this channel.
        if channel is None or channel not in state.routing.channels():
            raise
        return channel, "channel", None
    if name in KEPT_FACTORS:
        return name, "kept", None
    try:
        route = state.routing.resolve(address.value, name)
    except Exception:
        return name, "loader_failed", None
    if route.test_recipient is not None:
        return name, "test_recipient", route
    if route.recipient is not None:
        return name, "", route
    loader = state.hooks.recipient_loader
    is_unknown = loader is not None and not loader(address.value, name)
    return name, "unknown" if is_unknown else "countries", route
