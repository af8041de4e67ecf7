"""The table of routes: what the blueprint serves, what its bodies may hold, and what it answers.

The blueprint, the parser of bodies (:func:`.requests.read_body`) and the OpenAPI document (:mod:`.openapi`) are made
from this table, so none of them can know a route or a member that the others do not.
"""

from __future__ import annotations

from dataclasses import dataclass

from werkzeug.exceptions import HTTPException, NotFound, RequestEntityTooLarge, UnsupportedMediaType

from ..crypto.tokens import MAX_TOKEN
from ..errors import (
    ChallengeRequired,
    CrossOrigin,
    DeliveryFailed,
    FactorsUnavailable,
    IdempotencyConflict,
    InvalidCode,
    InvalidIdentifier,
    InvalidRequest,
    RateLimited,
    StoreUnavailable,
    VerificationRequired,
)

#: What an ``Idempotency-Key`` may be, in characters of printable ASCII. A shorter one could be guessed.
IDEMPOTENCY_KEY = (16, 255)


@dataclass(frozen=True)
class Member:
    """One member of a body, or one value of a query: a text, or a flag."""

    name: str
    description: str
    #: In characters. A form's empty field is as if it were not there, where the member may not be empty.
    least: int = 0
    most: int = MAX_TOKEN
    #: Whether it is true or false in JSON, and a ticked box in a form.
    is_flag: bool = False
    #: What a flag is that is not given.
    default: bool = False
    #: Whether a form cannot give it: there a field of this name belongs to the page.
    is_json_only: bool = False
    #: The setting that has all its values: ``"purposes"`` or ``"channels"``. Empty: any text.
    values: str = ""


@dataclass(frozen=True)
class Route:
    """One method of one path below ``OTP_URL_PREFIX``."""

    method: str
    path: str
    endpoint: str
    summary: str
    #: Name of the schema of the JSON answer; ``"page"``: HTML alone; empty: 204.
    answer: str
    members: tuple[Member, ...] = ()
    query: tuple[Member, ...] = ()
    #: Every failure that it may answer.
    errors: tuple[type[HTTPException], ...] = ()
    #: ``"factors"``, or the setting, without which it answers 404.
    needs: str = ""
    #: Whether it takes an ``Idempotency-Key``.
    is_idempotent: bool = False
    #: Whether it takes a proof as a bearer token.
    takes_proof: bool = False


PURPOSE = Member("purpose", "What the code is for.", values="purposes")
_CHALLENGE = Member("challenge", "The handle of the challenge. A browser's session knows it.")
_CHANNEL = Member(
    "channel", "How to send it; by default the first that takes such an identifier.", 1, 64, values="channels"
)
_WAY_BACK = Member("next", "Path on this host to go on to after the verification. Any other place is ignored.")
_REQUIREMENT = Member("requirement", "What a guard's 401 answer asked for, as it came.")
_SESSION = Member(
    "session",
    "False for a client that keeps the handle and the proof itself: nothing is put into a session or a cookie.",
    is_flag=True,
    default=True,
    is_json_only=True,
)
_OF = Member("of", "Which challenge or form of this browser the page is about.")
_BODY = (InvalidRequest, CrossOrigin, RequestEntityTooLarge, UnsupportedMediaType)
_SENDING = (ChallengeRequired, RateLimited, DeliveryFailed, StoreUnavailable)

