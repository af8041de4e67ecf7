"""Blinker signals: what happened, never with a code among the arguments.

The sender is the Flask app. Arguments are keywords; identifiers are passed in full, so mask what you log.
Connect with ``@code_verified.connect_via(app)``; receivers run in the request (or the delivering thread).
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: A channel took a message. Arguments: ``identifier``, ``channel``, ``purpose``.
code_sent = _signals.signal("otp-code-sent")

#: No channel took the message, or its code had already expired, been used or been revoked. Arguments: ``identifier``,
#: ``channel``, ``purpose``.
delivery_failed = _signals.signal("otp-delivery-failed")

#: A correct code was redeemed. Argument: ``verification``.
code_verified = _signals.signal("otp-code-verified")

#: A code was refused. Arguments: ``purpose``, ``identifier`` (both ``None`` when the handle was not ours).
code_rejected = _signals.signal("otp-code-rejected")

#: A failure spent the subject's failure budget: its next codes are strong. Arguments: ``identifier``, ``purpose``.
budget_spent = _signals.signal("otp-budget-spent")

#: Failures at short codes over the whole site passed ``OTP_SURGE_LIMIT``: new codes are strong until the surge ends.
#: No argument.
surge = _signals.signal("otp-surge")

#: Messages to a range of phone numbers are withheld from now on, since hardly any code sent there is verified. Sent
#: once in a window of ``OTP_PUMPING_BREAKER``. Arguments: ``prefix`` (a number without its last four digits, or a
#: country's two letters), ``channel``, ``sent``, ``verified``.
sms_pumping = _signals.signal("otp-sms-pumping")

#: Proofs were ended. Arguments: ``identifier``, ``purposes``.
proof_revoked = _signals.signal("otp-proof-revoked")
