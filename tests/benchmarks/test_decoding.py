"""The benchmark of the decoding processes, at a tiny length: what is compared, never how fast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import decoding
import pytest
from hostile import encoded, small_picture
from server_process import Server, servers, write_model

from support.reports import script
from support.reports.report import read


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(small_picture(), "JPEG"))
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with servers(tmp_path) as begin:
        yield begin("--model", str(write_model(tmp_path / "red.onnx")), "--grpc-port", "-1")


def test_files_to_rows(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    flags = ["--source", str(source), "--rounds", "6", "--out", str(out)]
    assert script.run("decoding.py", decoding.main, flags) == 0
    (row,) = read(out, "decoding").rows
    assert row["rounds"] == row["added_ms"]["pairs"] == 6
    assert min(row["before_ms"], row["now_ms"]) > 0
    assert script.run("decoding.py", decoding.main, [*flags, "--limit-added-ms", "-1000"]) == 1


def test_two_servers(source: Path, tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.json"
    flags = ["--source", str(source), "--rounds", "4", "--out", str(out), "--url", server.http]
    assert script.run("decoding.py", decoding.main, [*flags, "--url", server.http]) == 0
    assert read(out, "decoding").rows[0]["what"] == "requests over HTTP"
    assert script.run("decoding.py", decoding.main, flags) == 2
    assert "expected none or two" in capsys.readouterr().err
