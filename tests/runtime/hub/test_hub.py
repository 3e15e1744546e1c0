"""push and pull, by the real client of a hub, against the stand-in of one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub import READER, WRITER, Hub, Repository, serving_hub
from huggingface_hub import constants

from aweigh.runtime import Detector, fetch_model
from aweigh.runtime.cli.main import main
from aweigh.runtime.files.digest import file_sha256, receipt_path
from aweigh.runtime.files.hub import writing_token

pytestmark = [
    pytest.mark.usefixtures("only_runtime_verbs"),
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),  # the client's own, of its uploads
]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setenv("AWEIGH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", WRITER)
    # Uploads by Xet need a second service, and the tokens of a login on this machine are no business of a test.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with serving_hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


@pytest.fixture
def proved(model: Path) -> Path:
    """A model with its receipt."""
    receipt_path(model).write_text(json.dumps({"verdict": "passed", "sha256": file_sha256(model)}))
    return model


Captured = pytest.CaptureFixture[str]


def test_a_model_goes_up_with_receipt_and_card_and_comes_back(
    hub: Hub, proved: Path, tmp_path: Path, capsys: Captured
) -> None:
    assert main(["push", str(proved), "hf:owner/red", "--license", "apache-2.0", "--json"]) == 0
    pushed = json.loads(capsys.readouterr().out)
    assert hub.repositories["owner/red"].private
    files = hub.files("owner/red")
    assert sorted(files) == sorted(pushed["files"]) == ["README.md", "model.onnx", "model.receipt.json"]
    assert files["model.onnx"] == proved.read_bytes()
    assert files["model.receipt.json"] == receipt_path(proved).read_bytes()
    assert pushed["verdict"] == "passed"
    card = files["README.md"].decode()
    assert 'license: "apache-2.0"' in card
    assert "# red\n" in card
    assert 'Detector(fetch_model("hf:owner/red"))' in card
    assert len([request for request in hub.seen if "/commit/" in request]) == 1

    out = tmp_path / "back" / "mine.onnx"
    assert main(["pull", "hf:owner/red", "--out", str(out), "--json"]) == 0
    pulled = json.loads(capsys.readouterr().out)
    assert out.read_bytes() == proved.read_bytes()
    assert receipt_path(out).read_bytes() == receipt_path(proved).read_bytes()
    assert pulled == {
        "file": str(out),
        "sha256": file_sha256(proved),
        "receipt": str(receipt_path(out)),
        "verdict": "passed",
    }
    with Detector(fetch_model(pushed["source"])) as detector:  # of the very commit, with its digest
        assert detector.spec.names == {17: "left half", 3: "whole"}


def test_the_second_push_of_the_same_changes_nothing_else(hub: Hub, model: Path, capsys: Captured) -> None:
    hub.repositories["owner/red"] = Repository(private=False, revisions={"main": {"README.md": b"mine"}})
    assert main(["push", str(model), "hf:owner/red", "--no-card"]) == 0
    assert "no receipt next to the file" in capsys.readouterr().out
    assert hub.files("owner/red") == {"README.md": b"mine", "model.onnx": model.read_bytes()}
    assert not hub.repositories["owner/red"].private


def test_a_file_and_a_branch_of_ones_own(hub: Hub, proved: Path, tmp_path: Path) -> None:
    hub.repositories["owner/red"] = Repository(private=True, revisions={"main": {}, "v2": {}})
    assert main(["push", str(proved), "hf:owner/red/small/red.onnx@v2"]) == 0
    assert hub.files("owner/red") == {}
    assert sorted(hub.files("owner/red", "v2")) == ["README.md", "small/red.onnx", "small/red.receipt.json"]
    assert main(["pull", "hf:owner/red/small/red.onnx@v2", "--out", str(tmp_path / "x.onnx")]) == 0
    assert receipt_path(tmp_path / "x.onnx").is_file()


def test_public_repositories_are_asked_for(hub: Hub, model: Path) -> None:
    assert main(["push", str(model), "hf:owner/red", "--public"]) == 0
    assert not hub.repositories["owner/red"].private


@pytest.mark.parametrize(
    ("token", "code", "words"),
    [
        ("", 3, "HF_TOKEN"),
        ("hf_unknown", 3, "does not accept the token in HF_TOKEN (401)"),
        (READER, 3, "may not write there (403)"),
    ],
)
def test_tokens_that_do_not_do_are_one_line_and_never_printed(
    token: str, code: int, words: str, hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert main(["push", str(model), "hf:owner/red"]) == code
    printed = capsys.readouterr()
    [line] = printed.err.splitlines()
    assert words in line
    assert not token or token not in printed.err + printed.out
    assert hub.repositories == {}


def test_the_token_is_not_printed_nor_written(hub: Hub, proved: Path, tmp_path: Path, capsys: Captured) -> None:
    assert main(["push", str(proved), "hf:owner/red"]) == 0
    assert main(["pull", "hf:owner/red", "--out", str(tmp_path / "x.onnx")]) == 0
    printed = capsys.readouterr()
    assert WRITER not in printed.out + printed.err
    assert hub.tokens == {WRITER}
    assert [path for path in tmp_path.rglob("*") if path.is_file() and WRITER.encode() in path.read_bytes()] == []


def test_a_token_does_not_leave_this_machine_without_tls(
    monkeypatch: pytest.MonkeyPatch, model: Path, capsys: Captured
) -> None:
    monkeypatch.setenv("HF_TOKEN", WRITER)
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example.com")
    assert main(["push", str(model), "hf:owner/red"]) == 2
    assert "expected https" in capsys.readouterr().err
    for address in ("https://hub.example.com", "http://localhost:1", "http://[::1]:1", ""):
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert writing_token("push") == WRITER


def test_no_such_branch(hub: Hub, model: Path, capsys: Captured) -> None:
    assert main(["push", str(model), "hf:owner/red@absent"]) == 2
    assert "no such repository or revision (404)" in capsys.readouterr().err
    assert hub.files("owner/red") == {}


def test_a_hub_that_cannot_be_reached(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert main(["push", str(model), "hf:owner/red"]) == 3
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["push", str(model), "hf:owner/red"]) == 3
    assert main(["pull", "hf:owner/red", "--out", str(tmp_path / "x.onnx")]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert ["cannot be reached" in line for line in lines] == [True, True, False]
    assert "cannot be fetched" in lines[2]


def test_an_upload_that_fails_leaves_no_commit(hub: Hub, proved: Path, capsys: Captured) -> None:
    hub.most_bytes = 100
    assert main(["push", str(proved), "hf:owner/red"]) == 3
    assert "Error while uploading 'model.onnx' to the Hub. (Client error '413" in capsys.readouterr().err
    assert hub.files("owner/red") == {}


def test_a_card_that_the_hub_refuses_is_bad_input(hub: Hub, proved: Path, capsys: Captured) -> None:
    hub.refused_license = "mine"
    assert main(["push", str(proved), "hf:owner/red", "--license", "mine"]) == 2
    assert "license: mine is none" in capsys.readouterr().err
    assert hub.files("owner/red") == {}


@pytest.mark.parametrize("to", ["owner/red", "hf:owner", "hf:owner/red/../x.onnx", "hf:owner/--.."])
def test_places_that_are_none(to: str, hub: Hub, model: Path, capsys: Captured) -> None:
    assert main(["push", "--model", str(model), "--to", to]) == 2
    assert f"--to {to}: " in capsys.readouterr().err
    assert hub.repositories == {}


def test_what_is_no_exported_model_or_has_another_receipt_does_not_go_up(
    hub: Hub, proved: Path, make_engine: Callable[..., Path], tmp_path: Path, capsys: Captured
) -> None:
    receipt_path(proved).write_text(json.dumps({"verdict": "passed", "sha256": "0" * 64}))
    (tmp_path / "text.onnx").write_text("text")
    assert main(["push", str(proved), "hf:owner/red"]) == 2
    assert "is about another file" in capsys.readouterr().err
    assert main(["push", str(tmp_path / "text.onnx"), "hf:owner/red"]) == 2
    receipt_path(proved).unlink()
    assert main(["push", str(make_engine()), "hf:owner/red"]) == 2
    assert "expected an ONNX file" in capsys.readouterr().err
    assert hub.seen == []


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        ({}, 2, "neither model.onnx nor best.onnx"),
        ({"model.onnx": b"text"}, 2, "model.onnx"),
        ({"receipt": b'{"verdict": "passed", "sha256": "00"}'}, 1, "about another file than the one there"),
        ({"receipt": b"["}, 2, "the receipt of hf:owner/red"),
    ],
)
def test_what_is_no_model_with_its_receipt_is_not_written(
    files: dict[str, bytes], code: int, words: str, hub: Hub, model: Path, tmp_path: Path, capsys: Captured
) -> None:
    if "receipt" in files:
        files = {"model.onnx": model.read_bytes(), "model.receipt.json": files["receipt"]}
    hub.repositories["owner/red"] = Repository(private=False, revisions={"main": files, "0" * 40: files})
    out = tmp_path / "out" / "mine.onnx"
    assert main(["pull", "hf:owner/red", "--out", str(out)]) == code
    assert words in capsys.readouterr().err
    assert not out.exists()
    assert not receipt_path(out).exists()


@pytest.mark.parametrize("arguments", [["hf:owner/none", "--out", "x.onnx"], ["hf:owner/red", "--out", "x.pt"]])
def test_bad_requests(arguments: list[str], hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["pull", *arguments]) == 2
    assert main(["pull", "x.onnx", "--out", "y.onnx"]) == 2
    assert list(tmp_path.glob("*.onnx")) == []


def test_without_the_client_the_extra_is_named(
    hub: Hub, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["push", str(model), "hf:owner/red"]) == 3
    assert ".[hub]" in capsys.readouterr().err
