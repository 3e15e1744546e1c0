"""What a release consists of: one version, the files of a wheel and of a source distribution, and the workflow."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from source_tree import ROOT, STAGES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The builder changes sys.argv.
_BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]
build_meta.build_sdist(folder)
build_meta.build_wheel(folder)
"""


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout: the files of a release are those that git knows")
    return listed.stdout.splitlines()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and source distribution, built from a copy of what git knows."""
    folder = tmp_path_factory.mktemp("release")
    for name in tracked():
        source, copy = ROOT / name, folder / "source" / name
        if source.is_file() and not name.startswith(("tests/", "docs/", "benchmarks/")):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    command = [sys.executable, "-c", _BUILD, str(folder)]
    subprocess.run(command, cwd=folder / "source", check=True, capture_output=True)
    return folder


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == PROJECT["version"]
    assert f"## {PROJECT['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    images = re.findall(r"image: aweigh-serve:(\S+)", (ROOT / "serve/deploy/kubernetes.yaml").read_text("utf-8"))
    assert set(images) == {PROJECT["version"]}


def test_the_wheel_holds_every_module_and_the_licence(release: Path) -> None:
    (wheel,) = release.glob("*.whl")
    names = files_of(wheel)
    modules = {name for name in tracked() if name.endswith(".py") and name.split("/")[0] in STAGES}
    assert {f"aweigh/{name}" for name in modules} - names == set()
    outside = [name for name in names if not name.startswith(("aweigh/", f"aweigh-{PROJECT['version']}.dist-info/"))]
    assert outside == []
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_distribution_is_enough_to_build_the_wheel(release: Path) -> None:
    (wheel,) = release.glob("*.whl")
    (sources,) = release.glob("*.tar.gz")
    with tarfile.open(sources) as archive:
        held = {name.split("/", 1)[-1] for name in archive.getnames()}
    needed = {name.removeprefix("aweigh/") for name in files_of(wheel) if name.startswith("aweigh/")}
    assert needed - held == set()
    assert {"pyproject.toml", "README.md", "LICENSE"} <= held


def test_the_workflow_runs_what_a_landing_must_pass() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"]]
    assert any(step.startswith(".ci/run") for step in steps)
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", ci, re.MULTILINE)
    assert {"lint", "types", "docs", "test"} <= set(targets)
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert oldest in workflow["jobs"]["wheel"]["strategy"]["matrix"]["python"]


def test_the_base_image_is_pinned_by_digest() -> None:
    """All stages start from one image, named by tag and digest, or from a stage before."""
    text = (ROOT / "serve/deploy/Dockerfile").read_text(encoding="utf-8")
    images = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    assert re.fullmatch(r"python:\d\.\d+-slim-\w+@sha256:[0-9a-f]{64}", images["PYTHON"])
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert bases
    assert set(bases) == {"${PYTHON}"}


def test_actions_are_pinned_by_commit() -> None:
    """A tag can be moved to other code; the version stands behind the commit for people."""
    used = re.findall(r"uses: (.+)", (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+(\.\d+){0,2}", line)] == []
