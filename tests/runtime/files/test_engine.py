from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aweigh.runtime.cli.main import main
from aweigh.runtime.errors import BadInput
from aweigh.runtime.files.engine import EngineFile, is_engine, read_plan, read_sidecar, sidecar_path, write_engine
from aweigh.runtime.spec import ModelSpec

MakeEngine = Callable[..., Path]
pytestmark = pytest.mark.usefixtures("only_runtime_verbs")


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(sidecar_path(path).read_text())
    sidecar_path(path).write_text(json.dumps({**content, **changes}))


def test_what_is_written_is_read(make_engine: MakeEngine, spec: ModelSpec) -> None:
    path = make_engine()
    assert sidecar_path(path).name == "red.engine.json"
    engine = read_sidecar(path)
    assert engine.spec == spec
    plan = read_plan(path, engine)
    assert plan == path.read_bytes()
    again = path.with_name("again.plan")
    settings = replace(engine.settings, workspace_bytes=10**9, hardware_compatible="ampere-plus")
    changed = replace(engine, settings=settings, via="torch-trt")
    write_engine(plan, again, changed)
    assert read_sidecar(again) == changed
    assert {p.name for p in path.parent.iterdir()} == {
        "red.onnx",
        "red.engine",
        "red.engine.json",
        "again.plan",
        "again.plan.json",
    }


def test_endings() -> None:
    assert is_engine("a/best.engine")
    assert is_engine(Path("best.plan"))
    assert not is_engine("best.onnx")
    assert not is_engine("engine")


def test_without_a_sidecar(make_engine: MakeEngine, tmp_path: Path) -> None:
    path = make_engine()
    sidecar_path(path).unlink()
    with pytest.raises(BadInput, match=r"there is no red\.engine\.json next to it.*copy both"):
        read_sidecar(path)
    with pytest.raises(BadInput, match="no such model file"):
        read_sidecar(tmp_path / "none.engine")
    (tmp_path / "folder.engine").mkdir()
    with pytest.raises(BadInput, match="this is a folder"):
        read_sidecar(tmp_path / "folder.engine")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[1]", "expected a JSON object, got list"),
        ("{}", "schema None"),
        ('{"schema": "2.0"}', r"schema '2\.0', this aweigh reads '1\.3'"),
        ('{"schema": "1.0"}', "model spec: expected a JSON object"),
    ],
)
def test_broken_sidecars(make_engine: MakeEngine, text: str, words: str) -> None:
    path = make_engine()
    sidecar_path(path).write_text(text)
    with pytest.raises(BadInput, match=rf"red\.engine\.json: .*{words}"):
        read_sidecar(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plan_sha256": 5}, "sidecar.plan_sha256: got 5, expected str"),
        ({"profiles": []}, "no profiles"),
        ({"profiles": [{"min": [2, 1, 1, 3], "opt": [1, 1, 1, 3], "max": [1, 1, 1, 3]}]}, "min <= opt <= max"),
        ({"profiles": [{"min": [1, 1, 1], "opt": [1, 1, 1], "max": [1, 1, 1]}]}, "expected a list of 4"),
        ({"surprise": 1}, "unknown fields"),
        ({"via": "magic"}, "expected one of onnx, torch-trt"),
        ({"built": {}}, "missing fields"),
    ],
)
def test_sidecars_with_wrong_fields(make_engine: MakeEngine, changes: dict[str, Any], words: str) -> None:
    path = make_engine()
    edit(path, **changes)
    with pytest.raises(BadInput, match=words):
        read_sidecar(path)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_plans(make_engine: MakeEngine, share: float, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_engine()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadInput, match="truncated, changed, or not the plan of its sidecar"):
        read_plan(path, read_sidecar(path))
    assert main(["inspect", "--model", str(path)]) == 2
    assert "truncated" in capsys.readouterr().err


def test_inspect_needs_no_tensorrt(make_engine: MakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_engine()
    assert main(["inspect", "--model", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    engine: EngineFile = read_sidecar(path)
    assert facts["sha256"] == engine.plan_sha256
    assert [t["name"] for t in facts["inputs"]] == ["images"]
    assert facts["engine"]["built"]["tensorrt"] == "11.4.0.106"
    assert facts["engine"]["parents"] == {"onnx_sha256": "0" * 64}
    assert facts["receipt"] is None
    assert main(["inspect", "--model", str(path)]) == 0
    table = capsys.readouterr().out
    for words in ("Stand-in GPU", "TensorRT 11.4.0.106", "1x64x96x3 to 4x64x96x3", "TF32 off", "100.0% of layers (3)"):
        assert words in table


def test_verbs_say_what_is_missing(make_engine: MakeEngine, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_engine()
    for arguments in (["predict", "--source", str(folder)], ["bench", "--iters", "1"]):
        assert main([*arguments, "--model", str(path)]) == 3
        assert "device 'cpu': a TensorRT engine runs on an NVIDIA GPU alone" in capsys.readouterr().err
    assert main(["bench", "--model", str(path), "--batch", "9", "--device", "cuda"]) == 2
    assert "this file takes 1 to 4" in capsys.readouterr().err
