"""Receivers of the signals: metrics and traces, and the audit log. The flows do not depend on them."""
