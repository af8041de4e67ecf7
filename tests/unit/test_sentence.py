"""Every form of the sentence of ``flask otp show``. Whether it is true is tried in ``tests/stores/test_outlook.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from flask_otp.support.outlook import Asker, Outlook
from flask_otp.support.sentence import sentence

NOW = 1_795_702_400
STRANGER, NAMED = Asker("a network that has not asked yet", b""), Asker("192.0.2.1", b"one", network="192.0.2.1")
OPEN, HOURLY = Outlook("x"), Outlook("network 1", 3600, "OTP_SEND_LIMIT")
AT_ONCE = Outlook("network 2", 0, "OTP_PREFIX_BUDGET")
BEFORE = "before 2026-11-26 15:13:20 UTC (OTP_SEND_LIMIT)"


@dataclass
class Forecast:
    """What is found out elsewhere."""

    outlook: Outlook = OPEN
    of_known: Outlook = OPEN
    barrier: str = ""
    barrier_in_words: str = "there is no reason"
    setting: str = ""
    is_diverted: bool = False
    may_be_vetoed: bool = False

    def of(self, asker: Asker) -> Outlook:
        return self.of_known if asker.known else self.outlook

    def strength(self, asker: Asker) -> str:
        return self.setting if not asker.known else ""


REST = " A browser that has verified here before can have one now."
REMARKS = (
    " It will be a strong one (OTP_SURGE_LIMIT). It will be printed instead of sent (OTP_DELIVER_ONLY_TO)."
    " The app's before_send may withhold it."
)


@pytest.mark.parametrize(
    ("forecast", "asker", "others", "said"),
    [
        (Forecast(), STRANGER, [], "A code can go out now."),
        (Forecast(), NAMED, [], "A code can go out to 192.0.2.1 now."),
        (Forecast(), STRANGER, [OPEN, HOURLY], f"A code can go out now, but none to network 1 {BEFORE}."),
        (
            Forecast(),
            STRANGER,
            [HOURLY, AT_ONCE],
            f"A code can go out now, but none to network 1 {BEFORE}; none to network 2 now (OTP_PREFIX_BUDGET).",
        ),
        (
            Forecast(setting="OTP_SURGE_LIMIT", is_diverted=True, may_be_vetoed=True),
            STRANGER,
            [HOURLY],
            f"A code can go out now, but none to network 1 {BEFORE}.{REMARKS}",
        ),
        (Forecast(outlook=HOURLY), STRANGER, [], f"No code goes out {BEFORE}.{REST}"),
        (Forecast(outlook=HOURLY), NAMED, [], f"No code goes out to 192.0.2.1 {BEFORE}.{REST}"),
        (Forecast(outlook=HOURLY, of_known=HOURLY), STRANGER, [], f"No code goes out {BEFORE}."),
        (Forecast(outlook=AT_ONCE, of_known=AT_ONCE), STRANGER, [], "No code goes out now (OTP_PREFIX_BUDGET)."),
        (Forecast(barrier="unknown", is_diverted=True), STRANGER, [], "No code goes out: there is no reason."),
    ],
)
def test_what_is_said(forecast: Any, asker: Asker, others: list[Outlook], said: str) -> None:
    assert sentence(forecast, asker, others, NOW) == said
