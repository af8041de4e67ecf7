"""The tree of all errors.

::

    HTTPException (Werkzeug)
    └── OTPError
        ├── InvalidRequest          400  the request itself is malformed
        │   ├── InvalidIdentifier   400  not an e-mail address or phone number
        │   └── IdempotencyConflict 422  an Idempotency-Key was used for another request before
        ├── ChallengeRequired       400  no code was asked for yet
        ├── InvalidCode             400  wrong, expired, used or unknown: never told apart
        ├── InvalidWebhook          400  in a sender service: not signed by us, or too old
        ├── VerificationRequired    401  the guard: verify a code first
        ├── CrossOrigin             403  another site made the browser send this
        ├── RateLimited             429  too much, too soon
        ├── DeliveryFailed          503  the message could not be handed over
        ├── FactorsUnavailable      503  a person's authenticator apps cannot be read or changed
        └── StoreUnavailable        503  the store or the limiter is unreachable

    ValueError
    └── ConfigError                      the configuration or the use of a guard is wrong

A view need not catch these errors. An uncaught error becomes the right response: ``application/problem+json`` (RFC
9457) for API clients, a page for browsers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flask import has_request_context, json, redirect, request
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Request as BaseRequest
from werkzeug.wrappers import Response

from . import documentation
from .languages import N_, gettext, spoken
from .outages import Cause, cause_of, tell
from .site import current_site

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

#: Headers of every page and every problem document.
PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    # Not "no-referrer": with it, a browser sends its own forms with "Origin: null", as if from another site.
    "Referrer-Policy": "same-origin",
    "Vary": "Cookie",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

#: Default seconds to wait after an error, by status.
_RETRY_AFTER = {429: 60, 503: 30}

#: Our translated texts, used instead of Werkzeug's, which are English only.
_FOR_WERKZEUG = {
    400: N_("The request could not be understood."),
    404: N_("There is no such page. Perhaps the address was cut short."),
    405: N_("This address does not answer requests of that kind."),
    413: N_("That is more than we accept in one request."),
    415: N_("Send application/json or a form."),
}


class ConfigError(ValueError):
    """The configuration or the use of a guard is wrong. The message says how to correct it, and names a page.

    Raised at start-up, or on the first request for errors that are known only then.

    :param see: short name of the page, such as ``"settings/otp-channels"``. By default that of the setting or the part
        that the message begins with.
    """

    def __init__(self, message: str, *, see: str | None = None) -> None:
        super().__init__(message)
        self.see = see or documentation.page_of(message)

    def __str__(self) -> str:
        return f"{self.args[0]} (see: {documentation.see(self.see)})"


class OTPError(HTTPException):
    """Base class of all errors that a request can cause."""

    code: int = 400
    #: Machine-readable code: the class's name in snake case.
    reason: str = "otp_error"
    title: str = "The request failed"
    description: str = N_("Something went wrong.")
    #: The form field of the error: ``"identifier"``, ``"code"`` or ``None``.
    field: str | None = None

    def __init__(
        self, description: str | None = None, *, retry_after: int | None = None, field: str | None = None
    ) -> None:
        super().__init__(description)
        #: Seconds before another try is useful, if known.
        self.retry_after = retry_after
        if field is not None:
            self.field = field

    @classmethod
    def from_http(cls, error: HTTPException) -> OTPError:
        """Convert an error of Werkzeug or the app: a 404 or 413, or a 429 of the app's own limiter."""
        theirs = error.description == type(error).description
        description = _FOR_WERKZEUG.get(error.code or 500) if theirs else None
        ours = cls(description or error.description, retry_after=_RETRY_AFTER.get(error.code or 500))
        ours.code = error.code or 500
        ours.title = error.name
        ours.reason = "rate_limited" if ours.code == 429 else error.name.lower().replace(" ", "_")
        return ours

    @property
    def detail(self) -> str:
        """:attr:`description` in the language of the current request."""
        return gettext(self.description)

    def problem(self) -> dict[str, Any]:
        """The members of the RFC 9457 document."""
        members: dict[str, Any] = {
            "type": f"urn:flask-otp:{self.reason}",
            "title": self.title,
            "status": self.code,
            "detail": self.detail,
            "reason": self.reason,
        }
        if self.retry_after is not None:
            members["retry_after"] = self.retry_after
        return members

    def extra_headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    def as_problem(self) -> Response:
        response = Response(json.dumps(self.problem()), self.code, content_type="application/problem+json")
        return self.with_headers(response)

    def with_headers(self, response: Response) -> Response:
        """Return ``response``, which has no such headers yet, with those of a page or problem and of this error."""
        language, is_chosen = spoken()
        headers = {**PAGE_HEADERS, "Content-Language": language, **self.extra_headers()}
        if is_chosen:
            headers["Vary"] += ", Accept-Language"
        # Not by ``response.vary``, because each access to it parses and rewrites the header.
        for name, value in headers.items():
            response.headers.add(name, value)
        return response

    def get_response(self, environ: WSGIEnvironment | BaseRequest | None = None, scope: Any = None) -> Response:
        site = current_site() if has_request_context() and accepts_html() else None
        return site.render_error(self) if site is not None and site.is_mounted else self.as_problem()


class InvalidRequest(OTPError):
    """The request is malformed. Nothing was sent or counted."""

    reason = "invalid_request"
    title = "The request is not valid"
    description = N_("The request could not be understood.")


class InvalidIdentifier(InvalidRequest):
    """The identifier is neither an e-mail address nor a phone number that we can use."""

    reason = "invalid_identifier"
    title = "The address is not valid"
    description = N_("Please enter a valid e-mail address or phone number.")
    field = "identifier"


