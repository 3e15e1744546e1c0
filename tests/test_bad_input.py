"""Every row of docs/bad-input.md, as it stands there."""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import shlex
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aweigh.export.to_onnx import export_onnx
from aweigh.runtime.cli.main import main
from aweigh.runtime.images.drawing import encode_image
from aweigh.train.checkpoint import Checkpoint, save_checkpoint
from aweigh.train.config import make_config
from aweigh.train.data.open import load_split
from aweigh.train.data.shapes import generate_shapes
from aweigh.train.models.detector import build_detector
from aweigh.train.run.data import make_spec

PAGE = Path(__file__).parent.parent / "docs" / "bad-input.md"
ROW = re.compile(r"^\| (?P<what>.+?) \| `aweigh (?P<command>.+?)` \| (?P<words>.+?) \| (?P<code>\d) \|$")
ROWS = [match.groupdict() for line in PAGE.read_text().splitlines() if (match := ROW.match(line))]


class Evil:
    """Unpickling it would create a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("executed"),)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with everything the page's commands name."""
    root = tmp_path_factory.mktemp("bad")
    generate_shapes(root / "data", train=8, val=4, size_hw=(64, 64))
    picture = next((root / "data" / "train").iterdir())
    (root / "picture.jpg").write_bytes(picture.read_bytes())
    (root / "cut.jpg").write_bytes(picture.read_bytes()[: picture.stat().st_size // 2])
    (root / "text.jpg").write_text("no picture")
    (root / "text.mp4").write_text("no video")
    _video(root / "clip.avi")
    (root / "cut.avi").write_bytes((root / "clip.avi").read_bytes()[: (root / "clip.avi").stat().st_size // 2])
    (root / "bomb.png").write_bytes(_png_header(50_000, 50_000))
    (root / "empty").mkdir()
    _models(root)
    _data_sets(root)
    mounted = [name for name, room in (("full", 0), ("tight", 150_000)) if _small_disk(root / name, room)]
    yield root
    for name in mounted:
        subprocess.run(["umount", str(root / name)], check=True)


def _small_disk(folder: Path, room_bytes: int) -> bool:
    """Mount a tmpfs with so much room left; False where that is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={(room_bytes + 65536) // 4096 * 4096}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return False
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while room_bytes == 0 or file.tell() < 65536:
                file.write(bytes(4096))
        except OSError:
            pass
    return True


def _video(path: Path) -> None:
    """40 frames of noise, so that the video written from them is larger than the small disk."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 120))
    rng = np.random.default_rng(0)
    for _ in range(40):
        writer.write(rng.integers(0, 256, (120, 160, 3), dtype=np.uint8))
    writer.release()


def _models(root: Path) -> None:
    config = make_config({"data": str(root / "data"), "model": "nano", "imgsz": "64"})
    spec = make_spec(config, load_split(root / "data", "train"))
    network = {"width": 8, "channels": 16, "convs": 1}
    detector = build_detector("nano", "dw", len(spec.categories), spec.input, network).eval()
    checkpoint = Checkpoint(spec, network, {}, detector.state_dict(), {}, {})
    save_checkpoint(checkpoint, root / "good.pt")
    export_onnx(detector, dataclasses.replace(spec, batch=(1, 4)), root / "good.onnx")
    whole = (root / "good.onnx").read_bytes()
    (root / "truncated.onnx").write_bytes(whole[: len(whole) // 2])
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "foreign", [value], [out])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), root / "foreign.onnx"
    )
    (root / "evil.pt").write_bytes(pickle.dumps(Evil()))


def _data_sets(root: Path) -> None:
    for name, categories, width in (("no-categories", [], 10), ("faulty", [{"id": 1, "name": "a"}], 0)):
        folder = root / name
        (folder / "annotations").mkdir(parents=True)
        for split in ("train", "val"):
            (folder / split).mkdir()
            encode_image(folder / split / "1.jpg", np.zeros((64, 64, 3), np.uint8))
            content = {
                "images": [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 64}],
                "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, width, 10], "area": 9}],
                "categories": categories,
            }
            (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    (root / "elsewhere" / "train").mkdir(parents=True)
    outside = {"id": 1, "file_name": "../../picture.jpg", "width": 192, "height": 128}
    content = {"images": [outside], "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (root / "elsewhere" / "train.json").write_text(json.dumps(content))
    (root / "miscounted").mkdir()
    (root / "miscounted" / "data.yaml").write_text("train: images\nval: images\nnc: 3\nnames: [disk]\n")
    (root / "broken.yaml").write_text("epochs: [3")
    (root / "infinite.yaml").write_text("lr0: .inf")


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def test_the_page_is_read() -> None:
    assert len(ROWS) == sum("`aweigh " in line for line in PAGE.read_text().splitlines()) >= 25


@pytest.mark.parametrize("row", ROWS, ids=lambda row: re.sub(r"\W+", "-", row["what"]))
def test_row(
    row: dict[str, str], place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    arguments = shlex.split(row["command"])
    disk = next((a.split("/")[0] for a in arguments if a.startswith(("full", "tight"))), None)
    if disk and not (place / disk).is_mount():
        pytest.skip("mounting a small tmpfs needs root")
    before = {path for path in place.rglob("*") if path.is_file()}
    code = main(arguments)
    printed = capfd.readouterr()
    assert code == int(row["code"]), printed.err
    assert row["words"] in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    left = {path for path in place.rglob("*") if path.is_file()} - before
    assert not [path for path in left if path.suffix in (".onnx", ".pt", ".tmp")], f"left behind: {left}"
    assert not (place / "executed").exists(), "a file was executed"
