"""The ``OTP_*`` settings: their parsers and the resulting values."""
