"""What is released and who may use it: the files of sdist and wheel, and the lists of Pythons, which must agree."""

from __future__ import annotations

import ast
import configparser
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = next(folder for folder in Path(__file__).resolve().parents if (folder / "setup.cfg").exists())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SETUP = configparser.RawConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def tracked() -> set[str]:
    """The files of the repository; those of an unpacked sdist, which has no git, cannot be listed so."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[str], set[str]]:
    """The lists of the sdist and of the wheel that is built from the sdist, as a release is.

    They are built from a copy. In the checkout itself, setuptools would add what an earlier build has listed.
    """
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    return names, set(zipfile.ZipFile(wheel).namelist())


def test_the_sdist_has_all_files_of_the_repository(built: tuple[set[str], set[str]]) -> None:
    sdist, _ = built
    assert tracked() - sdist == set()
    for name in ("tests/conftest.py", "docs/conf.py", "CHANGELOG.md", "LICENSE", "noxfile.py", ".ci/lowest.py"):
        assert name in sdist


def test_the_sdist_has_nothing_machine_made(built: tuple[set[str], set[str]]) -> None:
    sdist, _ = built
    made = {name for name in sdist if re.search(r"__pycache__|\.pyc$|^(build|dist|mutants|docs/_build)/|\.venv", name)}
    assert made == set()


def test_the_wheel_has_the_package_and_nothing_else(built: tuple[set[str], set[str]]) -> None:
    _, wheel = built
    package = {name for name in wheel if name.startswith("flask_otp/")}
    rest = {name for name in wheel if not re.match(r"flask_otp_codes-[^/]+\.dist-info/", name)} - package
    assert rest == set()
    # The sources of the catalogues are for translators; the compiled ones are what an app reads.
    wanted = {name for name in tracked() if name.startswith("flask_otp/") and not name.endswith((".po", ".pot"))}
    assert package == wanted
    assert any(name.endswith(("licenses/LICENSE", "dist-info/LICENSE")) for name in wheel)


def classifiers() -> list[str]:
    found = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)
    return [str(version) for version in found]


def test_setup_cfg_claims_pythons_without_a_gap() -> None:
    minors = [int(version.partition(".")[2]) for version in classifiers()]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert SETUP["options"]["python_requires"] == f">={classifiers()[0]}"


def test_nox_runs_the_pythons_of_setup_cfg() -> None:
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    values = {
        target.id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert values["PYTHONS"] == classifiers()
    assert not set(values["UPCOMING"]) & set(classifiers())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert functions >= {"tests", "lowest", "lint", "types", "docs", "build", "nightly"}


def test_the_workflow_runs_the_pythons_of_setup_cfg() -> None:
    jobs = load(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == classifiers()
    for step in jobs["checks"]["steps"]:
        if "setup-python" in step.get("uses", ""):
            assert step["with"]["python-version"].split() == [classifiers()[0], classifiers()[-1]]


def test_a_push_does_not_cancel_the_nightly_tests() -> None:
    concurrency = load(ROOT / ".github" / "workflows" / "tests.yml")["concurrency"]
    assert "github.event_name" in concurrency["group"]


def test_the_linters_take_the_oldest_python_for_granted() -> None:
    target = re.search(r'^target-version = "py3(\d+)"$', (ROOT / "ruff.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert target
    assert f"3.{target[1]}" == classifiers()[0]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_least_rights_and_pinned_actions(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert set(job["permissions"].items()) <= {("contents", "read"), ("id-token", "write")}
        assert job["timeout-minutes"]
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"])
            if "actions/checkout@" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False
            # What others choose, such as the name of a branch, is no part of a script.
            assert "${{" not in step.get("run", "")
    text = path.read_text(encoding="utf-8")
    assert "pull_request_target" not in text
    for line in text.splitlines():
        assert "uses:" not in line or re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_pre_commit_runs_the_linters_of_the_project() -> None:
    repositories = load(ROOT / ".pre-commit-config.yaml")["repos"]
    hooks = {hook["id"] for repository in repositories for hook in repository["hooks"]}
    assert hooks >= {"ruff-format", "ruff-check", "mypy"}
    for repository in repositories:
        assert repository["repo"] == "local" or re.fullmatch(r"[0-9a-f]{40}", repository["rev"])


@pytest.mark.parametrize("path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.stem)
def test_the_files_for_the_host_of_the_repository_are_yaml(path: Path) -> None:
    assert isinstance(load(path), dict)


def test_each_requirement_has_a_lowest_version() -> None:
    printed = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "lowest.py"), "test", "docs"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    names = {re.split(r"[\[>= ]", line)[0].lower() for line in _requirements()}
    assert {line.partition("==")[0] for line in printed} == names
    assert all(re.fullmatch(r"[a-z0-9._-]+==\d[\d.]*(b\d+)?", line) for line in printed)
    assert "limits==4" not in printed  # each message would be an error 500


def _requirements() -> list[str]:
    texts = [SETUP["options"]["install_requires"], *(text for _, text in SETUP.items("options.extras_require"))]
    return [line for text in texts for line in text.split("\n") if line and not line.startswith("%(")]


def test_there_is_no_address_that_leads_nowhere() -> None:
    """There is no public repository yet. An address is added when there is a place that it leads to."""
    assert not {"url", "project_urls", "download_url"} & set(SETUP["metadata"])


def test_the_architecture_page_has_the_layers_that_are_tested() -> None:
    source = (ROOT / "tests" / "unit" / "test_layers.py").read_text(encoding="utf-8")
    found = re.search(r"^LAYERS = (\(.*?^\))", source, re.MULTILINE | re.DOTALL)
    assert found
    page = (ROOT / "docs" / "project" / "architecture.md").read_text(encoding="utf-8")
    rule = re.search(r"## The layering rule\n\n```text\n(.*?)```", page, re.DOTALL)
    assert rule
    layers = [line.replace(",", "").removeprefix("  < ") for line in rule[1].splitlines()]
    assert layers == list(ast.literal_eval(found[1]))
