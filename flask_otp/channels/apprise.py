"""Any service of Apprise that writes to one person, by its URL; needs the extra ``apprise``.

Apprise is made for one's own alerts. It takes lists where it takes a recipient, drops one that it does not understand,
and then writes to the sender or to everybody. So each message has an object of its own here, made for one recipient
and asked whom it would write to before it does.
"""

from __future__ import annotations

import inspect
import re
import warnings
from copy import deepcopy
from typing import Any

from apprise import Apprise, AppriseAsset, NotifyBase, NotifyFormat
from apprise.conversion import convert_between
from apprise.plugins import N_MGR, url_to_dict

from ..crypto.codes import display
from ..errors import ConfigError
from ..models import Message
from .apprise_logging import mute_loggers
from .apprise_responses import capture_responses
from .base import Channel, ProviderDown, RecipientRefused

with warnings.catch_warnings():
    # Apprise imports the deprecated imghdr: no reason to stop an app whose tests make errors of warnings.
    warnings.simplefilter("ignore", DeprecationWarning)
    N_MGR.load_modules()  # type: ignore[no-untyped-call]

#: ITU-T E.164: the country code and the number, 15 digits at most.
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
#: An address or the id of a chat: no phone number, no "#channel", and nothing that Apprise would split or unquote.
_ID = re.compile(r"(?!\+[0-9])[A-Za-z0-9@!_.:='+-]{1,254}")
#: To Slack, what has neither "+" nor "@" is a channel.
_SLACK_ID = re.compile(r"\+[A-Z][A-Z0-9]{1,30}|[A-Za-z0-9_.'+-]{1,64}@[A-Za-z0-9.-]{1,189}")

#: What a service takes, where Apprise's description of it does not say.
_KINDS = {"NotifySES": "email", "NotifySFR": "phone", "NotifySMTP2Go": "email", "NotifySparkPost": "email"}
#: Services that take a recipient, but show the message to others.
_PUBLIC = frozenset(
    {"NotifyAprs", "NotifyDapnet", "NotifyDingTalk", "NotifyMastodon", "NotifyNtfy", "NotifyReddit", "NotifyTwitter"}
)
#: How an incoming webhook calls itself: it writes to the room that it was made for, whatever the recipient.
_ROOM = re.compile(r"hook|workflow|matrix|slack|t2bot", re.IGNORECASE)
#: The address of a service, as Apprise's class has it, where it is not encrypted.
_PLAIN = re.compile(r"http://(?!127\.0\.0\.1\b|localhost\b)")
#: The last words of a warning: the provider's number of the fault, or the HTTP status.
_CODE = re.compile(r"error=([0-9]{1,6})\.?\s*$")
#: At start one of these must do, of each kind of service. Nothing is sent to them.
_SAMPLES = {
    "phone": ("+14155550100", "+61491570156", "+33639980100"),
    "email": ("recipient@example.org",),
    None: ("123456789", "U0123456789", "@somebody", "@somebody:example.com", "somebody@example.com"),
}


class AppriseChannel(Channel):
    """Sends by one service of Apprise.

    :param where: the setting, for messages.
    :param url: the service's URL, without a recipient.
    :param timeout: seconds to connect, and seconds to wait for an answer.
    :param site_name: what the service shows as the sender, where it asks for one.
    :raises ConfigError: Apprise does not know the service, or it cannot be trusted with codes; the URL is not quoted.
    """

    def __init__(self, where: str, url: str, timeout: float, site_name: str) -> None:
        fields = _parse(url)
        if not fields:
            raise ConfigError(f"{where} is not a URL that Apprise understands")
        self._service: type[NotifyBase] = N_MGR[fields["schema"]]
        _check(where, fields, self._service)
        # Text as it is, in one piece, once, to the address of the provider and no other.
        self._fields = fields | {
            "cto": timeout,
            "rto": timeout,
            "format": "text",
            "overflow": "upstream",
            "redirect": False,
            "retry": 0,
        }
        name = site_name if site_name.isascii() else "flask_otp"  # it is in a header too
        self._asset = AppriseAsset(
            app_id=name, app_desc=name, app_url="", image_url_mask="", image_url_logo="", storage_mode="memory"
        )
        self.accepts = kind_of(self._service)
        self._addresses = _SLACK_ID if fields["schema"] == "slack" else _PHONE if self.accepts == "phone" else _ID
        self._fills_template = _fills_template(fields, self._service)
        self._check_samples(where)

    def deliver(self, message: Message) -> None:
        """
        :raises RecipientRefused: the recipient is not one address of this service.
        :raises ProviderDown: the service could not be reached, or did not answer in time.
        :raises RuntimeError: it did not take the message; the error says why, as far as that tells no secret.
        """
        if not self._addresses.fullmatch(message.recipient):
            raise RecipientRefused("it is not one address of this service")
        failure: Exception | None = None
        with mute_loggers() as heard, capture_responses(self._service) as was_taken:
            try:
                plugin = self.make(message.recipient)
                if plugin is None or not writes_to(plugin, message.recipient):
                    failure = RecipientRefused("Apprise would not write to this recipient alone")
                elif not (self._send(plugin, message) and was_taken()):
                    failure = _failure(heard)
            except Exception as error:
                failure = RuntimeError(f"{type(error).__name__} in Apprise")
        if failure is not None:
            # Out here, so that no library's error, which may quote the message, hangs on to it.
            raise failure

    def _send(self, plugin: NotifyBase, message: Message) -> bool:
        # A template of the app's own says the rest.
        text = display(message.code) if self._fills_template else message.text
        # Converted here: left to itself, Telegram's class takes text for HTML.
        markup = plugin.resolve_format(NotifyFormat.TEXT)
        return plugin.notify(
            body=convert_between(NotifyFormat.TEXT, markup, text),  # type: ignore[no-untyped-call]
            title=message.subject if self.accepts == "email" else "",
            body_format=markup,
        )

    def make(self, recipient: str) -> NotifyBase | None:
        """Apprise's object for one message."""
        return Apprise.instantiate(deepcopy(self._fields) | {"targets": [recipient]}, asset=self._asset)

    def _check_samples(self, where: str) -> None:
        with mute_loggers():
            made = {sample: plugin for sample in _SAMPLES[self.accepts] if (plugin := self.make(sample)) is not None}
            alone = [sample for sample, plugin in made.items() if writes_to(plugin, sample)]
        if any(_ROOM.search(str(getattr(plugin, "mode", ""))) for plugin in made.values()):
            raise ConfigError(f"{where}: an incoming webhook writes to one room: everybody there would read the codes")
        if not made or (self.accepts is not None and not alone):
            raise ConfigError(f"{where}: Apprise refuses what the URL says, such as the form of a key or of the sender")


