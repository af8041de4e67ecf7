"""Describes outages for operators: the kind of failure, and the server's own error code.

Texts of drivers and servers are examined but never shown, because they quote URIs, users and statements.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
import ssl
import time
import traceback
from collections.abc import Iterator
from typing import NamedTuple
from weakref import WeakKeyDictionary

from flask import Flask, current_app

logger = logging.getLogger("flask_otp")

#: Seconds in which one kind is logged only once.
PAUSE = 10

#: All kinds, with the text for operators.
KINDS = {
    "login": "it refuses the user name or password",
    "rights": "its user lacks a right that we need",
    "tls": "TLS cannot be established: a certificate is wrong, or one side does not use TLS",
    "no_database": "there is no such database",
    "no_table": "a table is missing: run 'flask otp init-db'",
    "unknown_host": "its host name is unknown",
    "path": "its file or socket cannot be opened",
    "refused": "no server listens there",
    "unreachable": "there is no route to it",
    "timeout": "it does not answer in time",
    "read_only": "it is read-only, like a replica",
    "full": "it has no space left",
    "connections": "it has too many connections",
    "starting": "it is starting, or has no master now",
    "replicas": "too few replicas have acknowledged a change",
    "unsuitable": "it is another kind of server than OTP_STORAGE_URI says, or does not know a command or the service",
    "broken": "the connection broke; if each one does, one side may expect TLS",
    "unknown": "it failed in another way",
}


class Cause(NamedTuple):
    """Why something is unavailable."""

    #: One of :data:`KINDS`.
    kind: str
    #: The error word or code of the server or the system, or else the name of an exception class.
    word: str

    def __str__(self) -> str:
        return f"{KINDS[self.kind]} ({self.word})"


#: By the error word of Redis, the SQLSTATE, or the MySQL error number.
_BY_WORD = {
    **dict.fromkeys(("WRONGPASS", "NOAUTH", "28P01", "28000", "1045", "1130", "1698", "1820", "4151"), "login"),
    **dict.fromkeys(("NOPERM", "42501", "1044", "1142", "1143", "1227"), "rights"),
    **dict.fromkeys(("3D000", "1049"), "no_database"),
    **dict.fromkeys(("42P01", "1146"), "no_table"),
    **dict.fromkeys(("READONLY", "25006", "1290", "1792", "1836", "SQLITE_READONLY"), "read_only"),
    **dict.fromkeys(("OOM", "MISCONF", "53100", "53200", "1021", "1114", "SQLITE_FULL"), "full"),
    **dict.fromkeys(("53300", "1040", "1203"), "connections"),
    **dict.fromkeys(("LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "57P03"), "starting"),
    **dict.fromkeys(("NOREPLICAS",), "replicas"),
    **dict.fromkeys(("SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_NOTADB"), "path"),
    **dict.fromkeys(("SQLITE_BUSY", "SQLITE_LOCKED", "57014", "1969", "3024"), "timeout"),
    **dict.fromkeys(("57P01", "57P02", "57P05"), "broken"),
    **dict.fromkeys(("MOVED", "ASK"), "unsuitable"),
}
#: By the class's name, for redis-py errors without the server's word.
_WORD_OF_CLASS = {
    "NoPermissionError": "NOPERM",
    "AuthenticationError": "WRONGPASS",
    "ReadOnlyError": "READONLY",
    "OutOfMemoryError": "OOM",
    "BusyLoadingError": "LOADING",
    "MasterDownError": "MASTERDOWN",
    "ClusterDownError": "CLUSTERDOWN",
    "TryAgainError": "TRYAGAIN",
    "MovedError": "MOVED",
    "AskError": "ASK",
}
#: By the text. A driver that cannot connect has only a text.
_BY_TEXT = [
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"unknown command|cluster support disabled|knows no such service", "unsuitable"),
        (
            r"password authentication failed|no password supplied|invalid password|access denied"
            r"|role \"[^\"]*\" does not exist|is not permitted to log in|no pg_hba.conf entry",
            "login",
        ),
        (r"permission denied for", "rights"),
        (r"database system is (starting|shutting|in recovery|not yet accepting|not accepting)", "starting"),
        (r"db index is out of range|database \"[^\"]*\" does not exist|unknown database", "no_database"),
        (
            r"name or service not known|could not translate host|failed to resolve|name resolution|no address",
            "unknown_host",
        ),
        (r"unable to open database|no such file or directory", "path"),
        (r"connection refused", "refused"),
        (r"network is unreachable|no route to host", "unreachable"),
        (r"time-?out|timed out|database is locked", "timeout"),
        (r"\bssl\b|\btls\b|certificate", "tls"),
        (r"read-?only", "read_only"),
        (
            r"too many (clients|connections)|connection slots are reserved|max number of clients|queuepool limit"
            r"|max_user_connections",
            "connections",
        ),
        (r"replicas have acknowledged", "replicas"),
        (r"no such table", "no_table"),
        (
            r"connection (was )?(closed|reset|lost)|closed the connection|lost connection|gone away|broken pipe",
            "broken",
        ),
    )
]
_BY_ERRNO = {
    errno.ECONNREFUSED: "refused",
    errno.ENOENT: "path",
    errno.EACCES: "path",
    errno.EPERM: "path",
    errno.ENOTDIR: "path",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.ETIMEDOUT: "timeout",
}

_told: WeakKeyDictionary[Flask, dict[tuple[str, str], float]] = WeakKeyDictionary()


def cause_of(error: BaseException | None) -> Cause:
    """The cause behind an exception: the first known one in its chain."""
    chain = list(_chain(error))
    for link in chain:
        cause = _from_server(link) or _from_system(link)
        if cause is not None:
            is_tls = cause.kind == "timeout" and any(map(_is_handshake, chain))
            return cause._replace(kind="tls") if is_tls else cause
    for link in chain:
        for pattern, kind in _BY_TEXT:
            if pattern.search(str(link)):
                return Cause(kind, getattr(link, "status_code", None) or type(link).__name__)
    for link in chain:
        if isinstance(link, (ConnectionError, EOFError)):
            return Cause("broken", type(link).__name__)
    words = [word for link in chain if (word := _word(link))]
    return Cause("unknown", (*words, *(type(link).__name__ for link in reversed(chain)), "no reason given")[0])


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _from_server(error: BaseException) -> Cause | None:
    word = _word(error)
    return Cause(_BY_WORD[word], word) if word in _BY_WORD else None


def _word(error: BaseException) -> str | None:
    """The server's word for an error: MySQL's number, SQLSTATE, SQLite's name, or Redis's first word."""
    first = error.args[0] if error.args else None
    if isinstance(first, int) and not isinstance(error, OSError):
        return str(first)  # newer versions of PyMySQL have a SQLSTATE too, which says less
    if isinstance(first, dict) and isinstance(first.get("C"), str):
        return str(first["C"])  # pg8000's
    for name in ("status_code", "sqlstate", "pgcode", "sqlite_errorname"):
        word = getattr(error, name, None)
        if isinstance(word, str) and word != "ERR":
            return "_".join(word.split("_")[:2])  # SQLite's longer names are more detailed than needed
    for base in type(error).__mro__:
        if base.__name__ in _WORD_OF_CLASS:
            return _WORD_OF_CLASS[base.__name__]
    found = re.match(r"[A-Z]{3,20}\b", first) if isinstance(first, str) else None
    return found[0] if found else None


def _from_system(error: BaseException) -> Cause | None:
    if isinstance(error, ssl.SSLError) and not isinstance(error, TimeoutError):
        return Cause("tls", error.reason or type(error).__name__)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return Cause("unknown_host", type(error).__name__)
    # Two classes with this name have no common base: redis-py's, and before Python 3.11 that of futures.
    if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutError":
        return Cause("timeout", "TimeoutError")
    if isinstance(error, OSError) and error.errno in _BY_ERRNO:
        return Cause(_BY_ERRNO[error.errno], errno.errorcode[error.errno])
    if isinstance(error, (ConnectionResetError, BrokenPipeError)):
        return Cause("broken", errno.errorcode.get(error.errno or 0, type(error).__name__))
    return None


def _is_handshake(error: BaseException) -> bool:
    """Whether it was raised during the TLS handshake. A server without TLS waits for the rest of a command."""
    return any(frame.f_code.co_name == "do_handshake" for frame, _ in traceback.walk_tb(error.__traceback__))


def tell(part: str, cause: Cause) -> None:
    """Log the cause as an error, once in :data:`PAUSE` seconds for each kind, part and app.

    :param part: the part that is unavailable: ``"the store"``.
    """
    told = _told.setdefault(current_app._get_current_object(), {}) if current_app else {}  # type: ignore[attr-defined]
    now, key = time.monotonic(), (part, cause.kind)
    if now - told.get(key, float("-inf")) >= PAUSE:
        told[key] = now
        logger.error("%s is unavailable: %s", part, cause)
