"""The OpenAPI 3.1 document of the HTTP API, generated from the table of routes and the app's settings."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from werkzeug.exceptions import HTTPException

from ..crypto.codes import STRONG_LENGTH
from ..errors import FactorsUnavailable, OTPError, RateLimited, StoreUnavailable, VerificationRequired
from ..factors import totp
from ..site import BLUEPRINT
from ..state import AppState
from .routes import IDEMPOTENCY_KEY, ROUTES, Member, Route

VERSION = "3.1.1"

_TEXT = {"type": "string"}
_SECONDS = {"type": "integer", "minimum": 0}
_PAGE = {"text/html": {"schema": {"type": "string"}}}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds before another try is useful.", "schema": _SECONDS}}


def document(state: AppState) -> dict[str, Any]:
    """The app's document: its prefix, its purposes and channels, and only its active routes."""
    prefix = _prefix(state)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        if _is_on(state, route):
            path = prefix + re.sub(r"<(\w+)>", r"{\1}", route.path)
            paths.setdefault(path, {})[route.method.lower()] = _operation(state, route)
    return {
        "openapi": VERSION,
        "info": {
            "title": f"One-time codes of {state.site_name}",
            "version": "1",
            "description": "Send, resend and verify one-time codes.",
        },
        "servers": [{"url": state.settings.base_url or "/"}],
        "paths": paths,
        "components": {
            "schemas": _schemas(state),
            "responses": {"VerificationRequired": _required()},
            "securitySchemes": {
                "proof": {"type": "http", "scheme": "bearer", "description": "The proof of a verification."}
            },
        },
    }


def _is_on(state: AppState, route: Route) -> bool:
    if route.needs == "factors":
        return state.hooks.factors_loader is not None
    return not route.needs or bool(getattr(state.settings, route.needs))


def _prefix(state: AppState) -> str:
    """Where the blueprint is really mounted: the app may have mounted it itself, under another name."""
    names = [name for name, mounted in state.app.blueprints.items() if mounted is state.blueprint] or [BLUEPRINT]
    for rule in state.app.url_map.iter_rules(f"{names[0]}.send") if state.app.blueprints.get(names[0]) else ():
        return rule.rule.removesuffix("/send")
    return state.settings.url_prefix


def _operation(state: AppState, route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"otp_{route.endpoint}",
        "summary": route.summary,
        "tags": ["one-time codes"],
        "responses": _responses(state, route),
    }
    parameters = [_parameter(state, member) for member in route.query] + [
        {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in re.findall(r"<(\w+)>", route.path)
    ]
    if route.is_idempotent:
        least, most = IDEMPOTENCY_KEY
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "The same key and body get the same challenge, without a second message.",
                "schema": {"type": "string", "minLength": least, "maxLength": most, "pattern": r"^[\x20-\x7E]+$"},
            }
        )
    if parameters:
        operation["parameters"] = parameters
    if route.method == "POST":
        operation["requestBody"] = _body(state, route)
    if route.takes_proof or VerificationRequired in route.errors:
        operation["security"] = [{}, {"proof": []}]
    return operation


def _parameter(state: AppState, member: Member) -> dict[str, Any]:
    return {"name": member.name, "in": "query", "description": member.description, "schema": _schema(state, member)}


def _body(state: AppState, route: Route) -> dict[str, Any]:
    members = {member.name: _schema(state, member) for member in route.members}
    shape: dict[str, Any] = {"type": "object", "properties": members}
    content = {"application/json": {"schema": shape | {"additionalProperties": False}}}
    if members:
        # Pages have their own fields, also empty ones.
        fields = {member.name: _in_form(members[member.name]) for member in route.members if not member.is_json_only}
        content["application/x-www-form-urlencoded"] = {"schema": shape | {"properties": fields}}
    return {"content": content, "required": False}


def _in_form(schema: dict[str, Any]) -> dict[str, Any]:
    loose = {key: value for key, value in schema.items() if key != "minLength"} | {"type": "string"}
    return loose | {"enum": [*schema["enum"], ""]} if "enum" in schema else loose


def _schema(state: AppState, member: Member) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string", "description": member.description}
    if member.is_flag:
        return schema | {"type": "boolean", "default": member.default}
    values = _values(state, member.values)
    if values:
        return schema | {"enum": values}
    return schema | {"maxLength": member.most} | ({"minLength": member.least} if member.least else {})


def _values(state: AppState, setting: str) -> list[str]:
    if setting == "purposes":
        return list(state.settings.purposes)
    if setting == "channels":
        purposes = state.settings.purposes.values()
        return list(dict.fromkeys(name for purpose in purposes for name in state.routing.channels_of(purpose)))
    return []