def _parse(url: str) -> dict[str, Any] | None:
    with mute_loggers():
        try:
            fields: dict[str, Any] | None = url_to_dict(url)  # type: ignore[no-untyped-call]
        except Exception:  # it may quote the URL
            return None
    return fields


def _check(where: str, fields: dict[str, Any], service: type[NotifyBase]) -> None:
    """
    :raises ConfigError: it is no service for codes, or this is no URL for them.
    """
    if not service.enabled:
        raise ConfigError(f"{where}: Apprise needs another package for this service; 'apprise --details' names it")
    if "targets" not in _parameters(service):
        raise ConfigError(f"{where}: this service has one recipient for all messages, who would get everybody's codes")
    if service.__name__ in _PUBLIC:
        raise ConfigError(f"{where}: others than the recipient read the messages of this service")
    if issubclass(service, N_MGR["mailto"]):
        raise ConfigError(f"{where}: for mail by SMTP there is the channel 'email', with MAIL_* settings")
    if any(value and value != [""] for value in map(fields.get, ("targets", "cc", "bcc", "broadcast"))):
        raise ConfigError(
            f"{where}: the URL names a recipient, who would get everybody's codes; leave it away, and where only the "
            "account is left, end the URL with '@'"
        )
    if _fills_template(fields, service) and not _template_has_code(fields, service):
        raise ConfigError(
            f"{where}: the template would go out without the code: say where it belongs, as '?:body=1' does"
        )
    if fields.get("verify") is False:
        raise ConfigError(f"{where}: with verify=no, anyone on the network path to the service could read the codes")
    if any(_PLAIN.match(value) for name, value in vars(service).items() if "url" in name and isinstance(value, str)):
        raise ConfigError(f"{where}: Apprise sends this service's messages unencrypted")


def _fills_template(fields: dict[str, Any], service: type[NotifyBase]) -> bool:
    """Whether the service sends a text of the app's own that is kept there, and puts words of ours into it."""
    return bool(fields.get("template")) and "template_mapping" in _parameters(service)


def _template_has_code(fields: dict[str, Any], service: type[NotifyBase]) -> bool:
    # MSG91 gets it as "body" where nothing else is said; some name the place first, some the word.
    mapping = fields.get("template_mapping") or {}
    return service.__name__ == "NotifyMSG91" or "body" in {*mapping, *mapping.values()}


def kind_of(service: type[NotifyBase]) -> str | None:
    """What the service takes. One that takes phone numbers takes nothing else here, so that their rules hold."""
    tokens = service.template_tokens.items()
    names = {name for name, token in tokens if token.get("map_to") == "targets"}
    if any("phone" in name or "sms" in name for name in names):
        return "phone"
    return "email" if names == {"target_email"} else _KINDS.get(service.__name__)


def writes_to(plugin: NotifyBase, recipient: str) -> bool:
    """Whether the object says that it would write to this recipient and to no other."""
    fields = _parse(plugin.url(privacy=False)) or {}  # type: ignore[no-untyped-call]
    named = [target for target in fields.get("targets") or () if target]
    held = getattr(plugin, "targets", None)
    dropped = [value for name, value in vars(plugin).items() if "invalid" in name and value]
    return (
        len(named) == len(plugin) == 1
        and (not isinstance(held, (list, set, tuple)) or len(held) == 1)
        and not dropped
        and _is_same(named[0], recipient)
    )


def _is_same(target: str, recipient: str) -> bool:
    if _PHONE.fullmatch(recipient):
        # Some leave the plus away, or put the way before it, as in "w:+1...".
        return re.sub("[^0-9]", "", target) == recipient[1:]
    return target in (recipient, "@" + recipient)


def _parameters(service: type[NotifyBase]) -> set[str]:
    return set(inspect.signature(service.__init__).parameters)


def _failure(heard: list[str]) -> Exception:
    """Why it failed, from Apprise's own words; theirs may quote the message, so that only a number is taken."""
    codes = [found[1] for warning in heard if (found := _CODE.search(warning))]
    if codes and codes[-1] != "200":  # some tell in the body, and Apprise only that they did
        return RuntimeError(f"the service refused it: error {codes[-1]}")
    if any("onnection error" in warning for warning in heard):
        return ProviderDown("the service could not be reached, or did not answer in time")
    return RuntimeError("the service did not take it")
