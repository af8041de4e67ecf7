"""The ``OTP_*`` settings: what they may look like, and what they come to."""
