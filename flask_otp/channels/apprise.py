"""Any Apprise service that writes to one person, configured by its URL. Needs the extra ``apprise``.

Apprise is made for alerts to oneself. Where we pass one recipient it accepts a list, and it drops a recipient that it
does not understand and then writes to the sender or to everyone. So each message gets its own Apprise object, made for
one recipient, and we check whom it would write to before it sends.
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
    # Apprise imports the deprecated imghdr. An app whose tests turn warnings into errors must not fail because of it.
    warnings.simplefilter("ignore", DeprecationWarning)
    N_MGR.load_modules()  # type: ignore[no-untyped-call]

_PAGE = "settings/otp-channels"

#: ITU-T E.164: the country code and the number, 15 digits at most.
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
#: An address or a chat id: no phone number, no "#channel", and no character that Apprise would split at or unquote.
_ID = re.compile(r"(?!\+[0-9])[A-Za-z0-9@!_.:='+-]{1,254}")
#: Slack treats a target without "+" or "@" as a channel.
_SLACK_ID = re.compile(r"\+[A-Z][A-Z0-9]{1,30}|[A-Za-z0-9_.'+-]{1,64}@[A-Za-z0-9.-]{1,189}")
#: Zulip writes to a person by e-mail address. Any other target is a channel, which everyone in it reads.
_ZULIP_ID = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,5}[A-Za-z]{2,63}")
#: By Apprise class name: what is a person, where a service takes the other targets for channels.
_PEOPLE = {"NotifySlack": _SLACK_ID, "NotifyZulip": _ZULIP_ID}

#: Kinds of recipient for services whose Apprise description does not say it.
_KINDS = {"NotifySES": "email", "NotifySFR": "phone", "NotifySMTP2Go": "email", "NotifySparkPost": "email"}
#: Services that take a recipient but show the message to other people.
_PUBLIC = frozenset(
    {"NotifyAprs", "NotifyDapnet", "NotifyDingTalk", "NotifyMastodon", "NotifyNtfy", "NotifyReddit", "NotifyTwitter"}
)
#: Modes of incoming webhooks. A webhook writes to the room that it was made for and ignores the recipient.
_ROOM = re.compile(r"hook|workflow|matrix|slack|t2bot", re.IGNORECASE)
#: An unencrypted service URL in an Apprise class.
_PLAIN = re.compile(r"http://(?!127\.0\.0\.1\b|localhost\b)")
#: The end of a warning: the provider's error number, or the HTTP status.
_CODE = re.compile(r"error=([0-9]{1,6})\.?\s*$")
#: Sample recipients. At start, a service must accept at least one of its kind. Nothing is sent to them.
_SAMPLES = {
    "phone": ("+14155550100", "+61491570156", "+33639980100"),
    "email": ("recipient@example.org",),
    None: ("123456789", "U0123456789", "@somebody", "@somebody:example.com", "somebody@example.com"),
}


class AppriseChannel(Channel):
    """Sends through one Apprise service.

    :param where: the setting's name, for error messages.
    :param url: the service's URL, without a recipient.
    :param timeout: seconds to connect, and seconds to wait for an answer.
    :param site_name: the sender name, for services that show one.
    :raises ConfigError: Apprise does not know the service, or the service is not safe for codes. The error does not
        quote the URL.
    """

    def __init__(self, where: str, url: str, timeout: float, site_name: str) -> None:
        fields = _parse(url)
        if not fields:
            raise ConfigError(f"{where} is not a URL that Apprise understands", see=_PAGE)
        self._service: type[NotifyBase] = N_MGR[fields["schema"]]
        _check(where, fields, self._service)
        # The text unchanged, in one piece, sent once, and only to the provider's own address.
        self._fields = fields | {
            "cto": timeout,
            "rto": timeout,
            "format": "text",
            "overflow": "upstream",
            "redirect": False,
            "retry": 0,
        }
        name = site_name if site_name.isascii() else "flask_otp"  # also used in a header
        self._asset = AppriseAsset(
            app_id=name, app_desc=name, app_url="", image_url_mask="", image_url_logo="", storage_mode="memory"
        )
        self.accepts = kind_of(self._service)
        self._addresses = _PHONE if self.accepts == "phone" else _PEOPLE.get(self._service.__name__, _ID)
        self._fills_template = _fills_template(fields, self._service)
        self._check_samples(where)

    def deliver(self, message: Message) -> None:
        """
        :raises RecipientRefused: the recipient is not one address of this service.
        :raises ProviderDown: the service could not be reached, or did not answer in time.
        :raises RuntimeError: the service did not take the message. The error gives the reason, but no secret.
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
            # Raised outside the ``except`` block: a library's error may quote the message and must not be attached as
            # context.
            raise failure

    def _send(self, plugin: NotifyBase, message: Message) -> bool:
        # The app's own template contains the rest of the text.
        text = display(message.code) if self._fills_template else message.text
        # Converted here, because Telegram's class treats plain text as HTML.
        markup = plugin.resolve_format(NotifyFormat.TEXT)
        return plugin.notify(
            body=convert_between(NotifyFormat.TEXT, markup, text),  # type: ignore[no-untyped-call]
            title=message.subject if self.accepts == "email" else "",
            body_format=markup,
        )

    def make(self, recipient: str) -> NotifyBase | None:
        """Apprise's object for one message to this recipient."""
        return Apprise.instantiate(deepcopy(self._fields) | {"targets": [recipient]}, asset=self._asset)

    def _check_samples(self, where: str) -> None:
        with mute_loggers():
            made = {sample: plugin for sample in _SAMPLES[self.accepts] if (plugin := self.make(sample)) is not None}
            alone = [sample for sample, plugin in made.items() if writes_to(plugin, sample)]
        if any(_ROOM.search(str(getattr(plugin, "mode", ""))) for plugin in made.values()):
            raise _unfit(where, "an incoming webhook writes to one room, so everyone there could read the codes")
        if not made or (self.accepts is not None and not alone):
            raise _unfit(where, "Apprise rejects part of the URL, such as the form of a key or of the sender")


