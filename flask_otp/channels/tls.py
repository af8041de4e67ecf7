"""TLS contexts that verify servers."""

from __future__ import annotations

import functools
import os
import ssl


def verifying(ca: str | None = None) -> ssl.SSLContext:
    """A client's context that trusts the system's authorities, or those in the file ``ca``.

    To load the authorities takes about 25 ms of processor time, far more than anything else that a message needs. So a
    process loads them once, and again when the file has changed. The context is shared, so do not change it.

    :raises OSError: ``ca`` cannot be read, or has no certificates.
    """
    paths = ssl.get_default_verify_paths()  # from SSL_CERT_FILE and SSL_CERT_DIR, as they are now
    return _loaded(ca, paths, _changed_at(ca or paths.cafile))


@functools.lru_cache(maxsize=8)
def _loaded(ca: str | None, paths: ssl.DefaultVerifyPaths, changed_at: int | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=ca)


def _changed_at(file: str | None) -> int | None:
    try:
        return None if file is None else os.stat(file).st_mtime_ns
    except OSError:
        return None
