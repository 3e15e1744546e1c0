from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aweigh.runtime.results.json_array import json_array

ENTRIES = [{"file": "grün.png", "n": 1}, {"n": 0.1}, {"n": []}]


@pytest.mark.parametrize("count", range(4))
def test_what_is_read_back(count: int, tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    with json_array(path) as append:
        for entry in ENTRIES[:count]:
            append(entry)
        assert not path.exists()
    assert json.loads(path.read_text(encoding="utf-8")) == ENTRIES[:count]
    assert len(path.read_text(encoding="utf-8").splitlines()) == (count + 2 if count else 1)


def test_nothing_is_left_of_what_fails(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("before")
    with pytest.raises(ValueError, match="not JSON compliant"), json_array(path) as append:
        append({"n": float("nan")})
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["x.json"]
