"""A right verification and a guard, each in one flat function: what they must do, and none of our structure.

The same libraries, and the same duties: what our own views take longer than these is the price of our structure.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from datetime import datetime, timezone
from ipaddress import ip_address
from typing import Any

from flask import Flask, abort, jsonify, make_response, request, session
from flask.typing import ResponseReturnValue
from itsdangerous import BadSignature, Signer
from redis import Redis

_MAX_BODY = 4096
_MAX_ATTEMPTS = 5
_CODE_LIFE, _PROOF_LIFE, _KNOWN_BROWSER_FOR = 300, 12 * 3600, 180 * 86400

#: One hash for each subject, as in our store: the challenges with their attempts, the proofs with their expiry.
#: ARGV: challenge, whether the code matches, most attempts, now, proof, the proof's expiry. Answers whether it counts.
_REDEEM = """
local field, proof = 'c' .. ARGV[1], 'p' .. ARGV[5]
local raw = redis.call('HGET', KEYS[1], field)
if not raw then return 0 end
local expires_at, attempts = struct.unpack('<I5B', raw)
if expires_at <= tonumber(ARGV[4]) or attempts >= tonumber(ARGV[3]) then return 0 end
if ARGV[2] == '0' then
  redis.call('HSET', KEYS[1], field, struct.pack('<I5B', expires_at, attempts + 1))
  return 0
end
redis.call('HSET', KEYS[1], proof, struct.pack('<I5', ARGV[6]))
redis.call('HDEL', KEYS[1], field)
redis.call('EXPIRE', KEYS[1], ARGV[6] - ARGV[4])
return 1
"""


class ByHand:
    """The two views, and the challenges of the first."""

    def __init__(self, app: Flask, client: Redis) -> None:
        self._client = client
        self._redeem = client.script_load(_REDEEM)
        self._handles, self._proofs, self._known = (_signer() for _ in range(3))
        self._code_key = secrets.token_bytes(32)
        #: Networks that have had their share: without a rule, none.
        self._refused: set[str] = set()
        #: Proofs whose signature was checked, as ours are kept.
        self._checked: dict[str, list[Any]] = {}
        app.add_url_rule("/by-hand/verify", "verify_by_hand", self.verify, methods=["POST"])
        app.add_url_rule("/by-hand/guarded", "guarded_by_hand", self.guarded)

    def challenge(self, email: str) -> tuple[str, str]:
        """Handle and code of a new challenge."""
        challenge_id, expires_at = secrets.token_urlsafe(16), int(time.time()) + _CODE_LIFE
        key = self._key("login", email)
        self._client.hset(key, f"c{challenge_id}", expires_at.to_bytes(5, "little") + b"\0")
        self._client.expire(key, _CODE_LIFE)
        handle = json.dumps([challenge_id, "login", "email", email])
        return self._handles.sign(handle).decode(), self._code(challenge_id, "login", email)

    def verify(self) -> ResponseReturnValue:
        """All that a right verification has to do."""
        # Nobody else's page may send it.
        site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
        if site not in (None, "same-origin", "none") or (site is None and origin not in (None, request.host_url[:-1])):
            abort(403)
        # A body of few bytes, and of text alone.
        if (request.content_length or 0) > _MAX_BODY:
            abort(413)
        request.max_content_length = _MAX_BODY
        data = request.get_json()
        code, token = data.get("code"), data.get("challenge")
        if not isinstance(code, str) or not isinstance(token, str):
            abort(400)
        # The network has a say where there is a rule.
        if str(ip_address(request.remote_addr or "")) in self._refused:
            abort(429)
        # Which challenge, and whether the code is its.
        try:
            challenge_id, purpose, channel, email = json.loads(self._handles.unsign(token))
        except BadSignature:
            abort(400)
        matches = hmac.compare_digest(code.encode(), self._code(challenge_id, purpose, email).encode())
        # Charged and redeemed in one step, with the proof's name for log-out and revocation.
        now, proof_id = int(time.time()), secrets.token_urlsafe(12)
        expires_at = now + _PROOF_LIFE
        key = self._key(purpose, email)
        arguments = (challenge_id, int(matches), _MAX_ATTEMPTS, now, proof_id, expires_at)
        if not self._client.evalsha(self._redeem, 1, key, *arguments):
            abort(400)
        # The proof, in a session that nobody knew before.
        proof = self._proofs.sign(json.dumps([proof_id, purpose, channel, now, expires_at, email])).decode()
        session.clear()
        session["holder"] = secrets.token_urlsafe(18)
        session["proof"] = proof
        response = jsonify(
            verified=True,
            identifier=email,
            channel=channel,
            purpose=purpose,
            verified_at=datetime.fromtimestamp(now, timezone.utc).isoformat(),
            proof=proof,
            proof_expires_in=_PROOF_LIFE,
            next="/",
        )
        # This browser is known from now on, and nobody keeps the answer.
        known = self._known.sign(json.dumps([[key, secrets.token_urlsafe(8), now]])).decode()
        response.set_cookie("known", known, max_age=_KNOWN_BROWSER_FOR, secure=True, httponly=True, samesite="Lax")
        response.headers["Cache-Control"] = "no-store"
        return response

    def guarded(self) -> ResponseReturnValue:
        """All that a guard has to do while it need not ask the store."""
        token = session.get("proof", "")
        proof = self._checked.get(token)
        if proof is None:
            try:
                proof = self._checked[token] = json.loads(self._proofs.unsign(token))
            except BadSignature:
                abort(401)
        _, purpose, _, verified_at, expires_at, _ = proof
        if purpose != "login" or not verified_at <= time.time() < expires_at:
            abort(401)
        response = make_response("hello")
        # Flask itself says "Vary: Cookie", since the session was looked at.
        response.headers["Cache-Control"] = "no-store"
        return response

    def _code(self, challenge_id: str, purpose: str, email: str) -> str:
        digest = hmac.digest(self._code_key, f"{challenge_id} {purpose} {email}".encode(), "sha256")
        return f"{int.from_bytes(digest, 'big') % 10**6:06d}"

    def _key(self, purpose: str, email: str) -> str:
        return "by-hand:" + hmac.digest(self._code_key, f"{purpose} {email}".encode(), "sha256")[:16].hex()


def _signer() -> Signer:
    return Signer(secrets.token_bytes(32), key_derivation="none", digest_method=hashlib.sha256)
