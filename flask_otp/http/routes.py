"""The table of routes: the paths of the blueprint, the members of their bodies, and their responses.

The blueprint, the body parser (:func:`.requests.read_body`) and the OpenAPI document (:mod:`.openapi`) are all
generated from this table, so they always agree on routes and members.
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

#: Allowed lengths of an ``Idempotency-Key`` in printable ASCII characters. A shorter key could be guessed.
IDEMPOTENCY_KEY = (16, 255)


@dataclass(frozen=True)
class Member:
    """One member of a body, or one value of a query: a text or a flag."""

    name: str
    description: str
    #: In characters. If the member must not be empty, a form's empty field counts as missing.
    least: int = 0
    most: int = MAX_TOKEN
    #: Whether it is true or false in JSON, and a checkbox in a form.
    is_flag: bool = False
    #: The value of a flag that is not given.
    default: bool = False
    #: Whether it is ignored in forms, where a field of this name belongs to the page.
    is_json_only: bool = False
    #: The setting that lists its values: ``"purposes"`` or ``"channels"``. Empty: any text.
    values: str = ""


@dataclass(frozen=True)
class Route:
    """One method of one path below ``OTP_URL_PREFIX``."""

    method: str
    path: str
    endpoint: str
    summary: str
    #: Name of the schema of the JSON response. ``"page"``: HTML only. Empty: 204.
    answer: str
    members: tuple[Member, ...] = ()
    query: tuple[Member, ...] = ()
    #: All errors that it may return.
    errors: tuple[type[HTTPException], ...] = ()
    #: What the route needs: ``"factors"``, or a setting. Without it, the route returns 404.
    needs: str = ""
    #: Whether it accepts an ``Idempotency-Key``.
    is_idempotent: bool = False
    #: Whether it accepts a proof as a bearer token.
    takes_proof: bool = False


PURPOSE = Member("purpose", "What the code is for.", values="purposes")
_CHALLENGE = Member("challenge", "The handle of the challenge. A browser's session knows it.")
_CHANNEL = Member(
    "channel", "Channel of the message; by default the first that accepts the identifier.", 1, 64, values="channels"
)
_WAY_BACK = Member("next", "Path on this host to redirect to after the verification. Other values are ignored.")
_REQUIREMENT = Member("requirement", "The requirement from a guard's 401 response, unchanged.")
_SESSION = Member(
    "session",
    "False for a client that stores the handle and the proof itself: no session or cookie is written.",
    is_flag=True,
    default=True,
    is_json_only=True,
)
_OF = Member("of", "The challenge or form of this browser that the page shows.")
_BODY = (InvalidRequest, CrossOrigin, RequestEntityTooLarge, UnsupportedMediaType)
_SENDING = (ChallengeRequired, RateLimited, DeliveryFailed, StoreUnavailable)

START = Route(
    "GET",
    "/",
    "start",
    "The page that asks for an address.",
    "page",
    query=(PURPOSE, _WAY_BACK, _REQUIREMENT, _OF),
    # It sends a code itself if there is nothing to choose.
    errors=(InvalidRequest, InvalidIdentifier, RateLimited, DeliveryFailed, StoreUnavailable),
)
SEND = Route(
    "POST",
    "/send",
    "send",
    "Send a code.",
    "Challenge",
    (
        Member("identifier", "An e-mail address, or a phone number with its country code."),
        Member("email", "The same, instead of identifier."),
        Member("phone", "The same, instead of identifier."),
        _CHANNEL,
        PURPOSE,
        _REQUIREMENT,
        _WAY_BACK,
        Member("challenge", "Instead of an identifier: the handle of an expired challenge, to start it again."),
        Member("form", "Hidden field of our own page's form."),
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
    errors=(InvalidRequest, RateLimited, StoreUnavailable),
)
VERIFY = Route(
    "POST",
    "/verify",
    "verify",
    "Redeem a code, or the secret of a link.",
    "Verification",
    (
        Member("code", "What the person typed."),
        Member("link", "Instead of the code: the last part of the link's path."),
        _CHALLENGE,
        PURPOSE,
        _WAY_BACK,
        Member("trust", "Whether this browser may skip the second factor from now on.", is_flag=True),
        _SESSION,
    ),
    errors=(*_BODY, ChallengeRequired, InvalidCode, RateLimited, FactorsUnavailable, StoreUnavailable),
)
RESEND = Route(
    "POST",
    "/resend",
    "resend",
    "Send the same code again. No attempt is given back.",
    "Challenge",
    (_CHALLENGE, PURPOSE, _WAY_BACK, _CHANNEL, _SESSION),
    errors=(*_BODY, InvalidIdentifier, *_SENDING),
)
LINK = Route(
    "GET",
    "/link/<secret>",
    "link",
    "The page behind a message's link: one button, in the browser that requested the code.",
    "page",
    query=(PURPOSE,),
    errors=(NotFound,),
    needs="links",
)
REPEAT = Route(
    "GET",
    "/repeat",
    "repeat",
    "The page with the button that submits a refused form again.",
    "page",
    query=(PURPOSE, _OF),
    errors=(InvalidRequest, StoreUnavailable),
)
LOGOUT = Route(
    "POST",
    "/logout",
    "logout",
    "End this client's proofs: those of its session, and the one in Authorization.",
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
APP = Route(
    "GET",
    "/app",
    "app",
    "Begin to add an authenticator app.",
    "Enrolment",
    errors=(InvalidRequest, *_KEPT),
    needs="factors",
)
ADD_APP = Route(
    "POST",
    "/app",
    "add_app",
    "Add the app with a code that it shows.",
    "Factors",
    (
        Member("enrolment", "The value from the GET request."),
        Member("code", "The code that the app shows."),
        Member("name", "The person's name for the app."),
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
    "Create ten new recovery codes.",
    "Factors",
    errors=(*_BODY, *_KEPT),
    needs="factors",
)
FACTORS = (APP, ADD_APP, REMOVE_APP, RENEW_RECOVERY)

ROUTES = (START, SEND, ENTER, VERIFY, RESEND, LINK, REPEAT, LOGOUT, HEALTH, OPENAPI, *FACTORS)


def methods_of(path: str) -> list[str]:
    """The methods of a path below the prefix, given without its first slash. Empty if there is no such path."""
    return [route.method for route in ROUTES if route.path == f"/{path}"]
