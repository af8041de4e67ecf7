"""Modules that are imported when something of them is first used.

An app uses one store and a channel or two. What only the others need would take most of the time of ``import
flask_otp``. For a type checker, import the module itself beside it::

    if TYPE_CHECKING:
        import redis
    else:
        redis = lazy("redis")
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _Lazy:
    def __init__(self, name: str, package: str | None) -> None:
        self._name = name
        self._package = package
        self._module: ModuleType | None = None

    def __getattr__(self, name: str) -> Any:
        if self._module is None:
            self._module = import_module(self._name, self._package)
        return getattr(self._module, name)

    def __bool__(self) -> bool:
        return self._module is not None or find_spec(self._name, self._package) is not None


def lazy(name: str, package: str | None = None) -> Any:
    """Stand in for the module ``name``, relative to ``package`` where it begins with a dot. False: it is not there.

    :raises ImportError: not here, but where something of it is used, it is not there.
    """
    return _Lazy(name, package)