START = Route(
    "GET",
    "/",
    "start",
    "The page that asks for an address.",
    "page",
    query=(PURPOSE, _WAY_BACK, _REQUIREMENT, _OF),
    errors=(InvalidRequest, StoreUnavailable),
)
SEND = Route(
    "POST",
    "/send",
    "send",
    "Send a code.",
    "Challenge",
    (
        Member("identifier", "An e-mail address, or a phone number with its country code."),
        Member("email", "The same, in place of identifier."),
        Member("phone", "The same, in place of identifier."),
        _CHANNEL,
        PURPOSE,
        _REQUIREMENT,
        _WAY_BACK,
        Member("challenge", "In place of an identifier: the handle of a challenge that is over, to begin it again."),
        Member("form", "What our own page put into its form."),
        _SESSION,
    ),
    errors=(*_BODY, InvalidIdentifier, IdempotencyConflict, *_SENDING),
    is_idempotent=True,
)
ENTER = Route(
    "GET",
    "/verify",
    "enter",
    "The page that asks for the code.",
    "page",
    query=(PURPOSE, _WAY_BACK, _OF),
    errors=(InvalidRequest, StoreUnavailable),
)
VERIFY = Route(
    "POST",
    "/verify",
    "verify",
    "Redeem a code, or the secret of a link.",
    "Verification",
    (
        Member("code", "What the person typed."),
        Member("link", "In place of the code: the last part of the link's path."),
        _CHALLENGE,
        PURPOSE,
        _WAY_BACK,
        Member("trust", "Whether this browser may go without a second factor from now on.", is_flag=True),
        _SESSION,
    ),
    errors=(*_BODY, ChallengeRequired, InvalidCode, RateLimited, StoreUnavailable),
)
RESEND = Route(
    "POST",
    "/resend",
    "resend",
    "Send the same code once more. No attempt is given back.",
    "Challenge",
    (_CHALLENGE, PURPOSE, _WAY_BACK, _CHANNEL, _SESSION),
    errors=(*_BODY, *_SENDING),
)
LINK = Route(
    "GET",
    "/link/<secret>",
    "link",
    "The page behind a message's link: one button, in the browser that asked for the code.",
    "page",
    query=(PURPOSE,),
    errors=(NotFound,),
    needs="links",
)
REPEAT = Route(
    "GET",
    "/repeat",
    "repeat",
    "The page with the button that sends a refused form again.",
    "page",
    query=(PURPOSE, _OF),
    errors=(InvalidRequest, StoreUnavailable),
)
LOGOUT = Route(
    "POST",
    "/logout",
    "logout",
    "End the proofs of this client: its session's, and the one in Authorization.",
    "",
    errors=(*_BODY, StoreUnavailable),
    takes_proof=True,
)
OPENAPI = Route("GET", "/openapi.json", "openapi", "This document.", "OpenAPI", needs="openapi")

HEALTH = Route(
    "GET",
    "/health",
    "health",
    "Whether codes can be sent and verified, for a load balancer or a supervisor.",
    "",
    errors=(StoreUnavailable,),
    needs="health",
)

_KEPT = (VerificationRequired, FactorsUnavailable, StoreUnavailable)
APP = Route("GET", "/app", "app", "A new authenticator app to be added.", "Enrolment", errors=_KEPT, needs="factors")
ADD_APP = Route(
    "POST",
    "/app",
    "add_app",
    "Add the app, by a code that it shows.",
    "Factors",
    (
        Member("enrolment", "As the GET request gave it."),
        Member("code", "What the app shows."),
        Member("name", "What the person calls the app."),
    ),
    errors=(*_BODY, InvalidCode, RateLimited, *_KEPT),
    needs="factors",
)
REMOVE_APP = Route(
    "POST",
    "/app/remove",
    "remove_app",
    "Remove an app.",
    "Factors",
    (Member("name", "Which one."),),
    errors=(*_BODY, *_KEPT),
    needs="factors",
)
RENEW_RECOVERY = Route(
    "POST",
    "/recovery",
    "renew_recovery",
    "Ten new recovery codes.",
    "Factors",
    errors=(*_BODY, *_KEPT),
    needs="factors",
)
FACTORS = (APP, ADD_APP, REMOVE_APP, RENEW_RECOVERY)

ROUTES = (START, SEND, ENTER, VERIFY, RESEND, LINK, REPEAT, LOGOUT, HEALTH, OPENAPI, *FACTORS)


def methods_of(path: str) -> list[str]:
    """The methods of a path below the prefix, without its first slash; empty: there is no such path."""
    return [route.method for route in ROUTES if route.path == f"/{path}"]
