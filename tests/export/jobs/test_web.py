"""The folder of --format web: what is in it, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from red_files import make_model

from aweigh.export.jobs import ort_web
from aweigh.export.jobs.ort_web import copy_ort_web
from aweigh.export.jobs.web import write_web
from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput

__all__ = ["make_model"]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of four short files, and their digests in place of the real ones."""
    import hashlib

    folder = tmp_path / "package" / "dist"
    folder.mkdir(parents=True)
    digests = {}
    for name in ort_web._DIGESTS:
        (folder / name).write_text(name)
        digests[name] = hashlib.sha256(name.encode()).hexdigest()
    monkeypatch.setattr(ort_web, "_DIGESTS", digests)
    return folder.parent


def test_the_folder_holds_page_model_and_licences(
    make_model: Callable[..., Path], package: Path, tmp_path: Path
) -> None:
    model = make_model(best_conf=(None, 0.4))
    result = write_web(model, tmp_path / "site", package)
    names = {str(path.relative_to(result.artifact)) for path in result.artifact.rglob("*") if path.is_file()}
    assert {
        "index.html",
        "page.css",
        "icon.svg",
        "model.onnx",
        "model.json",
        "LICENSES.txt",
        "ort/LICENSE.txt",
    } <= names
    assert {"package.json", "package-lock.json", "detect.mjs", "ort/ort.wasm.bundle.min.js"} <= names
    assert not {"golden.json", "page.html"} & names
    page = (result.artifact / "index.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert (result.artifact / "model.onnx").read_bytes() == model.read_bytes()
    described = json.loads((result.artifact / "model.json").read_text(encoding="utf-8"))
    assert [c["best_score"] for c in described["classes"]] == [None, 0.4]
    assert described["rule"] == {"moved_px": 0.01, "score": 1e-4, "share": 0.05}
    assert result.golden == described["golden"] == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"post": {"kind": "raw"}}, "--post raw"),
        ({"precision": "bf16"}, "bf16"),
        ({"input": {"interpolation": "area"}}, "'area'"),
    ],
)
def test_files_that_the_page_cannot_run_are_refused(
    changes: dict[str, object], said: str, make_model: Callable[..., Path], package: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=said):
        write_web(make_model(**changes), tmp_path / "site", package)
    assert not (tmp_path / "site").exists()


def test_another_version_of_onnxruntime_web_is_refused(package: Path, tmp_path: Path) -> None:
    (package / "dist" / "ort-wasm-simd-threaded.wasm").write_text("newer")
    with pytest.raises(BadInput, match=r"ort-wasm-simd-threaded\.wasm is another one .* exactly this version"):
        copy_ort_web(tmp_path / "ort", package)
    (package / "dist" / "ort.wasm.bundle.min.mjs").unlink()
    with pytest.raises(BadInput, match=r"no file ort\.wasm\.bundle\.min\.mjs"):
        copy_ort_web(tmp_path / "other", package / "dist")


def test_the_command(
    make_model: Callable[..., Path], package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model, site = str(make_model()), str(tmp_path / "site")
    command = ["export", "--format", "web", "--model", model, "--out", site]
    assert main([*command, "--ort-web", str(package), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["artifact"] == site
    assert main([*command, "--ort-web", str(package)]) == 2, "the folder is there"
    shutil.rmtree(site)
    assert main(["export", "--model", model, "--ort-web", str(package)]) == 2
    assert "--ort-web: goes with --format web" in capsys.readouterr().err
    assert main([*command, "--conf", "0.2"]) == 2
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(command) == 3
    assert "npm is not installed" in capsys.readouterr().err
