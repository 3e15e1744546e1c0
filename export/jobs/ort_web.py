"""The files of onnxruntime-web that a page needs: from npm, or from a folder; of one exact version."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

from aweigh.runtime.atomic import temporary_folder
from aweigh.runtime.errors import BadInput, CannotRun

VERSION = "1.30.0"
# sha256 of what the page loads. Computing on the CPU takes the first two, WebGPU the others.
_DIGESTS = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    "ort.webgpu.bundle.min.mjs": "0730816731ce2cdfb06f273da065d4a1c7091eb9d1756a83b2916c8a89d015e2",
    "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
}
NEEDED = tuple(_DIGESTS)
_DOWNLOAD_S = 600


def copy_ort_web(target: Path, source: Path | None = None) -> None:
    """Write the files into the new folder ``target``.

    Args:
        source: a folder of the package, as ``npm pack`` or ``npm install`` gives it, or its ``dist``; None asks npm.

    Raises:
        BadInput: ``source`` lacks a file, or holds another version of it.
        CannotRun: there is no npm, or it cannot get the package.
    """
    if source is not None:
        _copy(source / "dist" if (source / "dist").is_dir() else source, target, f"--ort-web {source}")
        return
    with temporary_folder() as folder:
        _copy(_unpack(_download(folder)), target, f"npm's onnxruntime-web@{VERSION}")


def _download(folder: Path) -> Path:
    npm = shutil.which("npm")
    by_hand = f"give a folder of the package to --ort-web (npm pack onnxruntime-web@{VERSION} on another machine)"
    if npm is None:
        raise CannotRun(f"npm is not installed, and the page needs the package onnxruntime-web; {by_hand}")
    command = [npm, "pack", f"onnxruntime-web@{VERSION}", "--ignore-scripts", "--prefer-offline", "--silent"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise CannotRun(f"npm pack onnxruntime-web@{VERSION} gave nothing within {_DOWNLOAD_S} s; {by_hand}") from error
    archives = list(folder.glob("*.tgz"))
    if done.returncode or not archives:
        reason = " ".join((done.stderr or done.stdout).split())[:300] or f"exit code {done.returncode}"
        raise CannotRun(f"npm pack onnxruntime-web@{VERSION} failed ({reason}); {by_hand}")
    return archives[0]


def _unpack(archive: Path) -> Path:
    """The few files that are needed: all of the package are 140 MB."""
    folder = archive.with_suffix("")
    folder.mkdir()
    with tarfile.open(archive) as package:
        for member in package:
            name = Path(member.name).name
            content = (
                package.extractfile(member) if member.name == f"package/dist/{name}" and name in _DIGESTS else None
            )
            if content is not None:
                (folder / name).write_bytes(content.read())
    return folder


def _copy(source: Path, target: Path, origin: str) -> None:
    target.mkdir(parents=True)
    for name, digest in _DIGESTS.items():
        path = source / name
        if not path.is_file():
            raise BadInput(f"{origin}: no file {name}; expected the package onnxruntime-web {VERSION}, or its dist")
        content = path.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != digest:
            raise BadInput(
                f"{origin}: {name} is another one than that of onnxruntime-web {VERSION} (sha256 {found[:12]}, "
                f"expected {digest[:12]}); take exactly this version, which the page was tested with"
            )
        # Not every web server knows that .mjs is JavaScript.
        (target / name).with_suffix(".js" if name.endswith(".mjs") else path.suffix).write_bytes(content)
