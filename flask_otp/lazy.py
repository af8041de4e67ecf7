"""Modules that are imported on first use.

An app uses one store and one or two channels. The libraries of the others would take most of the time of ``import
flask_otp``. For type checkers, import the module itself as well::

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
    """A stand-in for the module ``name``, relative to ``package`` if it starts with a dot. False if it is not
    installed.

    :raises ImportError: on first use, not here, if the module is not installed.
    """
    return _Lazy(name, package)
