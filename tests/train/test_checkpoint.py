from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoints import save_untrained

from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.digest import file_sha256
from aweigh.train.checkpoint import load_checkpoint


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    first, second = (save_untrained("fcos", tmp_path / name) for name in ("best.pt", "again.pt"))
    assert first.read_bytes() == second.read_bytes()
    assert load_checkpoint(first).sha256 == file_sha256(first)
    assert save_untrained("dw", tmp_path / "other.pt").read_bytes() != first.read_bytes()


@pytest.mark.parametrize("kind", ["deflated", "one member deflated", "pipe", "folder", "cut", "empty", "no archive"])
def test_files_that_are_no_checkpoint(tmp_path: Path, kind: str) -> None:
    path, good = tmp_path / "best.pt", save_untrained("fcos", tmp_path / "good.pt")
    if "deflated" in kind:
        with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as target:
            for i, member in enumerate(source.infolist()):
                deflated = kind == "deflated" or i == 3
                compression = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
                target.writestr(member.filename, source.read(member), compression)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        content = {"cut": good.read_bytes()[:-500], "empty": b"", "no archive": b"PK\x03\x04 and then nothing"}[kind]
        path.write_bytes(content)
    with pytest.raises(BadInput, match=r"best\.pt"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "change",
    [
        {"about": None},
        {"about": 3},
        {"about": "{"},
        {"about": "[" * 5000},
        {"about": "[]"},
        {"about": '{"spec": 1}'},
        {"about": '{"spec": {}, "network": {}}'},
        {"weights": [1, 2]},
        {"weights": {"a": 3}},
        {"weights": {3: torch.zeros(1)}},
        {"training": 5},
        {"schema": None},
        {"schema": {}},
        {"format": ["aweigh-checkpoint"]},
    ],
    ids=str,
)
def test_content_of_another_form(tmp_path: Path, change: dict[str, Any]) -> None:
    path = save_untrained("fcos", tmp_path / "best.pt")
    content = torch.load(path, weights_only=True)
    torch.save({**content, **change}, path)
    with pytest.raises(BadInput, match=r"best\.pt|model spec"):
        load_checkpoint(path)


@pytest.mark.parametrize("name", ["best.onnx", "best.engine"])
def test_an_exported_file_is_called_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x08\x09")
    with pytest.raises(BadInput, match=r"is exported already; expected the checkpoint \(\.pt\)"):
        load_checkpoint(tmp_path / name)


@pytest.mark.parametrize("content", [b"x", b"\x80\x02cos\nsystem\n."])
def test_no_advice_to_load_unsafely(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "best.pt").write_bytes(content)
    with pytest.raises(BadInput, match="loaded safely") as caught:
        load_checkpoint(tmp_path / "best.pt")
    assert "weights_only" not in str(caught.value)


def test_flipped_bits_give_our_errors_or_a_checkpoint(tmp_path: Path) -> None:
    path = save_untrained("fcos", tmp_path / "best.pt")
    content = path.read_bytes()
    refusals = []
    for step in range(150):
        place = step * 13 if step < 100 else len(content) - 1 - (step - 100) * 7
        path.write_bytes(content[:place] + bytes([content[place] ^ (1 << step % 8)]) + content[place + 1 :])
        try:
            load_checkpoint(path)
        except BadInput as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert not any("\n" in refusal for refusal in refusals)
