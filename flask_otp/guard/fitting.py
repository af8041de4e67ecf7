"""Whether a proof matches a guard's requirements. The store decides afterwards and is not asked here."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..crypto.context import json_digest
from ..crypto.payloads import Proof
from ..errors import ConfigError
from ..http import session
from ..state import AppState
from ..stores.base import LEEWAY
from .rules import Rule


class Asked(NamedTuple):
    """A rule's values for the current request."""

    context: bytes
    context_values: Any
    identifier: str | None
    #: Whose proof it must be: the rule's identifier, else the signed-in user. ``None`` allows everyone's.
    person: str | None


def asked_by(state: AppState, rule: Rule) -> Asked:
    """
    :raises ConfigError: the rule's identifier is something else than text, such as the user.
    """
    context_values = rule.context() if rule.context is not None else None
    own = None if rule.identifier is None else rule.identifier()
    if not isinstance(own, (str, type(None))):
        raise ConfigError(f"otp_required: identifier must return text, not {type(own).__name__}")
    identifier = None if rule.identifier is None else state.identifiers.named(own).value
    return Asked(
        # ``None`` from the context function still counts as a context, so a proof without one must not match.
        context=b"" if rule.context is None else json_digest(context_values),
        context_values=context_values,
        identifier=identifier,
        person=state.own_identifier() if identifier is None else identifier,
    )


def fits(state: AppState, proof: Proof, rule: Rule, context: bytes, person: str | None) -> bool:
    """
    :param person: whose proof it must be. ``None`` allows everyone's.
    """
    return proof.purpose == rule.purpose and _fault(state, proof, rule, context, person) is None


def why_refused(state: AppState, rule: Rule, asked: Asked) -> str:
    """Why the client's first proof was not accepted, for the signal ``guard_decided``."""
    proof = next(iter(session.proofs(state, rule.purpose)), None)
    return "no_proof" if proof is None else _fault(state, proof, rule, asked.context, asked.person) or "ended"


def _fault(state: AppState, proof: Proof, rule: Rule, context: bytes, person: str | None) -> str | None:
    now = state.clock()
    if proof.context != context:
        return "context"
    if person not in (None, proof.identifier):
        return "identifier"
    if not proof.is_by(rule.channels):
        return "channel"
    if proof.expires_at <= now or proof.verified_at > now + LEEWAY:
        return "expired"
    if rule.max_age is not None and now - proof.verified_at > rule.max_age:
        return "age"
    return None