class IdempotencyConflict(InvalidRequest):
    """The ``Idempotency-Key`` was used before for a request with another body. Nothing was sent.

    Source: draft-ietf-httpapi-idempotency-key-header, section "Error Handling".
    """

    code = 422
    reason = "idempotency_conflict"
    title = "The Idempotency-Key was used before"
    description = N_("This Idempotency-Key was used for another request. Use a new one.")


class ChallengeRequired(OTPError):
    """There is no code to verify or send again. Call ``send`` first."""

    reason = "challenge_required"
    title = "No code was asked for"
    description = N_("Please ask for a code first.")


class InvalidCode(OTPError):
    """Wrong, expired, used, revoked, foreign or unknown code, or no attempts left.

    All of them get the same response, which reveals nothing (OWASP ASVS 5.0 V6.3.8).
    """

    reason = "invalid_code"
    title = "The code is not valid"
    description = N_("That code is not right, or no longer valid.")
    field = "code"
    #: No code will be accepted for this challenge any more. Only our own pages use it, to tell the user. Responses are
    #: the same.
    is_over: bool = False


class InvalidWebhook(OTPError):
    """Raised by :func:`flask_otp.webhooks.read`: bad signature, changed or expired request, or not our message."""

    reason = "invalid_webhook"
    title = "The webhook is not valid"
    description = N_("The webhook is not signed as it must be, or too old.")


class VerificationRequired(OTPError):
    """The guard refuses, because the client has no matching verification.

    A browser is redirected to the form. Other clients get 401 with the header of RFC 9470 section 3.
    """

    code = 401
    reason = "verification_required"
    title = "Verification required"
    description = N_("Please verify a code first.")

    def __init__(
        self,
        description: str | None = None,
        *,
        purpose: str = "login",
        channels: Sequence[str] = (),
        max_age: int | None = None,
        requirement: str | None = None,
        location: str | None = None,
    ) -> None:
        super().__init__(description)
        #: The purpose that the verification must have.
        self.purpose = purpose
        #: The channels that the guard accepts. Empty means any.
        self.channels = tuple(channels)
        #: Maximum age of the verification in seconds, or ``None``.
        self.max_age = max_age
        #: Signed requirement of the guard. API clients pass it to ``POST /otp/send``.
        self.requirement = requirement
        #: URL of the form for browsers.
        self.location = location

    def problem(self) -> dict[str, Any]:
        members = super().problem() | {"purpose": self.purpose}
        if self.channels:
            members["channels"] = list(self.channels)
        if self.max_age is not None:
            members["max_age"] = self.max_age
        if self.requirement is not None:
            members["requirement"] = self.requirement
        return members

    def extra_headers(self) -> dict[str, str]:
        challenge = 'Bearer error="insufficient_user_authentication"'
        if self.max_age is not None:
            challenge += f", max_age={self.max_age}"
        return {"WWW-Authenticate": challenge}

    def get_response(self, environ: WSGIEnvironment | BaseRequest | None = None, scope: Any = None) -> Response:
        if self.location is not None and has_request_context() and accepts_html():
            response = redirect(self.location, 303)
            response.headers.update(PAGE_HEADERS)
            return response
        return super().get_response(environ, scope)


class CrossOrigin(OTPError):
    """Another site made the browser send this request."""

    code = 403
    reason = "cross_origin"
    title = "Cross-site request refused"
    description = N_("This request came from another site and was refused.")


class RateLimited(OTPError):
    """A limit was reached. :attr:`retry_after` says when to try again."""

    code = 429
    reason = "rate_limited"
    title = "Too many requests"
    description = N_("Too many requests. Please wait a little and try again.")

    def __init__(self, description: str | None = None, *, retry_after: int | None = None, limit: str = "other") -> None:
        super().__init__(description, retry_after=retry_after)
        #: The limit that was reached, for the signal ``limit_reached``. The client is not told.
        self.limit = limit


class DeliveryFailed(OTPError):
    """No channel took the message. No code is outstanding. After a failed resend, the earlier code is still valid."""

    code = 503
    reason = "delivery_failed"
    title = "The code could not be sent"
    description = N_("The code could not be sent. Please try again in a moment.")

    def __init__(self, description: str | None = None, *, retry_after: int = _RETRY_AFTER[503]) -> None:
        super().__init__(description, retry_after=retry_after)


class StoreUnavailable(OTPError):
    """The store or the limiter is unreachable. Nothing passes until it is reachable again.

    Code that raises it while it handles an exception need not give a cause. The cause is logged here, so no store, not
    even an app's own, can fail silently.

    :param part: the part that is unavailable.
    :param cause: the cause. By default taken from the exception that is being handled.
    """

    code = 503
    reason = "store_unavailable"
    title = "Temporarily unavailable"
    description = N_("This is temporarily unavailable. Please try again in a moment.")

    def __init__(
        self,
        description: str | None = None,
        *,
        retry_after: int = 5,
        part: str = "the store",
        cause: Cause | None = None,
    ) -> None:
        super().__init__(description, retry_after=retry_after)
        self.part = part
        self.cause = cause or cause_of(sys.exc_info()[1])
        tell(part, self.cause)


class FactorsUnavailable(OTPError):
    """The column with a person's authenticator apps does not open, or could not be saved. Nothing was changed."""

    code = 503
    reason = "factors_unavailable"
    title = "The authenticator apps are unavailable"
    description = N_("Your authenticator apps cannot be changed at the moment. Please try again later.")

    def __init__(self, description: str | None = None, *, retry_after: int = _RETRY_AFTER[503]) -> None:
        super().__init__(description, retry_after=retry_after)


def accepts_html() -> bool:
    """Whether the client is a browser: only if its ``Accept`` contains ``text/html``."""
    return any(
        media.partition(";")[0].strip().lower() == "text/html" and quality > 0
        for media, quality in request.accept_mimetypes
    )
