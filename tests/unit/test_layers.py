"""The package's structure: no import cycle, nothing hidden in a function, extras not needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import flask_otp

PACKAGE = Path(flask_otp.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = ("flask_otp", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def own_imports(path: Path) -> set[str]:
    name = module_name(path)
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = ".".join(package[: len(package) - node.level + 1] + ([node.module] if node.module else []))
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names}
    return found - {name}


#: From the ground up. A module imports from its own layer and those below it.
LAYERS = (
    "assets context_text documentation errors languages lazy networks outages processes rendering signals site spoken "
    "urls",
    "crypto identifiers redis_clients",
    "events",
    "models stores",
    "config",
    "channels limits observability webhooks",
    "hooks",
    "delivery",
    "factors",
    "service startup_checks",
    "state",
    "http",
    "guard doctor factor_methods support",
    "testing cli extension voice",
)
FLOOR = {name: floor for floor, names in enumerate(LAYERS) for name in names.split()}


def test_no_module_imports_from_a_layer_above_it() -> None:
    rooms = {name: name.split(".")[1] for name in MODULES if name != "flask_otp"}
    assert set(rooms.values()) == FLOOR.keys()
    for name, room in rooms.items():
        for imported in own_imports(MODULES[name]) & rooms.keys():
            assert FLOOR[rooms[imported]] <= FLOOR[room], f"{name} imports {imported}"


def test_nothing_below_the_state_looks_into_the_apps_extensions() -> None:
    """Only ``site.current_site`` may: a look-up at run time is an import in disguise."""
    for name, path in MODULES.items():
        if name == "flask_otp" or FLOOR[name.split(".")[1]] >= FLOOR["state"] or name == "flask_otp.site":
            continue
        keys = {
            ast.unparse(key)
            for node in ast.walk(tree(path))
            for key in (
                *((node.slice,) if isinstance(node, ast.Subscript) and "extensions" in ast.unparse(node.value) else ()),
                *(node.args[:1] if isinstance(node, ast.Call) and "extensions.get" in ast.unparse(node.func) else ()),
            )
        }
        assert not keys & {"'otp'", "EXTENSION"}, name


def test_no_import_cycle() -> None:
    TopologicalSorter({name: own_imports(path) & MODULES.keys() for name, path in MODULES.items()}).prepare()


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Each function with the name of its module."""
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                yield module_name(path), node


def test_no_import_hides_in_a_function() -> None:
    hidden = [
        (module, function.name)
        for module, function in functions()
        if any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(function))
    ]
    assert hidden == []


def test_functions_fit_a_screen() -> None:
    long = [(module, node.name) for module, node in functions() if (node.end_lineno or 0) - node.lineno >= 50]
    assert long == []


def test_it_works_without_the_extras() -> None:
    program = """
import sys
sys.modules["phonenumbers"] = sys.modules["opentelemetry"] = None
import flask, flask_otp
app = flask.Flask("site")
app.config.update(TESTING=True, SECRET_KEY="x" * 16, OTP_STORAGE_URI="memory://")
app.config.update(OTP_CHANNELS={"console": "console", "sms": [lambda message: None]})
otp = flask_otp.OTP(app)
client = app.test_client()
assert client.post("/otp/send", json={"email": "ann@example.com"}).status_code == 200
assert client.post("/otp/send", json={"phone": "+4915123456789"}).status_code == 400
for extra in ("sqlalchemy", "apprise", "requests", "flask_session", "flask_wtf", "pytest"):
    assert extra not in sys.modules, extra
"""
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


def test_everything_the_package_needs_is_shipped() -> None:
    for name in ("py.typed", "stores/redis/open.lua", "templates/flask_otp/verify.html", "static/otp.css"):
        assert (PACKAGE / name).is_file()


def loaded(program: str, names: str) -> set[str]:
    """Which of these modules a new interpreter has after the program."""
    watch = f"\nimport sys\nprint(*[name for name in {names.split()!r} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program + watch], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


#: What takes long to import, and is not for every app.
HEAVY = (
    "redis limits asyncio email_validator idna phonenumbers sqlalchemy apprise requests flask_limiter multiprocessing "
    "opentelemetry flask_otp.doctor flask_otp.redis_clients.uri flask_otp.stores.redis flask_otp.stores.sql "
    "flask_otp.channels.apprise"
)
APP = """
import flask, flask_otp
app = flask.Flask("site")
app.config.update(TESTING=True, SECRET_KEY="x" * 16, OTP_STORAGE_URI="{uri}", OTP_CHANNELS={{"console": "console"}})
otp = flask_otp.OTP(app)
"""


def test_the_import_loads_nothing_that_is_not_for_every_app() -> None:
    assert loaded("import flask_otp", HEAVY) == loaded("import flask", HEAVY)


def test_an_app_loads_what_it_uses_when_it_is_made() -> None:
    made = loaded(APP.format(uri="memory://"), HEAVY)
    assert {"limits", "email_validator"} <= made
    assert made <= {"limits", "asyncio", "email_validator", "idna"}
    # The first requests then load nothing more.
    sent = (
        APP
        + """
client = app.test_client()
answer = client.post("/otp/send", json={{"email": "ann@example.com"}})
assert client.post("/otp/verify", json={{"code": "000000", "challenge": answer.json["challenge"]}}).status_code == 400
"""
    )
    assert loaded(sent.format(uri="memory://"), HEAVY) == made


@pytest.mark.parametrize(
    ("uri", "module"),
    [("redis://localhost", "redis"), ("sqlite:///never-made.sqlite", "sqlalchemy")],
    ids=["redis", "sql"],
)
def test_a_store_is_loaded_when_it_is_configured(uri: str, module: str) -> None:
    assert module in loaded(APP.format(uri=uri), HEAVY)


def test_phone_numbers_are_loaded_where_there_may_be_any() -> None:
    there = APP.replace("OTP_CHANNELS", 'OTP_SMS_COUNTRIES={{"DE"}}, OTP_CHANNELS')
    assert "phonenumbers" in loaded(there.format(uri="memory://"), HEAVY)
