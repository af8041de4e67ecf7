"""How many time series the metrics of OpenTelemetry have."""

from __future__ import annotations

from ..observability.series import count_series
from .finding import Site


def metric_series(site: Site) -> int:
    """The most that there can be with the app's settings, for an app that calls ``instrument``."""
    channels = site.state.routing.channels()
    steps = max((len(failover) for failover in channels.values()), default=0)
    configured = {
        "channel": tuple(channels),
        "purpose": tuple(site.settings.purposes),
        "provider": tuple(str(place) for place in range(1, steps + 1)),
        "country": tuple(site.settings.sms_countries),
    }
    return count_series(configured)
