"""Detects whether the platform lets work continue after the response, and in which process."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import ModuleType

#: Platforms that freeze or end a process between two requests, by an environment variable that they set.
_PLATFORMS = {
    "AWS_LAMBDA_FUNCTION_NAME": "AWS Lambda freezes a process between two requests",
    "FUNCTIONS_WORKER_RUNTIME": "Azure Functions may end a process that has no request",
    "VERCEL": "Vercel freezes a process between two requests",
    "FUNCTION_TARGET": "Cloud Functions take the processor away between two requests",
    "K_SERVICE": "Cloud Run takes the processor away between two requests, unless CPU is always allocated",
}


def loses_background(
    environ: Mapping[str, str] = os.environ, modules: Mapping[str, ModuleType] = sys.modules
) -> str | None:
    """Why background deliveries would be lost here. ``None`` if nothing indicates it.

    :param modules: the modules that the process has loaded.
    """
    for variable, reason in _PLATFORMS.items():
        if environ.get(variable):
            return reason
    # uWSGI adds this module to the interpreter that it runs.
    options = getattr(modules.get("uwsgi"), "opt", None)
    if isinstance(options, dict) and not {b"enable-threads", b"threads", "enable-threads", "threads"} & options.keys():
        return "uWSGI runs no application threads without enable-threads or threads"
    job = getattr(modules.get("rq.job"), "get_current_job", None)
    if job is not None and job() is not None:
        return "an RQ worker ends its process with the job"
    return None


def forks_later(modules: Mapping[str, ModuleType] = sys.modules) -> bool:
    """Whether this is a process of uWSGI from which it forks its workers. Its fork calls none of Python's hooks.

    :param modules: the modules that the process has loaded.
    """
    worker_id = getattr(modules.get("uwsgi"), "worker_id", None)
    return worker_id is not None and worker_id() == 0
