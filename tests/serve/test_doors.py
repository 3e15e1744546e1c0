"""The same picture through every door gives what the Detector gives."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc
import tritonclient.http
from server_process import Server, jpeg, write_model

from aweigh.runtime.detector import Detector
from aweigh.runtime.images.preprocess import prepare

Picture = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def expected(red_model: Path, picture: Picture) -> list[dict[str, Any]]:
    with Detector(red_model) as detector:
        found = detector(jpeg(picture)).to_dict()["detections"]
    assert len(found) == 2
    return list(found)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_bytes(client: httpx.Client, picture: Picture, red_model: Path, suffix: str) -> None:
    body = jpeg(picture, suffix)
    answer = client.post("/v1/models/red/detect", content=body, headers={"Content-Type": f"image/{suffix[1:]}"})
    assert answer.status_code == 200
    with Detector(red_model) as detector:
        assert answer.json()["detections"] == detector(body).to_dict()["detections"]
    assert answer.json()["image"] == {"width": 192, "height": 128}
    assert set(answer.json()["timing_ms"]) == {"decode", "preprocess", "queue", "network", "postprocess"}


def test_form(client: httpx.Client, picture: Picture, expected: list[dict[str, Any]]) -> None:
    answer = client.post("/v1/models/red/detect", files={"file": ("x.jpg", jpeg(picture))})
    assert answer.json()["detections"] == expected


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_curl(server: Server, picture: Picture, expected: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg(picture))
    url = f"{server.http}/v1/models/red/detect"
    for flags in (["-F", "file=@x.jpg"], ["-H", "Content-Type: image/jpeg", "--data-binary", "@x.jpg"]):
        command = ["curl", "--silent", "--show-error", "--fail", *flags, url]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert httpx.Response(200, content=done.stdout).json()["detections"] == expected


def test_the_pictures_of_a_lone_client_share_a_batch(client: httpx.Client, server: Server, picture: Picture) -> None:
    files = [("file", ("x.jpg", jpeg(picture)))] * 4
    before = server.metric("aweigh_batch_pictures_count")
    assert client.post("/v1/models/red/detect-batch", files=files).status_code == 200
    assert server.metric("aweigh_batch_pictures_count") == before + 1


def test_several_pictures_keep_their_order(client: httpx.Client, picture: Picture) -> None:
    pictures = [picture, np.full((50, 60, 3), 60, np.uint8), np.ascontiguousarray(picture[:, ::-1])]
    files = [("file", ("x.png", jpeg(image, ".png"))) for image in pictures]
    results = client.post("/v1/models/red/detect-batch", files=files).json()["results"]
    single = [
        client.post("/v1/models/red/detect", content=body, headers={"Content-Type": "image/png"}).json()
        for _, (_, body) in files
    ]
    assert [r["detections"] for r in results] == [s["detections"] for s in single]
    assert [len(r["detections"]) for r in results] == [2, 0, 2]
    assert [r["image"]["width"] for r in results] == [192, 60, 192]


@pytest.mark.parametrize("module", [tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])
def test_tritonclient(
    module: Any, server: Server, red_model: Path, picture: Picture, expected: list[dict[str, Any]]
) -> None:
    address = server.grpc if module is tritonclient.grpc else server.http.removeprefix("http://")
    with Detector(red_model) as detector, module.InferenceServerClient(address) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("red")
        image_u8, where = prepare(cv_decode(jpeg(picture)), detector.spec.input)
        tensor = module.InferInput("images", [2, *image_u8.shape], "UINT8")
        tensor.set_data_from_numpy(np.stack([image_u8, image_u8]))
        result = client.infer("red", [tensor], request_id="seven")
        outputs = {name: result.as_numpy(name) for name in ("num_dets", "boxes", "scores", "labels")}
        direct = detector.raw(np.stack([image_u8, image_u8]))
        for name, array in direct.items():
            assert outputs[name].dtype == array.dtype
            np.testing.assert_array_equal(outputs[name], array)
        assert [detector.unmap(outputs, row, where).to_dict()["detections"] for row in (0, 1)] == [expected] * 2
        response = result.get_response()
        assert (response["id"] if isinstance(response, dict) else response.id) == "seven"


def cv_decode(data: bytes) -> Picture:
    from aweigh.runtime.images.reading import read_image

    return read_image(data)


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_chooses_outputs_and_their_form(server: Server, binary: bool) -> None:
    with tritonclient.http.InferenceServerClient(server.http.removeprefix("http://")) as client:
        tensor = tritonclient.http.InferInput("images", [1, 64, 96, 3], "UINT8")
        tensor.set_data_from_numpy(np.full((1, 64, 96, 3), 255, np.uint8), binary_data=binary)
        wanted = [tritonclient.http.InferRequestedOutput(name, binary_data=binary) for name in ("scores", "boxes")]
        result = client.infer("red", [tensor], outputs=wanted)
        assert [o["name"] for o in result.get_response()["outputs"]] == ["scores", "boxes"]
        assert result.as_numpy("scores").tolist() == [[0.5, 1.0, 0.0, 0.0]]
        assert result.as_numpy("boxes").shape == (1, 4, 4)


@pytest.mark.parametrize("module", [tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])
def test_metadata_and_index(module: Any, server: Server) -> None:
    as_json = {"as_json": True} if module is tritonclient.grpc else {}
    address = server.grpc if module is tritonclient.grpc else server.http.removeprefix("http://")
    with module.InferenceServerClient(address) as client:
        assert client.get_server_metadata(**as_json)["name"] == "aweigh"
        model = client.get_model_metadata("red", **as_json)
        assert [str(n) for n in model["inputs"][0]["shape"]] == ["-1", "64", "96", "3"]
        assert [o["name"] for o in model["outputs"]] == ["num_dets", "boxes", "scores", "labels"]
        assert client.is_model_ready("red", model["versions"][0])
        index = client.get_model_repository_index(**as_json)
        models = index["models"] if isinstance(index, dict) else index
        assert [(m["name"], m["state"]) for m in models] == [("red", "READY")]


@pytest.mark.parametrize("module", [tritonclient.http, tritonclient.grpc], ids=["http", "grpc"])
def test_tritonclient_reads_what_was_wrong(module: Any, server: Server) -> None:
    address = server.grpc if module is tritonclient.grpc else server.http.removeprefix("http://")
    with module.InferenceServerClient(address) as client:
        tensor = module.InferInput("images", [1, 64, 64, 3], "UINT8")
        tensor.set_data_from_numpy(np.zeros((1, 64, 64, 3), np.uint8))
        with pytest.raises(tritonclient.utils.InferenceServerException, match="this file takes 96x64"):
            client.infer("red", [tensor])
        with pytest.raises(tritonclient.utils.InferenceServerException, match="there are red"):
            client.infer("blue", [tensor])


def test_filters(client: httpx.Client, picture: Picture) -> None:
    def labels(**query: Any) -> list[str]:
        answer = client.post(
            "/v1/models/red/detect", content=jpeg(picture), headers={"Content-Type": "image/jpeg"}, params=query
        )
        assert answer.status_code == 200, answer.text
        return [d["label"] for d in answer.json()["detections"]]

    assert labels() == ["whole", "left half"]
    assert labels(score=0.6) == ["whole"]
    assert labels(conf=0.6) == ["whole"]
    assert labels(score=1.0) == []
    assert labels(max_detections=1) == ["whole"]
    assert labels(**{"class": "left half"}) == ["left half"]
    assert labels(**{"class": ["17", "whole"]}) == ["whole", "left half"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"score": "0.01"}, "computes no detections below 0.05"),
        ({"score": "1.5"}, "score 1.5: expected a number from 0 to 1"),
        ({"score": "nan"}, "score nan: expected a number from 0 to 1"),
        ({"score": "high"}, "score 'high': expected a number from 0 to 1"),
        ({"max_detections": "0"}, "expected a whole number from 1 to 100000"),
        ({"max_detections": "2.5"}, "expected a whole number from 1 to 100000"),
        ({"class": "blue"}, "red knows left half, whole"),
        ({"treshold": "0.5"}, "query parameter 'treshold': expected score, conf, max_detections, class, agnostic"),
        ({"agnostic": "yes"}, "agnostic 'yes': expected true or false"),
        ({"score": "0.5", "conf": "0.6"}, "expected one"),
        ({"score": ["0.5", "0.6"]}, "expected one"),
        ({"conf": "best"}, "conf best: this file holds no best thresholds"),
    ],
)
def test_filters_that_make_no_sense(client: httpx.Client, picture: Picture, query: dict[str, Any], words: str) -> None:
    answer = client.post(
        "/v1/models/red/detect", content=jpeg(picture), headers={"Content-Type": "image/jpeg"}, params=query
    )
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]
    assert answer.json()["error"] == answer.json()["detail"]


def test_one_label_for_an_object(start: Callable[..., Server], tmp_path: Path, picture: Picture) -> None:
    """The half overlaps the whole by 0.5; the class is chosen after the suppression."""
    path = write_model(tmp_path / "red.onnx", post={"iou_threshold": 0.4})
    server = start("--model", str(path), "--grpc-port", "-1")

    def labels(client: httpx.Client, query: str) -> list[str]:
        headers = {"Content-Type": "image/jpeg"}
        answer = client.post(f"/v1/models/red/detect?{query}", content=jpeg(picture), headers=headers)
        return [d["label"] for d in answer.json()["detections"]]

    with server.client() as client:
        assert labels(client, "agnostic=true") == ["whole"]
        assert labels(client, "agnostic=false") == ["whole", "left half"]
        assert labels(client, "agnostic=true&class=left%20half") == []


def test_the_best_thresholds_of_the_classes(start: Callable[..., Server], tmp_path: Path, picture: Picture) -> None:
    path = write_model(tmp_path / "red.onnx", best_conf=(0.7, 0.2))
    server = start("--model", str(path), "--grpc-port", "-1")
    headers = {"Content-Type": "image/jpeg"}
    with server.client() as client, Detector(path) as detector:
        for name in ("score", "conf"):
            answer = client.post(f"/v1/models/red/detect?{name}=best", content=jpeg(picture), headers=headers)
            assert answer.json()["detections"] == detector(jpeg(picture), conf="best").to_dict()["detections"]
            assert [d["label"] for d in answer.json()["detections"]] == ["whole"]
        classes = client.get("/v1/models/red").json()["classes"]
    assert [c["best_score"] for c in classes] == [0.7, 0.2]
    assert [c["color"] for c in classes] == ["#ff2222", "#00ff00"]  # as class_colour(0) and (1)


def test_sizes_that_follow_the_picture_and_fixed_batches(start: Callable[..., Server], tmp_path: Path) -> None:
    """A file of one fixed batch is filled up; where inputs have several sizes, equal ones share a batch."""
    follows = write_model(
        tmp_path / "follows.onnx", input={"resize": "keep-ratio", "dynamic_size": True, "size_hw": (64, 128)}
    )
    fixed = write_model(tmp_path / "fixed.onnx", batch=(4, 4))
    server = start("--model", str(follows), "--model", f"four={fixed}", "--grpc-port", "-1")
    with server.client() as client:
        for name, path in (("follows", follows), ("four", fixed)):
            with Detector(path) as detector:
                for hw in ((128, 192), (192, 128), (64, 64)):
                    image = np.full((*hw, 3), 60, np.uint8)
                    image[10:40, 20:50] = (255, 0, 0)
                    body = jpeg(image, ".png")
                    answer = client.post(
                        f"/v1/models/{name}/detect", content=body, headers={"Content-Type": "image/png"}
                    )
                    assert answer.json()["detections"] == detector(body).to_dict()["detections"]
