"""Model files are opened once and read once; what runs, and what is said of it, is of those bytes."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from aweigh.runtime import Detector
from aweigh.runtime.backends.onnxruntime import OnnxRuntimeBackend
from aweigh.runtime.backends.openvino import OpenVinoBackend
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import read_plan, read_sidecar, sidecar_path
from aweigh.runtime.files.onnx import read_onnx
from aweigh.runtime.files.reading import read_once

MakeModel = Callable[..., Path]


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "device", "nothing", "broken link", "NUL in the name"])
def test_only_a_regular_file_is_read_and_nothing_waits(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.onnx"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "broken link":
        path.symlink_to(tmp_path / "absent")
    elif kind == "NUL in the name":
        path = tmp_path / "a\0b.onnx"
    refusals: list[str] = []

    def read() -> None:
        for reader in (read_once, read_onnx, Detector):
            with pytest.raises(BadInput) as caught:
                reader(path)
            refusals.append(str(caught.value))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert len(refusals) == 3
    assert all("model.onnx" in refusal or "a\\x00b" in refusal for refusal in refusals)


@pytest.mark.parametrize("where", ["plan", "sidecar"])
def test_a_pipe_in_place_of_an_engine_or_its_sidecar(make_engine: Callable[..., Path], where: str) -> None:
    plan = make_engine()
    engine = read_sidecar(plan)
    replaced = plan if where == "plan" else sidecar_path(plan)
    replaced.unlink()
    os.mkfifo(replaced)
    with pytest.raises(BadInput, match="pipe"):
        read_sidecar(plan)
    if where == "plan":
        with pytest.raises(BadInput, match="pipe"):
            read_plan(plan, engine)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"x" * 100)
    real, calls = os.fstat, []

    def fstat(descriptor: int) -> os.stat_result:
        calls.append(descriptor)
        if len(calls) == 2:
            os.truncate(path, 50)
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(BadInput, match=r"changed while it was read.*rename it"):
        read_once(path)


@pytest.mark.parametrize("backend", [OnnxRuntimeBackend, OpenVinoBackend])
def test_the_hash_is_of_the_bytes_that_run(
    make_model: MakeModel, backend: type[OnnxRuntimeBackend | OpenVinoBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is replaced as soon as it was read: hash, contract and network are still of one file."""
    old = make_model("model.onnx")
    content = old.read_bytes()
    new = make_model("new.onnx", batch=(2, 2)).read_bytes()
    module = sys.modules[backend.__module__]
    real = read_onnx

    def read_and_replace(path: Path) -> object:
        parsed = real(path)
        old.write_bytes(new)
        return parsed

    monkeypatch.setattr(module, "read_onnx", read_and_replace)
    with backend(old) as opened:
        assert opened.sha256 == hashlib.sha256(content).hexdigest()
        assert opened.spec.batch == (1, 4)
        ports = opened.session.get_inputs() if isinstance(opened, OnnxRuntimeBackend) else opened._compiled.inputs
        first = ports[0].shape[0] if isinstance(opened, OnnxRuntimeBackend) else ports[0].partial_shape[0]
        assert str(first) not in ("1", "2")  # not the fixed batch of the file that is there now


def test_the_bytes_are_not_kept(model: Path) -> None:
    parsed = read_onnx(model)
    before = sys.getrefcount(parsed.content)
    with OnnxRuntimeBackend(model, parsed=parsed):
        held = sys.getrefcount(parsed.content)  # outside of assert, which holds what it compares
    assert held == before


@pytest.mark.parametrize("deep", [False, True])
def test_weights_in_another_file_are_refused(make_model: MakeModel, deep: bool, tmp_path: Path) -> None:
    path = make_model()
    model = onnx.load(str(path))
    tensor = onnx.helper.make_tensor("outside", onnx.TensorProto.FLOAT, [4], [0.0] * 4)
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    (tmp_path / "weights.bin").write_bytes(bytes(16))
    if deep:
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["outside"], value=tensor))
    else:
        model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(BadInput, match="a weight in another file"):
        read_onnx(path)


_READER = """
import sys
from aweigh.runtime import Detector
from aweigh.runtime.errors import BadInput

print("ready", flush=True)
hashes, refused = set(), 0
for _ in range(120):
    try:
        with Detector(sys.argv[1], threads=1) as detector:
            hashes.add(detector.backend.sha256)
            detector.warm_up()
    except BadInput:
        refused += 1
print(refused, *hashes)
"""


def test_rewriting_the_file_in_place_ends_no_reader(make_model: MakeModel) -> None:
    """Shortened and written again in a loop while another process opens it: opened whole or refused, never a crash."""
    path = make_model("model.onnx")
    whole = path.read_bytes()
    other = make_model("other.onnx", parents={"commit": "another"}).read_bytes()
    reader = subprocess.Popen([sys.executable, "-c", _READER, str(path)], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"
    turn = 0
    while reader.poll() is None:
        turn += 1
        with path.open("wb") as file:  # truncates in place, as cp does
            content = (whole, other)[turn % 2]
            for start in range(0, len(content), 1024):
                file.write(content[start : start + 1024])
                file.flush()
        time.sleep(0.004)
    output = reader.stdout.read().split()
    reader.stdout.close()
    assert reader.returncode == 0
    assert 0 < int(output[0]) < 120  # both happened
    assert set(output[1:]) <= {hashlib.sha256(content).hexdigest() for content in (whole, other)}
    assert output[1:]
    assert turn > 10