def _parse(url: str) -> dict[str, Any] | None:
    with mute_loggers():
        try:
            fields: dict[str, Any] | None = url_to_dict(url)  # type: ignore[no-untyped-call]
        except Exception:  # the error may quote the URL
            return None
    return fields


def _unfit(where: str, why: str) -> ConfigError:
    return ConfigError(f"{where}: {why}", see=_PAGE)


def _check(where: str, fields: dict[str, Any], service: type[NotifyBase]) -> None:
    """
    :raises ConfigError: the service is not fit for codes, or the URL is not.
    """
    if not service.enabled:
        raise _unfit(where, "Apprise needs another package for this service; 'apprise --details' shows which")
    if "targets" not in _parameters(service):
        raise _unfit(where, "this service sends all messages to one recipient, who would get everyone's codes")
    if service.__name__ in _PUBLIC:
        raise _unfit(where, "people other than the recipient can read this service's messages")
    if issubclass(service, N_MGR["mailto"]):
        raise _unfit(where, "for mail by SMTP, use the channel 'email' with MAIL_* settings")
    if any(value and value != [""] for value in map(fields.get, ("targets", "cc", "bcc", "broadcast"))):
        raise _unfit(
            where,
            "the URL names a recipient, who would get everyone's codes; remove it, and if only the account is left, "
            "end the URL with '@'",
        )
    if _fills_template(fields, service) and not _template_has_code(fields, service):
        raise _unfit(where, "the template does not contain the code: add a place for it, as in '?:body=1'")
    if fields.get("verify") is False:
        raise _unfit(where, "with verify=no, anyone on the network path to the service could read the codes")
    if any(_PLAIN.match(value) for name, value in vars(service).items() if "url" in name and isinstance(value, str)):
        raise _unfit(where, "Apprise sends this service's messages unencrypted")


def _fills_template(fields: dict[str, Any], service: type[NotifyBase]) -> bool:
    """Whether the service sends the app's own text template, stored at the provider, and fills in our values."""
    return bool(fields.get("template")) and "template_mapping" in _parameters(service)


def _template_has_code(fields: dict[str, Any], service: type[NotifyBase]) -> bool:
    # MSG91 gets the code as "body" by default. Some services map the place to the value, others the value to the place.
    mapping = fields.get("template_mapping") or {}
    return service.__name__ == "NotifyMSG91" or "body" in {*mapping, *mapping.values()}


def kind_of(service: type[NotifyBase]) -> str | None:
    """The kind of recipient. A service that takes phone numbers takes nothing else, so their rules apply."""
    tokens = service.template_tokens.items()
    names = {name for name, token in tokens if token.get("map_to") == "targets"}
    if any("phone" in name or "sms" in name for name in names):
        return "phone"
    return "email" if names == {"target_email"} else _KINDS.get(service.__name__)


def writes_to(plugin: NotifyBase, recipient: str) -> bool:
    """Whether the Apprise object reports exactly this recipient and no other."""
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
        # Some services drop the plus or put a prefix before the number, as in "w:+1...".
        return re.sub("[^0-9]", "", target) == recipient[1:]
    return target in (recipient, "@" + recipient)


def _parameters(service: type[NotifyBase]) -> set[str]:
    return set(inspect.signature(service.__init__).parameters)


def _failure(heard: list[str]) -> Exception:
    """The reason for a failure, from Apprise's warnings. They may quote the message, so only a number is used."""
    codes = [found[1] for warning in heard if (found := _CODE.search(warning))]
    if codes and codes[-1] != "200":  # some services put the error in the body, which Apprise does not report
        return RuntimeError(f"the service refused it: error {codes[-1]}")
    if any("onnection error" in warning for warning in heard):
        return ProviderDown("the service could not be reached, or did not answer in time")
    return RuntimeError("the service did not take it")
