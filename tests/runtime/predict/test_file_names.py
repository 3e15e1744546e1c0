"""A file name that is not UTF-8 costs no result."""

from __future__ import annotations

import os
from pathlib import Path

from aweigh.runtime.results.files import read_predictions
from aweigh.runtime.results.json_array import json_array


def test_names_of_every_byte_are_written_and_read_back(tmp_path: Path) -> None:
    names = [os.fsdecode(bytes([ord("a"), byte])) for byte in range(1, 256)]
    with json_array(tmp_path / "detections.json") as append:
        for name in names:
            append({"file": name, "image": {"width": 2, "height": 1}, "detections": []})
    written = [one.path for one in read_predictions(tmp_path / "detections.json")]
    assert written[:127] == names[:127]
    assert written[127:] == [f"a\\x{byte:02x}" for byte in range(128, 256)]
