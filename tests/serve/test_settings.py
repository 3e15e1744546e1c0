from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from aweigh.runtime.cli.main import Verbs, main
from aweigh.runtime.errors import BadInput
from aweigh.serve.cli.serve import TOKEN_VARIABLE, settings_from
from aweigh.serve.cli.verbs import register
from aweigh.serve.settings import Limits, ModelSource, Settings, is_loopback, parse_models

MODELS = (ModelSource("a", "a.onnx"),)
TOKEN = "x" * 16


def parse(*flags: str) -> Settings:
    parser = argparse.ArgumentParser()
    register(Verbs(parser.add_subparsers(dest="verb")))
    return settings_from(parser.parse_args(["serve", "--model", "a.onnx", *flags]))


def test_models_have_names() -> None:
    assert parse_models(["runs/best.onnx", "small=b.engine", "./odd=name/c.onnx"]) == (
        ModelSource("best", "runs/best.onnx"),
        ModelSource("small", "b.engine"),
        ModelSource("c", "./odd=name/c.onnx"),
    )
    for wrong, words in (
        (["a b.onnx"], "cannot be a name"),
        (["=x.onnx"], "cannot be"),
        (["a.onnx", "a=b"], "already"),
    ):
        with pytest.raises(BadInput, match=words):
            parse_models(wrong)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("hf:owner/cells-1.5", "cells-1.5"),
        ("hf:owner/cells-1.5@refs/pr/1#sha256=00112233", "cells-1.5"),
        ("hf:owner/cells/small/best.v2.onnx@main", "best.v2"),
        ("https://example.org/nets/street.onnx?download=true#sha256=00112233", "street"),
    ],
)
def test_an_address_is_named_by_its_file_and_a_repository_by_itself(source: str, name: str) -> None:
    assert parse_models([source]) == (ModelSource(name, source),)


def test_a_malformed_repository_is_refused_before_it_is_asked_for() -> None:
    with pytest.raises(BadInput, match="expected hf:owner/name"):
        parse_models(["hf:owner"])


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.org"])
def test_beyond_loopback_takes_a_token(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(BadInput, match="requires a bearer token"):
        parse("--host", host)
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert parse("--host", host).allowed_hosts == ()
    assert parse("--host", host, "--allowed-host", "my.name").allowed_hosts == ("my.name",)


def test_loopback_needs_none() -> None:
    assert [is_loopback(h) for h in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "0.0.0.0", "")] == [True] * 4 + [
        False,
        False,
    ]
    assert parse().allowed_hosts == ("localhost", "127.0.0.1", "[::1]")


def test_a_token_comes_from_a_file_or_the_environment_and_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert parse().token == TOKEN
    file = tmp_path / "token"
    file.write_text("from-the-file-0123\n")
    settings = parse("--token-file", str(file))
    assert settings.token == "from-the-file-0123"
    assert "from-the-file" not in repr(settings)
    file.write_text(" \n")
    with pytest.raises(BadInput, match="empty"):
        parse("--token-file", str(file))
    monkeypatch.setenv(TOKEN_VARIABLE, "short")
    with pytest.raises(BadInput, match="at least 16"):
        parse()


def test_any_host_without_a_token_is_refused() -> None:
    with pytest.raises(BadInput, match="DNS rebinding"):
        Settings(MODELS, allowed_hosts=())


def test_limits_are_positive() -> None:
    assert parse("--queue", "3", "--connections", "9", "--max-wait-ms", "0", "--max-body-mb", "0.5").limits == Limits(
        queue_items=3, connections=9, wait_s=0, body_bytes=1 << 19
    )
    for flag in ("--queue", "--connections", "--deadline", "--max-batch", "--max-megapixels"):
        with pytest.raises(BadInput, match="expected more than 0"):
            parse(flag, "-1" if flag == "--deadline" else "0")
    with pytest.raises(BadInput, match="--port 70000"):
        parse("--port", "70000")
    with pytest.raises(BadInput, match="no model"):
        Settings(())


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["--model", "none.onnx"], 2, "none.onnx"),
        (["--model", "broken.onnx"], 2, "broken.onnx"),
        (["--model", "good.onnx", "--model", "b=broken.onnx"], 2, "broken.onnx"),
        (["--model", "good.onnx", "--device", "cuda"], 3, "cuda"),
        (["--model", "good.onnx", "--host", "0.0.0.0"], 2, "bearer token"),
        (["--model", "good.onnx", "--host", "no-such-host.invalid"], 2, "no-such-host.invalid"),
    ],
)
def test_a_start_that_cannot_be_fails_loudly(
    flags: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    red_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    (tmp_path / "good.onnx").write_bytes(red_model.read_bytes())
    (tmp_path / "broken.onnx").write_bytes(red_model.read_bytes()[:500])
    assert main(["serve", "--port", "0", "--grpc-port", "0", *flags]) == code
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""
