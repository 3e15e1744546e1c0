from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aweigh.runtime import Detector
from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import AweighError, BadInput, CheckFailed
from aweigh.runtime.files.digest import receipt_path
from aweigh.runtime.files.engine import read_sidecar, sidecar_path
from aweigh.runtime.files.golden import decode_golden
from aweigh.runtime.inspection import inspect_model
from aweigh.runtime.json_text import parse_json
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.results.files import read_image_ids, read_predictions
from aweigh.runtime.spec import ModelSpec

MakeModel = Callable[..., Path]
BROKEN = {
    "deep lists": "[" * 100_000 + "]" * 100_000,
    "deep objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "deeper than allowed": "[" * 200 + "]" * 200,
    "many digits": "9" * 5000,
    "beyond a float": "1e999",
    "not a number": "NaN",
    "infinite": "[-Infinity]",
    "half a pair": '{"verdict": "\\ud800", "sha256": "x"}',
    "half a pair in a key": '{"\\uDFFF": 1}',
    "no UTF-8": b"\xff\xfe\x00",
    "empty": "",
    "cut": '{"a": [1, 2',
    "a number": "3",
    "texts of other kinds": '{"verdict": 3, "sha256": [], "schema": {}, "pictures": 7}',
}


@pytest.mark.parametrize("kind", BROKEN)
def test_every_reader_refuses_in_its_own_words(
    kind: str, model: Path, make_engine: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = BROKEN[kind]
    data = broken if isinstance(broken, bytes) else broken.encode()
    path = tmp_path / "broken.json"
    path.write_bytes(data)
    plan = make_engine()
    sidecar_path(plan).write_bytes(data)
    receipt_path(model).write_bytes(data)
    text = data.decode(errors="replace")
    readers: list[Callable[[], Any]] = [
        lambda: read_sidecar(plan),
        lambda: inspect_model(model),
        lambda: ModelSpec.from_json(text),
        lambda: decode_golden(text),
        lambda: Detections.from_json(data),
        lambda: read_predictions(path),
        lambda: read_image_ids(path),
    ]
    for reader in readers:
        with pytest.raises(BadInput) as caught:
            reader()
        assert len(str(caught.value)) < 1000
        str(caught.value).encode()
    assert main(["inspect", "--model", str(model)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_pairs_and_deep_enough_documents_are_read() -> None:
    assert parse_json('"\\ud83d\\ude00"', "x") == "\U0001f600"
    assert parse_json(b"[" * 100 + b"]" * 100, "x")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(json_values, st.sampled_from(["spec", "golden", "detections"]))
def test_only_our_errors_escape(value: Any, reader: str) -> None:
    text = json.dumps(value)
    try:
        {"spec": ModelSpec.from_json, "golden": decode_golden, "detections": Detections.from_json}[reader](text)
    except BadInput as error:
        str(error).encode()


@given(st.data())
def test_a_spec_with_any_value_in_any_place(data: st.DataObject) -> None:
    from red import red_spec

    spec = json.loads(red_spec().to_json())
    target = spec
    while True:
        key = data.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
        inner = target[key]
        if not (isinstance(inner, (dict, list)) and inner) or data.draw(st.booleans()):
            break
        target = inner
    target[key] = data.draw(json_values)
    try:
        read = ModelSpec.from_json(json.dumps(spec))
        assert ModelSpec.from_json(read.to_json()) == read
    except BadInput:
        pass


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {"boxes": "text", "scores": [], "labels": []},
        {"boxes": [[1, 2, 3]], "scores": [0.5], "labels": [0]},
        {"boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": [10**30]},
        {"boxes": [[1, 2, 3, 4]], "scores": [None], "labels": [0]},
        {"boxes": [[1, 2, 3, 4]] * 2, "scores": [0.5], "labels": [0]},
        {"boxes": [[1, 2, [3], 4]], "scores": [0.5], "labels": [0]},
        [],
    ],
)
def test_golden_rows_that_aweigh_does_not_write(make_model: MakeModel, golden: Callable[..., str], rows: Any) -> None:
    content = json.loads(golden())
    content["pictures"][0]["outputs"] = rows
    with pytest.raises(AweighError) as caught:
        Detector(make_model(golden=json.dumps(content)))
    assert isinstance(caught.value, BadInput | CheckFailed)
