"""Blinker signals. A code is never among their arguments.

The sender is the Flask app. Arguments are keywords. Identifiers are passed in full, so mask what you log. Connect with
``@code_verified.connect_via(app)``. Receivers run in the request, or in the delivering thread.

Each signal also passes ``event``, an :class:`~flask_otp.events.Event`, without an identifier, so it can be logged and
counted unchanged. A signal without receivers costs almost nothing: no event is created.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: A channel took a message. Arguments: ``identifier``, ``channel``, ``purpose``. The event's reason is ``first`` or
#: ``repeated``.
code_sent = _signals.signal("otp-code-sent")

#: No channel took the message, or its code had already expired, been used or been revoked. Arguments: ``identifier``,
#: ``channel``, ``purpose``.
delivery_failed = _signals.signal("otp-delivery-failed")

#: A message was made but is not sent, although the client got the usual response. Sent at the point where the message
#: would have been sent. No argument. The event's reason: ``unknown`` (unknown identifier, or a phone number that may
#: not be used), ``test_recipient``, ``numbers`` (the range of phone numbers is withheld or its limit reached),
#: ``vetoed`` (``before_send``), ``diverted`` (``OTP_DELIVER_ONLY_TO``), or ``queued`` (one of these, in a worker, which
#: does not know which).
message_withheld = _signals.signal("otp-message-withheld")

#: One provider of a channel was asked to take a message. No argument. The event's step is the provider's place, from
#: ``1``; its outcome ``taken``, ``refused`` (this recipient), ``down`` or ``failed``; its seconds how long that took.
delivery_tried = _signals.signal("otp-delivery-tried")

#: A delivery is about to wait for the dispatcher's queue or for a thread. Argument: ``carrier``, a dict. A receiver may
#: set its ``traceparent`` (W3C Trace Context), which is passed along with the delivery.
delivery_queued = _signals.signal("otp-delivery-queued")

#: A delivery has waited and starts now. Argument: ``carrier``, as above. The event's seconds: the time since the code
#: was requested, in whole seconds.
delivery_started = _signals.signal("otp-delivery-started")

#: A correct code was redeemed. Argument: ``verification``. The event's seconds: since the challenge was opened.
code_verified = _signals.signal("otp-code-verified")

#: A code was refused. Arguments: ``purpose``, ``identifier`` (both ``None`` if the handle was not ours). The event's
#: reason: ``handle`` (not ours), ``unfit`` (not a code, or a challenge for something else), ``wrong`` or ``closed``
#: (the challenge has expired, was used, revoked or superseded, or has no attempts left). The client gets the same
#: response for all.
code_rejected = _signals.signal("otp-code-rejected")

#: A failure spent the subject's failure budget: its next codes are strong. Arguments: ``identifier``, ``purpose``.
budget_spent = _signals.signal("otp-budget-spent")

#: Failures at short codes over the whole site exceeded ``OTP_SURGE_LIMIT``: new codes are strong until the surge ends.
#: No argument.
surge = _signals.signal("otp-surge")

#: Messages to a range of phone numbers are withheld from now on, because hardly any code sent there is verified. Sent
#: once in a window of ``OTP_PUMPING_BREAKER``. Arguments: ``prefix`` (a number without its last four digits, or a
#: two-letter country code), ``channel``, ``sent``, ``verified``.
sms_pumping = _signals.signal("otp-sms-pumping")

#: A limit refused a request. No argument. The event's reason: ``network_send``, ``network_verify``, ``channel_budget``,
#: ``identifier`` (a cooldown, limit or spent failure budget of the identifier), or ``other`` (the app's own).
limit_reached = _signals.signal("otp-limit-reached")

#: A send, resend or verify has ended. No argument. The event's step is ``send``, ``resend``, ``verify``, or
#: ``next_channel`` for messages of ``OTP_NEXT_CHANNEL_AFTER``; its outcome is ``done``, or the error's reason as the
#: client gets it; its seconds are the duration of the flow.
flow_ended = _signals.signal("otp-flow-ended")

#: A guard has passed or refused a request. No argument. The event's outcome is ``passed`` or ``refused``. The reason of
#: a refusal is ``no_proof``, or why the newest proof was not accepted: ``context``, ``identifier``, ``channel``,
#: ``age``, ``expired`` or ``ended``.
guard_decided = _signals.signal("otp-guard-decided")

#: A verb of the store has returned. No argument. The event's step is the verb; its outcome is ``done``, ``unavailable``
#: or ``refused``; its seconds are the duration.
store_called = _signals.signal("otp-store-called")

#: Proofs were ended. Arguments: ``identifier``, ``purposes``.
proof_revoked = _signals.signal("otp-proof-revoked")

#: A person has added an authenticator app. Arguments: ``identifier``, ``name``. Notify the owner: it may be an
#: attacker's app.
factor_added = _signals.signal("otp-factor-added")

#: A person has removed an authenticator app. Arguments: ``identifier``, ``name``.
factor_removed = _signals.signal("otp-factor-removed")

#: A recovery code was used. Arguments: ``identifier``, ``left`` (how many are left).
recovery_used = _signals.signal("otp-recovery-used")

#: A browser may skip the second factor from now on. Arguments: ``identifier``, ``purpose``, ``until`` (aware UTC),
#: ``id`` (for :meth:`flask_otp.OTP.untrust`).
browser_trusted = _signals.signal("otp-browser-trusted")
