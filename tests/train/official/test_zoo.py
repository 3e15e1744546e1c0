"""``aweigh import --name``, ``--list`` and ``--checkpoint URL``: from a server of this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

import pytest
from file_server import FileServer, file_server, secure_server

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.train.checkpoint import load_checkpoint
from aweigh.train.official import zoo
from aweigh.train.official.zoo import ZOO, ReleasedModel, released_source, zoo_source

__all__ = ["file_server", "secure_server"]

STORED = Path(os.environ.get("AWEIGH_TEST_DATA", "/nowhere")) / "checkpoints" / "o2f.pth"
needs_stored = pytest.mark.skipif(not STORED.is_file(), reason="AWEIGH_TEST_DATA has no checkpoints/o2f.pth")


@pytest.fixture(autouse=True)
def _no_other_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AWEIGH_WEIGHTS", raising=False)
    monkeypatch.setenv("AWEIGH_CACHE", str(tmp_path / "cache"))


def test_every_file_carries_its_digits() -> None:
    for name, model in ZOO.items():
        assert re.fullmatch(r"[0-9a-f]{8}", model.digits), name
        assert zoo_source(name) == f"{model.url}#sha256={model.digits}"
        assert model.url.startswith("https://download.openmmlab.com/mmdetection/v2.0/")
    assert ZOO["autoassign-r50"].url.endswith(
        "/v2.0/autoassign/auto_assign_r50_fpn_1x_coco/auto_assign_r50_fpn_1x_coco_20210413_115540-5e17991f.pth"
    )


def test_the_documents_list_them() -> None:
    text = (Path(__file__).parents[3] / "docs" / "official-weights.md").read_text()
    missing = [name for name, model in ZOO.items() if model.digits not in text or f"`{name}`" not in text]
    assert missing == []


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", "--list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ZOO)
    assert "docs/official-weights.md" in printed
    assert main(["import", "--list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["models"]
    assert [model["name"] for model in listed] == list(ZOO)
    assert listed[0]["sha256_begins"] == "5e17991f"


@pytest.mark.parametrize(
    ("source", "sha256", "expected"),
    [
        ("a-0123abcd.pth", None, "a-0123abcd.pth"),
        ("a.pth", "01234567", "a.pth#sha256=01234567"),
        ("https://x/a-0123abcd.pth", None, "https://x/a-0123abcd.pth#sha256=0123abcd"),
        ("https://x/a-0123abcd.pth", "0123abcd99", "https://x/a-0123abcd.pth#sha256=0123abcd99"),
        ("https://x/a.pth#sha256=89abcdef", None, "https://x/a.pth#sha256=89abcdef"),
        ("https://x/a.pth", None, "https://x/a.pth"),
    ],
)
def test_digests_come_from_the_flag_the_address_or_the_name(source: str, sha256: str | None, expected: str) -> None:
    assert released_source(source, sha256) == expected


def test_addresses_without_tls_and_two_digests_are_refused() -> None:
    with pytest.raises(BadInput, match="expected an https URL"):
        released_source(f"http://x/a.pth#sha256={'0' * 64}", None)
    with pytest.raises(BadInput, match="give one of the two"):
        released_source("https://x/a.pth#sha256=01234567", "89abcdef")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--name", "r50"], "expected one of autoassign-r50, "),
        (["--name", "fcos-r50", "--sha256", "01234567"], "belongs to --checkpoint"),
        (["--checkpoint", "https://127.0.0.1:1/a.pth", "--out", "a.pt"], "needs #sha256=DIGITS"),
        (["--checkpoint", "a.pth"], "--out is missing"),
        ([], "one of the arguments --checkpoint --name --list is required"),
    ],
)
def test_wrong_words(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["import", *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert expected in line


@pytest.fixture
def served(secure_server: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """A server of a small file under the name of a release, whose name says its digest."""
    content = STORED.read_bytes()
    digits = hashlib.sha256(content).hexdigest()[:8]
    model = ReleasedModel("small", 0.0, f"o2f/o2f-{digits}.pth")
    monkeypatch.setitem(zoo.ZOO, "small", model)
    monkeypatch.setenv("AWEIGH_WEIGHTS", secure_server.url)
    secure_server.files[f"/{model.file}"] = content
    return secure_server


@needs_stored
def test_a_name_is_fetched_once_resumed_and_imported(
    served: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["import", "--name", "small", "--gn-groups", "8", "--json"]
    served.cut_after_bytes = 5000
    assert main(command) == 3
    [line] = capsys.readouterr().err.splitlines()
    assert "--name small" in line
    assert "fetch it elsewhere, name the file" in line
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["family"] == "o2f"
    assert main(command) == 0
    assert [request.partition("pth")[2] for request in served.seen] == ["", " bytes=5000-"]
    assert load_checkpoint("small.pt").spec.parents["released_file"] == ZOO["small"].file


@needs_stored
def test_an_address_with_another_digest_is_refused(
    served: FileServer, file_server: FileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = f"{served.url}/{ZOO['small'].file}", tmp_path / "small.pt"
    command = ["import", "--gn-groups", "8", "--out", str(out), "--checkpoint"]
    assert main([*command, path, "--sha256", "0" * 64]) == 2
    assert f"expected {'0' * 64}" in capsys.readouterr().err
    served.redirects = {"/moved-01234567.pth": f"{file_server.url}/x.pth"}
    assert main([*command, f"{served.url}/moved-01234567.pth"]) == 3
    assert "not https" in capsys.readouterr().err
    assert file_server.seen == []
    assert not out.exists()
    assert main([*command, path]) == 0
    assert out.exists()


def test_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWEIGH_WEIGHTS", str(tmp_path))
    with pytest.raises(BadInput, match=r"--name fcos-r50: the folder AWEIGH_WEIGHTS=.* has no fcos_r50"):
        zoo_source("fcos-r50")
    (tmp_path / ZOO["fcos-r50"].file).touch()
    assert zoo_source("fcos-r50") == f"{tmp_path / ZOO['fcos-r50'].file}#sha256=821213aa"
