"""The same folder in Node: its arithmetic against the runtime's, and its command against the runtime's detections."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npm import npm
from same_detections import require_same
from source_tree import ROOT

from aweigh.runtime.agreement.match import ScoredBoxes, lowest_reported, match_detections
from aweigh.runtime.agreement.self_test import SelfTestRule
from aweigh.runtime.images.preprocess import prepare
from aweigh.runtime.results.detections import Detections
from aweigh.runtime.spec import InputSpec, PostSpec

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="no Node on this machine")
WEB = ROOT / "export/web"


def node(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    assert NODE is not None
    return subprocess.run([NODE, *arguments], cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def evaluated(tmp_path: Path, script: str, given: Any) -> Any:
    """What a script prints as JSON; it finds ``given`` under this name, and the modules of the page."""
    for module in ("preprocess.js", "self_test.js"):
        shutil.copy(WEB / module, tmp_path / module)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "given.json").write_text(json.dumps(given))
    head = (
        'import { readFileSync, writeFileSync } from "node:fs";\n'
        'import { placement, prepare, roundHalfEven } from "./preprocess.js";\n'
        'import { compare, verdictOf } from "./self_test.js";\n'
        'const given = JSON.parse(readFileSync("given.json"));\n'
    )
    (tmp_path / "script.js").write_text(head + script)
    done = node(tmp_path, "script.js")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def some_specs() -> list[InputSpec]:
    return [
        InputSpec((128, 160)),
        InputSpec((96, 96), resize="stretch", pad_value=7),
        InputSpec((64, 107), resize="keep-ratio", pad_value=0),
    ]


def test_the_network_input_is_the_runtimes_byte_for_byte(tmp_path: Path) -> None:
    """Odd sizes, enlarged and reduced ones, and those that OpenCV treats apart: the same size, and half of it."""
    rng = np.random.default_rng(0)
    sizes_hw = [
        (256, 320),
        (128, 160),
        (192, 192),
        (96, 96),
        (1, 1),
        (1, 300),
        (300, 1),
        (2, 3),
        (512, 640),
        (480, 640),
    ]
    sizes_hw += [tuple(rng.integers(1, 300, 2).tolist()) for _ in range(40)]
    cases, expected = [], []
    for number, (height, width) in enumerate(sizes_hw):
        spec = some_specs()[number % 3]
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        image.tofile(tmp_path / f"{number}.rgb")
        rgba = np.dstack([image, rng.integers(0, 256, (height, width), np.uint8)])
        rgba.tofile(tmp_path / f"{number}.rgba")
        cases.append({"width": width, "height": height, "spec": asdict(spec)})
        expected.append(prepare(image, spec)[0])
    shapes = evaluated(
        tmp_path,
        """
        console.log(JSON.stringify(given.map(({ width, height, spec }, i) => {
          const where = placement(width, height, spec);
          for (const [suffix, channels] of [["rgb", 3], ["rgba", 4]]) {
            const out = prepare(readFileSync(`${i}.${suffix}`), channels, where, spec);
            writeFileSync(`${i}.${suffix}.out`, out);
          }
          return [where.inputHeight, where.inputWidth];
        })))""",
        cases,
    )
    for number, array in enumerate(expected):
        assert shapes[number] == list(array.shape[:2])
        for suffix in ("rgb", "rgba"):
            found = np.fromfile(tmp_path / f"{number}.{suffix}.out", np.uint8).reshape(array.shape)
            np.testing.assert_array_equal(found, array, err_msg=str(cases[number]))


def test_halves_are_rounded_as_python_rounds_them(tmp_path: Path) -> None:
    values = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49999999999999994, 2.0, 2.4999, 1e15 + 0.5]
    assert evaluated(tmp_path, "console.log(JSON.stringify(given.map(roundHalfEven)))", values) == [
        round(value) for value in values
    ]


def test_detections_are_compared_as_by_the_runtimes_self_test(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rule, post = SelfTestRule.of("fp32"), PostSpec("nms", max_det=12)

    def some(count: int) -> ScoredBoxes:
        corners = rng.uniform(0, 60, (count, 2))
        boxes = np.hstack([corners, corners + rng.uniform(0, 40, (count, 2))]).astype(np.float32)
        return ScoredBoxes(boxes, rng.uniform(0.05, 1, count).astype(np.float32), rng.integers(0, 3, count))

    def shaken(rows: ScoredBoxes) -> ScoredBoxes:
        kept = rng.permutation(len(rows.scores))[: rng.integers(0, len(rows.scores) + 1)]
        boxes = rows.boxes_xyxy[kept] + rng.normal(0, rng.choice([1e-4, 0.02, 3]), (len(kept), 4)).astype(np.float32)
        scores = rows.scores[kept] + rng.normal(0, rng.choice([1e-6, 1e-3]), len(kept)).astype(np.float32)
        labels = np.where(rng.random(len(kept)) < 0.1, 0, rows.labels[kept])
        return ScoredBoxes(boxes.astype(np.float32), scores.astype(np.float32), labels)

    def as_json(rows: ScoredBoxes) -> dict[str, Any]:
        return {name: getattr(rows, name).ravel().tolist() for name in ("boxes_xyxy", "scores", "labels")}

    pairs = [(first, shaken(first)) for first in (some(int(rng.integers(0, 13))) for _ in range(60))]
    matches = []
    for first, second in pairs:
        floor = max(lowest_reported(rows.scores, post) for rows in (first, second))
        matches.append(match_detections(first, second, rule.moved_px, floor + rule.score))
    found = evaluated(
        tmp_path,
        """
        const rows = ({ boxes_xyxy, scores, labels }) =>
          ({ boxes: Float32Array.from(boxes_xyxy), scores: Float32Array.from(scores), labels });
        const matches = given.pairs.map(([a, b]) => compare(rows(a), rows(b), given.post, given.rule));
        console.log(JSON.stringify({ matches, verdict: verdictOf(matches, given.rule) }));""",
        {"pairs": [[as_json(a), as_json(b)] for a, b in pairs], "post": asdict(post), "rule": asdict(rule)},
    )
    for theirs, ours in zip(found["matches"], matches, strict=True):
        assert theirs == {name: pytest.approx(getattr(ours, name), abs=1e-12) for name in theirs}
    total = sum(matches[1:], matches[0])
    assert min(total.lost, total.relabelled, total.moved) > 0, "cases of every kind"
    assert found["verdict"]["lost"] == total.lost
    assert not found["verdict"]["passed"]
    assert replace(total).differing > found["verdict"]["allowed"]


@pytest.fixture(scope="module")
def installed(site: Path) -> Iterator[Path]:
    """The folder with its packages, which take 310 MB and are removed again."""
    npm(site, "ci", "--prefer-offline", "--silent", "--no-audit")
    yield site
    shutil.rmtree(site / "node_modules")


def test_the_lock_names_exact_versions_and_no_address(installed: Path) -> None:
    lock = json.loads((WEB / "package-lock.json").read_text())
    named = json.loads((WEB / "package.json").read_text())["dependencies"]
    assert all(re.fullmatch(r"[\d.]+", number) for number in named.values())
    for name, number in named.items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == number
    assert all("integrity" in entry and "resolved" not in entry for path, entry in lock["packages"].items() if path)


def test_node_finds_what_the_runtime_finds(installed: Path, images: list[Path], expected: list[Detections]) -> None:
    done = node(installed, "detect.mjs", "--check", "--threads", "1", *map(str, images))
    assert done.returncode == 0, done.stderr
    verdict, *answers = map(json.loads, done.stdout.splitlines())
    assert verdict["passed"]
    assert verdict["images"] == 1
    threshold = json.loads((installed / "model.json").read_text())["score_threshold"]
    assert sum(require_same(a, d, threshold) for a, d in zip(answers, expected, strict=True)) > 100
    first = answers[0]["detections"]
    done = node(installed, "detect.mjs", "--conf", "0.5", str(images[0]))
    assert json.loads(done.stdout)["detections"] == [row for row in first if row["score"] > 0.5]


def test_errors_of_the_command(installed: Path, tmp_path: Path, images: list[Path]) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    for arguments, code, said in (
        ([], 2, "node detect.mjs"),
        (["--conf", "2", "x.png"], 2, "--conf 2: expected a number from 0 to 1"),
        (["--bad", "x.png"], 2, "--bad"),
        (["gone.png"], 2, "gone.png: cannot be read (ENOENT)"),
        ([str(tmp_path / "notes.txt")], 2, "not an image, or damaged"),
    ):
        done = node(installed, "detect.mjs", *arguments)
        assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    lone = tmp_path / "lone"
    lone.mkdir()
    for name in ("detect.mjs", "detector.js", "preprocess.js", "self_test.js", "package.json"):
        shutil.copy(installed / name, lone / name)
    done = node(lone, "detect.mjs", str(images[0]))
    assert (done.returncode, "npm ci" in done.stderr) == (3, True), done.stderr
