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

    #: Never changed in place. A new object replaces it, which tells the routing that something is new.
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
    """The decorators. They take plain functions, because hooks also run where there is no event loop."""

    def __init__(self) -> None:
        self._hooks = Hooks()

    def channel(self, name: str, *, accepts: str | None = None) -> Callable[[C], C]:
        """Register the app's own sender: a function of a :class:`~flask_otp.Message`, or a channel object.

        The sender returns nothing. If it cannot deliver, it raises :exc:`~flask_otp.RecipientRefused` or
        :exc:`~flask_otp.ProviderDown` if it knows the cause, or any other exception. It runs in a separate thread with
        its own app context. The caller waits for it at most ``OTP_CHANNEL_TIMEOUT``.

        :param accepts: ``"email"`` or ``"phone"``, the kind of recipient. By default the channel's name decides.
        :raises ConfigError: there is no name, or the sender is neither a function nor a channel object.
        """
        if not isinstance(name, str):
            raise ConfigError('channel needs a name: write @otp.channel("sms")', see="hooks/channel")

        def register(sender: C) -> C:
            self._hooks.channels = self._hooks.channels | {name: channel_from_function(name, sender, accepts)}
            return sender

        return register

    def recipient_loader(self, function: R) -> R:
        """``(identifier, channel) -> recipient``: where the message goes. ``None``: there is no such account (a
        decoy)."""
        self._hooks.recipient_loader = _plain(function)
        return function

    def identifier_loader(self, function: I) -> I:
        """``() -> identifier`` of the signed-in user, or ``None``. The client cannot choose another identifier."""
        self._hooks.identifier_loader = _plain(function)
        return function

    def message_builder(self, function: M) -> M:
        """``(message) -> message``: returns it with another ``subject``, ``text`` or ``html``
        (``dataclasses.replace``).

        Called for every message, perhaps twice, including decoys, and also outside a request. If it raises, or changes
        another member, the message is not sent.
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
        """``(verification) -> response | None``: called after each verification over HTTP, to sign the user in."""
        self._hooks.verified_handler = _plain(function)
        return function

    def unauthorized_handler(self, function: U) -> U:
        """``(error) -> response | None``: called when the guard refuses, with the :exc:`VerificationRequired`."""
        self._hooks.unauthorized_handler = _plain(function)
        return function

    def dispatcher(self, function: D) -> D:
        """``(payload)``: pass the delivery to a queue. The payload is JSON and contains no code. See :meth:`deliver`.

        With ``OTP_NEXT_CHANNEL_AFTER``, it is ``(payload, delay=0)``: the worker must not get the payload before
        ``delay`` seconds have passed.
        """
        self._hooks.dispatcher = _plain(function)
        self._hooks.can_delay = _takes_delay(function)
        return function

    def factors_loader(self, function: L) -> L:
        """``(identifier) -> text``: returns the column with the person's authenticator apps, or ``None``.

        The text is opaque and sealed, with at most 4,096 characters. The identifier is canonical. The function must
        return what was saved last, also by another process: not an older state that the request's transaction shows.
        """
        self._hooks.factors_loader = _plain(function)
        return function

    def factors_saver(self, function: S) -> S:
        """``(identifier, new, old) -> bool``: compare and swap of that column.

        If the column is no longer ``old``, or the person does not exist, return ``False``. Otherwise save ``new`` and
        return ``True``. ``None`` means an empty column.
        """
        self._hooks.factors_saver = _plain(function)
        return function

    def may_enrol(self, function: E) -> E:
        """``() -> bool``: whether the person signed in recently enough to add a *first* authenticator app.

        If it returns ``False``, or is not set, the person must verify a code first. A person who already has an app
        must always verify a code of that app or a recovery code.
        """
        self._hooks.may_enrol = _plain(function)
        return function


def _takes_delay(function: Callable[..., object]) -> bool:
    # Checked by name: Celery's ``task.delay`` takes any arguments and would pass this one on to the task.
    try:
        return "delay" in signature(function).parameters
    except (TypeError, ValueError):  # a C function without a signature
        return False


def _plain(function: F) -> F:
    """
    :raises ConfigError: the hook is not a function, or is ``async``: a coroutine as result would always be true.
    """
    if not callable(function) or iscoroutinefunction(function):
        raise ConfigError(f"a hook of OTP must be a plain function, not {function!r}")
    return function
