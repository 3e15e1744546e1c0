"""The images of the documentation, each with what is shown on it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from shots import capture, capture_html, read, terminal

if TYPE_CHECKING:
    from chromium import Chromium
    from pictures import Studio

Image = npt.NDArray[np.uint8]


def found(studio: Studio, _: Chromium) -> Image:
    """Detections in one image of the test split."""
    studio.run("predict", "--model", studio.export(), "--source", studio.image, "--out", "found", made="found")
    return read(studio.work / "found" / studio.image.name)


def hero(studio: Studio, browser: Chromium) -> Image:
    """Detections next to the receipt of the file that made them."""
    cv2.imwrite(str(studio.work / "hero-found.png"), found(studio, browser))
    receipt_page(studio, browser, "fp32")
    checks = capture(browser, ".verdict", ".card:nth-of-type(2)", width_px=780, margin_px=0)
    cv2.imwrite(str(studio.work / "hero-receipt.png"), checks)
    height_px = 430
    content = "".join(f'<img src="hero-{name}.png" height="{height_px}">' for name in ("found", "receipt"))
    return capture_html(browser, f'<div class="row">{content}</div>', studio.work, width_px=1500)


def graph(studio: Studio, browser: Chromium) -> Image:
    """What goes into the file and comes out, from the file itself."""
    from aweigh.runtime import inspect_model

    spec = inspect_model(str(studio.export())).spec
    height, width = spec.input.size_hw
    inside = [
        ("normalisation", "of uint8 pixels"),
        (f"network, {spec.architecture}", f"{spec.precision}"),
        ("box decoding", "to pixels"),
        ("ranking score", spec.method),
        ("NMS", "plain matrix products"),
    ]
    boxes = "".join(f'<div class="box"><b>{name}</b><code>{detail}</code></div>' for name, detail in inside)
    outputs = [
        ("num_dets", "int64 [B]"),
        ("boxes", "float32 [B, K, 4]"),
        ("scores", "float32 [B, K]"),
        ("labels", "int64 [B, K]"),
        ("converged", "bool [B]"),
    ]
    ends = "".join(f'<div class="box"><b>{name}</b><code>{kind}</code></div>' for name, kind in outputs)
    into = f'<div class="ends"><div class="box"><b>images</b><code>uint8 [B, {height}, {width}, 3]</code></div></div>'
    whole = f'<div class="box"><b>best.onnx</b><div class="ends" style="margin-top:8px">{boxes}</div></div>'
    arrow = '<div class="arrow">&#10142;</div>'
    content = f'<div class="row">{into}{arrow}{whole}{arrow}<div class="ends">{ends}</div></div>'
    return capture_html(browser, content, studio.work)


def receipt_page(studio: Studio, browser: Chromium, precision: str) -> None:
    browser.open((studio.export(precision).with_suffix(".receipt.html")).as_uri())


def receipt(studio: Studio, browser: Chromium, precision: str) -> Image:
    receipt_page(studio, browser, precision)
    return capture(browser, ".verdict", ".card:nth-of-type(3)", most_px=1000)


def receipt_failed(studio: Studio, browser: Chromium) -> Image:
    """INT8 held to an eighth of a tensor's largest value, where its own limit is three tenths."""
    files = ("--model", studio.export("int8"), "--against", studio.best, "--data", studio.data, "--threads", 1)
    studio.run("verify", *files, "--tol-stage", 0.125, "--out", "held.json", made="held.json", codes=(1,))
    browser.open((studio.work / "held.html").as_uri())
    return capture(browser, ".verdict", ".card:nth-of-type(3)", most_px=1000)


def receipt_images(studio: Studio, browser: Chromium) -> Image:
    """Images side by side, further down on the page of a receipt."""
    receipt_page(studio, browser, "fp32")
    return capture(browser, ".card:nth-of-type(4)")


def compare(studio: Studio, browser: Chromium) -> Image:
    files = (studio.export("fp32"), studio.export("int8"))
    more = ("--data", studio.data, "--split", "test", "--gallery", 6, "--conf", 0.5, "--threads", 1)
    studio.run("compare", *files, *more, "--out", "compared", made="compared", codes=(0, 1))
    browser.open((studio.work / "compared/compare.html").as_uri())
    return capture(browser, ".gallery")


def doctor_page(studio: Studio, browser: Chromium) -> None:
    studio.run("doctor", "--data", studio.data, "--out", "doctor", made="doctor", codes=(0, 1))
    browser.open((studio.work / "doctor/doctor.html").as_uri())


def doctor(studio: Studio, browser: Chromium) -> Image:
    """Verdict, findings and counts."""
    doctor_page(studio, browser)
    return capture(browser, ".verdict", ".card:nth-of-type(4)", most_px=1150)


def doctor_part(studio: Studio, browser: Chromium, number: int) -> Image:
    doctor_page(studio, browser)
    return capture(browser, f".card:nth-of-type({number})", most_px=760)


def assign_page(studio: Studio, browser: Chromium, methods: str) -> None:
    name = f"assign-{methods.replace(',', '-')}.html"
    more = ("--data", studio.data, "--split", "test", "--image", studio.image.name, "--methods", methods, "--out", name)
    studio.run("assign", "--model", studio.train(), *more, made=name)
    browser.open((studio.work / name).as_uri())


def assign(studio: Studio, browser: Chromium) -> Image:
    """All methods, the levels with something to see."""
    assign_page(studio, browser, "fcos,dw,o2f,autoassign,paa,ala")
    return capture(browser, ".two", "#grid", width_px=1200, most_px=1330)


