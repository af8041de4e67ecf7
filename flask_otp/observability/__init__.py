"""Receivers of the signals: metrics and traces, the audit log. The flows know none of them."""
