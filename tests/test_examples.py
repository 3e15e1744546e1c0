"""The examples in docstrings and documents run as they stand, and every public function of a stage has one.

An example of a docstring may use the names of the fixtures below, and runs in an empty folder of its own. One of a
document runs in a folder that holds the files that the documents name.
"""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from red import red_picture
from red_files import folder, make_model, write_picture
from source_tree import ROOT, STAGES, every_module

from aweigh.runtime.cli.main import main

__all__ = ["folder", "make_model", "write_picture"]

FIXTURES = ("checkpoint_path", "folder", "image", "image_path", "model_path", "shapes", "tmp_path", "video_path")

PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DOCUMENTS = ("README.md", "docs/labelling.md", "docs/predict.md", "docs/python.md")
_BLOCKS = [
    pytest.param(found[1], id=f"{name}-{i}")
    for name in DOCUMENTS
    for i, found in enumerate(PYTHON_BLOCK.finditer((ROOT / name).read_text(encoding="utf-8")), 1)
]
COOKBOOK = sorted(ROOT.glob("docs/cookbook/[0-9]*.md"))
_STEP = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NEEDS = re.compile(r"^<!-- needs: (\w+) -->$", re.MULTILINE)
_WITH_EXAMPLES = sorted(str(module.path) for module in every_module() if ">>> " in module.text)


@pytest.fixture
def model_path(make_model: Callable[..., Path]) -> Path:
    """An exported detector of red things, of 64x96 px and two categories."""
    return make_model("model.onnx")


@pytest.fixture
def image() -> npt.NDArray[np.uint8]:
    """RGB, 128x192 px, grey with one red box."""
    return red_picture()


@pytest.fixture
def image_path(tmp_path: Path, image: npt.NDArray[np.uint8], write_picture: Callable[..., Path]) -> Path:
    return write_picture(tmp_path / "image.png", image)


@pytest.fixture
def video_path(tmp_path: Path) -> Path:
    """Four frames of a red box that moves to the right, 10 per second."""
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (192, 128))
    assert writer.isOpened()
    for i in range(4):
        writer.write(red_picture(box_xyxy=(10 * i, 20, 10 * i + 60, 90))[:, :, ::-1])
    writer.release()
    return path


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data set of 24 + 8 + 8 images of 64 px, with boxes of circles, squares and triangles."""
    from aweigh.train.data.shapes import generate_shapes

    return generate_shapes(tmp_path_factory.mktemp("data") / "shapes", train=24, val=8, test=8, size_hw=(64, 64))


@pytest.fixture(scope="session")
def checkpoint_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small untrained network for the categories of ``shapes``, input 128x160 px."""
    from checkpoints import save_untrained

    return save_untrained("o2f", tmp_path_factory.mktemp("checkpoint") / "best.pt")


@pytest.mark.parametrize("path", _WITH_EXAMPLES)
def test_examples_run(
    path: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("aweigh." + ".".join(Path(path).with_suffix("").parts).removesuffix(".__init__"))
    tests = [test for test in doctest.DocTestFinder(recurse=True).find(module) if test.examples]
    assert tests, f"{path} has '>>>' outside docstrings"
    monkeypatch.chdir(tmp_path)
    for test in tests:
        source = "".join(example.source for example in test.examples)
        used = [name for name in FIXTURES if re.search(rf"\b{name}\b", source)]
        test.globs.update({name: request.getfixturevalue(name) for name in used})
        report: list[str] = []
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
        assert not report, "".join(report)


@pytest.fixture(scope="session")
def exported_path(checkpoint_path: Path) -> Path:
    """What ``aweigh export`` writes for the checkpoint."""
    from aweigh.export import ExportOptions, export

    return export(checkpoint_path, options=ExportOptions(batch=(1, 3), verify=False)).artifact


@pytest.fixture
def files_of_documents(
    tmp_path: Path,
    shapes: Path,
    checkpoint_path: Path,
    exported_path: Path,
    video_path: Path,
    make_model: Callable[..., Path],
    write_picture: Callable[..., Path],
) -> Path:
    """A folder with the files that the examples of the documents open."""
    (tmp_path / "data").symlink_to(shapes)
    for path in (checkpoint_path, exported_path):
        shutil.copy(path, tmp_path / path.name)
    for name in ("mine.onnx", "int8.onnx"):
        make_model(name)
    for name in ("street.jpg", "images/a.png", "images/b.jpg"):
        write_picture(tmp_path / name, red_picture())
    write_picture(tmp_path / "aerial.tif", red_picture((700, 1000)))
    shutil.copy(video_path, tmp_path / "clip.avi")
    (tmp_path / "aweigh-0.1.0-py3-none-any.whl").write_bytes(b"a wheel")
    return tmp_path


@pytest.mark.parametrize("block", _BLOCKS)
def test_examples_of_documents_run(block: str, files_of_documents: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files_of_documents)
    exec(compile(block, "document", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", COOKBOOK, ids=lambda path: path.stem)
def test_pages_of_the_cookbook_run(page: Path, files_of_documents: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands and Python of a page, in the order in which they stand."""
    monkeypatch.chdir(files_of_documents)
    names: dict[str, Any] = {"__name__": "example"}
    text = page.read_text(encoding="utf-8")
    for needed in _NEEDS.findall(text):
        pytest.importorskip(needed, reason=f"{needed} is not installed, and no part of dev: the page says why")
    steps = list(_STEP.finditer(text))
    assert steps
    for step in steps:
        if step[1] == "python":
            exec(compile(step[2], page.name, "exec"), names)
            continue
        for line in step[2].splitlines():
            program, *arguments = shlex.split(line, comments=True)
            assert program == "aweigh"
            assert main(arguments) == 0, line


def test_the_cookbook_lists_its_pages() -> None:
    listed = re.findall(r"\]\(([^)]+\.md)\)", (ROOT / "docs/cookbook/index.md").read_text(encoding="utf-8"))
    assert listed == [page.name for page in COOKBOOK]
    assert [int(name.partition("-")[0]) for name in listed] == list(range(1, 12))


def test_what_an_object_does_in_the_page_on_tracking(
    files_of_documents: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One red box that moves by 10 px a frame is one object, from its second frame on."""
    pytest.importorskip("trackers", reason="trackers is not installed, and no part of dev: the page says why")
    monkeypatch.chdir(files_of_documents)
    [code] = PYTHON_BLOCK.findall((ROOT / "docs/cookbook/11-track.md").read_text(encoding="utf-8"))
    exec(compile(code, "11-track.md", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out == "object 0: frames 1 to 3, x 40 to 60\n"


def public_objects(stage: str) -> Iterator[tuple[str, Any]]:
    """What a user calls: functions and classes of a stage's ``__all__``, but for errors."""
    package = importlib.import_module(f"aweigh.{stage}")
    for name in getattr(package, "__all__", ()):
        value = getattr(package, name)
        if inspect.isfunction(value) or (inspect.isclass(value) and not issubclass(value, Exception)):
            yield f"{stage}.{name}", value


@pytest.mark.parametrize("stage", STAGES)
def test_public_functions_have_an_example(stage: str) -> None:
    without = {
        name
        for name, value in public_objects(stage)
        if not any(test.examples for test in doctest.DocTestFinder().find(value, name))
    }
    assert without == set()


def test_a_wrong_example_fails() -> None:
    text = ">>> 1 + 1\n3\n"
    test = doctest.DocTestParser().get_doctest(text, {}, "wrong", None, 0)
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert "Expected:\n    3\nGot:\n    2\n" in "".join(report)