def method(studio: Studio, browser: Chromium, name: str) -> Image:
    """One method next to FCOS: weights of all objects by level."""
    assign_page(studio, browser, "fcos" if name == "fcos" else f"fcos,{name}")
    return capture(browser, "#quantity", "#grid", width_px=480 if name == "fcos" else 760, most_px=950)


def weights_of_one(studio: Studio, browser: Chromium, name: str) -> Image:
    """One object under one method: what its panel shows."""
    assign_page(studio, browser, name)
    browser.run("document.querySelectorAll('[data-truth]')[0].click()")
    return capture(browser, "#panels", width_px=760, most_px=700)


def of_run(studio: Studio, _: Chromium, name: str) -> Image:
    """An image that training writes into its folder."""
    studio.train()
    return read(studio.work / "runs/train/cells" / name)


def demo_page(studio: Studio, browser: Chromium) -> Image:
    process, address = studio.serve()
    try:
        browser.open(f"{address}/")
        browser.wait("document.querySelectorAll('#classes input').length > 0")
        browser.choose_file("#file", studio.image)
        browser.wait("!document.getElementById('results').hidden")
        return capture(browser, "body", width_px=1150, height_px=900, margin_px=0)
    finally:
        process.terminate()
        process.wait()


def web_page(studio: Studio, browser: Chromium) -> Image:
    """The exported file in the browser: needs npm, which fetches onnxruntime-web."""
    studio.run("export", "--format", "web", "--model", studio.export(), "--out", "web", made="web")
    handler = partial(SimpleHTTPRequestHandler, directory=str(studio.work / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        browser.open(f"http://127.0.0.1:{server.server_port}/")
        browser.wait("document.getElementById('verdict').className.includes('passed')", 120)
        browser.choose_file("#file", studio.image)
        browser.wait("!document.getElementById('results').hidden", 120)
        image = capture(browser, "body", width_px=1150, height_px=900, most_px=790, margin_px=0)
        server.shutdown()
    return image


def tiles(studio: Studio, _: Chromium) -> Image:
    """Nine images as one large one: seen whole, and in tiles."""
    from aweigh.runtime import Detector, Sliced

    rows = [np.concatenate([read(path) for path in studio.images[i : i + 3]], axis=1) for i in (6, 9, 12)]
    large = np.concatenate(rows)[:, :, ::-1].copy()
    with Detector(str(studio.export()), threads=1) as detector:
        whole = detector(large, conf=0.45).plot()
        sliced = Sliced(detector, slice_hw=(480, 640), overlap=0.2)(large, conf=0.45).plot()
    pair = np.concatenate([whole, np.full((whole.shape[0], 30, 3), 255, np.uint8), sliced], axis=1)
    return np.asarray(cv2.cvtColor(pair, cv2.COLOR_RGB2BGR), np.uint8)


def printed(studio: Studio, browser: Chromium, *words: object, shown: str, lines: int = 40) -> Image:
    """A command as it is shown, and the beginning of what it prints."""
    output = studio.run(*words, codes=(0, 1)).replace(str(studio.work) + "/", "").replace(str(studio.data), "DATA")
    kept = "\n".join(output.splitlines()[:lines])
    return capture_html(browser, terminal(shown, kept), studio.work, width_px=1600)


def inspect(studio: Studio, browser: Chromium) -> Image:
    return printed(
        studio, browser, "inspect", "--model", studio.export().name, shown="aweigh inspect --model best.onnx"
    )


def bench(studio: Studio, browser: Chromium) -> Image:
    words = ("bench", "--model", studio.export().name, "--batch", 1, "--threads", 1)
    return printed(studio, browser, *words, shown="aweigh bench --model best.onnx --batch 1 --threads 1", lines=30)


def val(studio: Studio, browser: Chromium) -> Image:
    words = ("val", "--model", studio.export(), "--data", studio.data, "--split", "test", "--threads", 1)
    return printed(studio, browser, *words, shown="aweigh val --model best.onnx --data DATA --split test")


def engine(studio: Studio, browser: Chromium) -> Image:
    """An engine of TensorRT for RTX, built without a GPU: needs the extra rtx."""
    words = ("export", "--model", studio.export(), "--format", "engine", "--flavour", "rtx", "--out", "best.engine")
    studio.run(*words, made="best.engine")
    return printed(studio, browser, "inspect", "--model", "best.engine", shown="aweigh inspect --model best.engine")


PAGES: dict[str, Callable[[Any, Any], Image]] = {
    "hero": hero,
    "graph": graph,
    "found": found,
    "receipt": partial(receipt, precision="fp32"),
    "receipt-failed": receipt_failed,
    "receipt-images": receipt_images,
    "compare": compare,
    "doctor": doctor,
    "data": partial(doctor_part, number=6),
    "doctor-worst": partial(doctor_part, number=7),
    "assign": assign,
    **{f"method-{name}": partial(method, name=name) for name in ("fcos", "dw", "o2f", "autoassign", "paa", "ala")},
    **{f"object-{name}": partial(weights_of_one, name=name) for name in ("o2f", "paa", "ala")},
    "train-batch": partial(of_run, name="train_batch.png"),
    "results": partial(of_run, name="results.png"),
    "val-predictions": partial(of_run, name="val_predictions.png"),
    "confusion": partial(of_run, name="confusion_matrix.png"),
    "curves": partial(of_run, name="PR_curve.png"),
    "demo-page": demo_page,
    "web-page": web_page,
    "tiles": tiles,
    "inspect": inspect,
    "val": val,
    "bench": bench,
    "engine": engine,
}