def _responses(state: AppState, route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    if route.answer == "page":
        responses["200"] = {"description": "The page.", "content": _PAGE}
        responses["303"] = {"description": "Redirect to the page that this client needs."}
    elif route.answer:
        schema = {"$ref": f"#/components/schemas/{route.answer}"}
        content = {"application/json": {"schema": schema}} | (_PAGE if route.needs == "factors" else {})
        responses["200"] = {"description": "Done.", "content": content}
    else:
        responses["204"] = {"description": "Done."}
    if route.method == "POST" or VerificationRequired in route.errors:
        responses["303"] = {"description": "Redirect to the next page, for a browser."}
    if route.answer == "Verification" and state.hooks.verified_handler is not None:
        responses["default"] = {"description": "The response of the app's verified_handler."}
    without = {FactorsUnavailable} if state.hooks.factors_loader is None else set()
    for status, errors in _by_status(kind for kind in route.errors if kind not in without).items():
        responses[str(status)] = _failure(errors)
    return responses


def _by_status(kinds: Iterable[type[HTTPException]]) -> dict[int, list[OTPError | type[OTPError]]]:
    by_status: dict[int, list[OTPError | type[OTPError]]] = {}
    for kind in kinds:
        # Our own errors are not instantiated, because that might report them to the operator.
        error = kind if issubclass(kind, OTPError) else OTPError.from_http(kind())
        by_status.setdefault(error.code, []).append(error)
    return dict(sorted(by_status.items()))


def _failure(errors: list[OTPError | type[OTPError]]) -> dict[str, Any]:
    reasons = sorted({error.reason for error in errors})
    shape = {
        "allOf": [
            {"$ref": "#/components/schemas/Problem"},
            {"properties": {"reason": {"enum": reasons}, "status": {"const": errors[0].code}}},
        ]
    }
    failure: dict[str, Any] = {
        "description": " ".join(sorted({error.title + "." for error in errors})),
        "content": {"application/problem+json": {"schema": shape}, **_PAGE},
    }
    if errors[0].code in (RateLimited.code, StoreUnavailable.code):
        failure["headers"] = _RETRY_AFTER
    return failure


def _required() -> dict[str, Any]:
    """The response of the app's guarded views, for the app's own document to refer to."""
    return {
        "description": VerificationRequired.title + ".",
        "headers": {"WWW-Authenticate": {"description": "As in RFC 9470.", "schema": _TEXT}},
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/VerificationRequired"}}},
    }


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    # Open for further members, because later releases may add some.
    return {"type": "object", "properties": properties, "required": list(properties)}


def _schemas(state: AppState) -> dict[str, Any]:
    purposes = {"type": "string", "enum": _values(state, "purposes")}
    return _answers(state, purposes) | _problems(purposes) | _kept_factors() | {"OpenAPI": {"type": "object"}}


def _answers(state: AppState, purposes: dict[str, Any]) -> dict[str, Any]:
    lengths = {purpose.code_length if purpose.typed else 0 for purpose in state.settings.purposes.values()}
    lengths |= {STRONG_LENGTH} | {
        len(code) for entry in state.settings.test_recipients.values() for code in entry.codes
    }
    if state.hooks.factors_loader is not None:
        lengths |= {totp.DIGITS, totp.STRONG_DIGITS}
    names = {"type": "array", "items": _TEXT}
    return {
        "Challenge": _object(
            challenge={"type": "string", "description": "The handle. A client that has it may try codes."},
            channel=_TEXT,
            destination={"type": "string", "description": "Where the message went, masked."},
            purpose=purposes,
            code_length={"type": "integer", "enum": sorted(lengths)},
            expires_in=_SECONDS,
            resend_in=_SECONDS,
            other_channels=names | {"description": "Other channels that can carry the code, by the settings."},
        ),
        "Verification": _object(
            verified={"const": True},
            identifier=_TEXT,
            channel=_TEXT,
            channels=names | {"description": "All channels that the code went out by."},
            purpose=purposes,
            verified_at={"type": "string", "format": "date-time"},
            proof={"type": "string", "description": "For Authorization: Bearer. Treat it like a password."},
            proof_expires_in=_SECONDS,
            next=_TEXT,
        ),
    }


def _kept_factors() -> dict[str, Any]:
    names = {"type": "array", "items": _TEXT}
    shown: dict[str, dict[str, Any]] = {"apps": names, "recovery_left": _SECONDS}
    factors = _object(**shown)
    factors["properties"]["recovery_codes"] = names | {"description": "Only if they are new: they are shown once."}
    texts: dict[str, dict[str, Any]] = dict.fromkeys(("enrolment", "uri", "secret", "svg"), _TEXT)
    return {"Factors": factors, "Enrolment": _object(**shown, **texts, expires_in=_SECONDS)}


def _problems(purposes: dict[str, Any]) -> dict[str, Any]:
    members = {
        "type": {"type": "string", "format": "uri"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "In the language of the request."},
        "reason": {"type": "string", "description": "A word for programs."},
    }
    retry_after = {"retry_after": {**_SECONDS, "description": "Same as the header Retry-After."}}
    required = {
        "purpose": purposes,
        "channels": {"type": "array", "items": _TEXT},
        "max_age": _SECONDS,
        "requirement": {"type": "string", "description": "For the member requirement of send."},
    }
    problem = {"$ref": "#/components/schemas/Problem"}
    return {
        "Problem": {
            "type": "object",
            "description": "RFC 9457.",
            "properties": members | retry_after,
            "required": list(members),
        },
        "VerificationRequired": {
            "allOf": [problem, {"type": "object", "properties": required, "required": ["purpose"]}]
        },
    }
