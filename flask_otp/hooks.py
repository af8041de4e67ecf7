"""The app's own functions, and the decorators of :class:`~flask_otp.OTP` that register them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import iscoroutinefunction, signature
from typing import TypeVar

from flask.typing import ResponseReturnValue

from .channels import Channel
from .channels.base import channel_from_function
from .errors import ConfigError, VerificationRequired
from .models import Message, Verification

RecipientLoader = Callable[[str, str], "str | None"]
IdentifierLoader = Callable[[], "str | None"]
MessageBuilder = Callable[[Message], Message]
BeforeSend = Callable[[Message], "bool | None"]
VerifiedHandler = Callable[[Verification], "ResponseReturnValue | None"]
UnauthorizedHandler = Callable[[VerificationRequired], "ResponseReturnValue | None"]
Dispatcher = Callable[..., object]
FactorsLoader = Callable[[str], "str | None"]
FactorsSaver = Callable[[str, "str | None", "str | None"], bool]
MayEnrol = Callable[[], bool]


@dataclass
class Hooks:
    """The app's own functions, registered by the decorators of :class:`~flask_otp.OTP`."""

    #: Never changed: another one takes its place, by which the routing sees that there is something new.
    channels: dict[str, Channel] = field(default_factory=dict)
    recipient_loader: RecipientLoader | None = None
    identifier_loader: IdentifierLoader | None = None
    message_builder: MessageBuilder | None = None
    before_send: BeforeSend | None = None
    verified_handler: VerifiedHandler | None = None
    unauthorized_handler: UnauthorizedHandler | None = None
    dispatcher: Dispatcher | None = None
    #: Whether the dispatcher has a parameter ``delay``.
    can_delay: bool = False
    factors_loader: FactorsLoader | None = None
    factors_saver: FactorsSaver | None = None
    may_enrol: MayEnrol | None = None


C = TypeVar("C", bound="Callable[[Message], None] | Channel")
R = TypeVar("R", bound=RecipientLoader)
I = TypeVar("I", bound=IdentifierLoader)  # noqa: E741
M = TypeVar("M", bound=MessageBuilder)
B = TypeVar("B", bound=BeforeSend)
V = TypeVar("V", bound=VerifiedHandler)
U = TypeVar("U", bound=UnauthorizedHandler)
D = TypeVar("D", bound=Dispatcher)
L = TypeVar("L", bound=FactorsLoader)
S = TypeVar("S", bound=FactorsSaver)
E = TypeVar("E", bound=MayEnrol)
F = TypeVar("F", bound=Callable[..., object])


class HookDecorators:
    """The decorators. They take plain functions, since hooks also run where there is no event loop."""

    def __init__(self) -> None:
        self._hooks = Hooks()

    def channel(self, name: str, *, accepts: str | None = None) -> Callable[[C], C]:
        """Register the app's own sender: a function of a :class:`~flask_otp.Message`, or a channel object.

        The sender returns nothing. If it cannot deliver it raises: :exc:`~flask_otp.RecipientRefused` or
        :exc:`~flask_otp.ProviderDown` where it knows the cause. It runs in a thread and an app context of its own. The
        caller waits for it no longer than ``OTP_CHANNEL_TIMEOUT``.

        :param accepts: ``"email"`` or ``"phone"``, what its recipients are; by default told by the name.
        :raises ConfigError: it is neither.
        """

        def register(sender: C) -> C:
            self._hooks.channels = self._hooks.channels | {name: channel_from_function(name, sender, accepts)}
            return sender

        return register

    def recipient_loader(self, function: R) -> R:
        """``(identifier, channel) -> recipient``, where the message goes; ``None``: no such account (a decoy)."""
        self._hooks.recipient_loader = _plain(function)
        return function

    def identifier_loader(self, function: I) -> I:
        """``() -> identifier`` of the signed-in user, or ``None``. The client may name no other identifier."""
        self._hooks.identifier_loader = _plain(function)
        return function

    def message_builder(self, function: M) -> M:
        """``(message) -> message``: with ``dataclasses.replace``, another ``subject``, ``text`` or ``html``.

        Called for every message, perhaps twice, for decoys too, and also outside a request. If it raises, or changes
        any other member, the message is not sent.
        """
        self._hooks.message_builder = _plain(function)
        return function

    def before_send(self, function: B) -> B:
        """``(message) -> bool | None``: called with each message before it is sent, decoys included.

        Return ``False`` to drop the message silently: the client sees the usual response.
        """
        self._hooks.before_send = _plain(function)
        return function

    def verified_handler(self, function: V) -> V:
        """``(verification) -> response | None``, after a verification over HTTP for any purpose: sign the user in."""
        self._hooks.verified_handler = _plain(function)
        return function

    def unauthorized_handler(self, function: U) -> U:
        """``(error) -> response | None``, when the guard refuses; ``error`` is the :exc:`VerificationRequired`."""
        self._hooks.unauthorized_handler = _plain(function)
        return function

    def dispatcher(self, function: D) -> D:
        """``(payload)``: hand the delivery to a queue. The payload is JSON, and holds no code; see :meth:`deliver`.

        With ``OTP_NEXT_CHANNEL_AFTER`` it is ``(payload, delay=0)``: the worker must not get the payload before so many
        seconds have passed.
        """
        self._hooks.dispatcher = _plain(function)
        self._hooks.can_delay = _takes_delay(function)
        return function

    def factors_loader(self, function: L) -> L:
        """``(identifier) -> text``: the column with the person's authenticator apps, or ``None``.

        The text is opaque and sealed, and has 4,096 characters at most. The identifier is canonical.
        """
        self._hooks.factors_loader = _plain(function)
        return function

    def factors_saver(self, function: S) -> S:
        """``(identifier, new, old) -> bool``: compare and swap of that column.

        Return ``False`` where the column is not ``old`` any more, or the person does not exist; else save ``new`` and
        return ``True``. ``None`` is an empty column.
        """
        self._hooks.factors_saver = _plain(function)
        return function

    def may_enrol(self, function: E) -> E:
        """``() -> bool``: whether the signed-in person's sign-in is recent enough to add a *first* authenticator app.

        Without it, or where it returns ``False``, the person must verify a code first. Who has an app already must
        always verify a code of that app, or a recovery code.
        """
        self._hooks.may_enrol = _plain(function)
        return function


def _takes_delay(function: Callable[..., object]) -> bool:
    # By its name: ``task.delay`` of Celery takes any arguments, and would pass this one on to the task.
    try:
        return "delay" in signature(function).parameters
    except (TypeError, ValueError):  # a function of C that does not say
        return False


def _plain(function: F) -> F:
    """
    :raises ConfigError: it is not a function, or it is ``async``: its result would be a coroutine, and so always true.
    """
    if not callable(function) or iscoroutinefunction(function):
        raise ConfigError(f"a hook of OTP must be a plain function, not {function!r}")
    return function
