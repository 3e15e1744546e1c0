"""Downloads: whole and checked or not at all, gone on with after an interruption, never without TLS by surprise."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest
from file_server import FileServer, file_server, secure_server

from aweigh.runtime.errors import AweighError, BadInput, CannotRun
from aweigh.runtime.files.download import download

__all__ = ["file_server", "secure_server"]

CONTENT = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(file_server: FileServer) -> str:
    file_server.files["/net.pth"] = CONTENT
    return f"{file_server.url}/net.pth"


def test_it_is_fetched_once_and_progress_is_shown(url: str, file_server: FileServer, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    target = tmp_path / "cache" / "net.pth"
    for _ in range(2):
        found = download(url, target, DIGEST, "--weights", lambda done, total: steps.append((done, total)))
        assert found == target
        assert found.read_bytes() == CONTENT
    assert file_server.seen == ["GET /net.pth"]
    assert steps[0] == (0, len(CONTENT))
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in target.parent.iterdir()] == ["net.pth"]


def test_an_interrupted_download_goes_on(url: str, file_server: FileServer, tmp_path: Path) -> None:
    file_server.cut_after_bytes = 1_500_000
    with pytest.raises(CannotRun, match="1500000 of 5120000"):
        download(url, tmp_path / "net.pth", DIGEST, "--weights")
    assert not (tmp_path / "net.pth").exists()
    assert download(url, tmp_path / "net.pth", DIGEST, "--weights").read_bytes() == CONTENT
    assert file_server.seen[-1] == "GET /net.pth bytes=1500000-"


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize("left", [b"of another file", CONTENT, CONTENT + b"more"], ids=["other", "whole", "longer"])
def test_what_lies_there_of_another_download_does_no_harm(
    left: bytes, ranges: bool, url: str, file_server: FileServer, tmp_path: Path
) -> None:
    file_server.ranges = ranges
    (tmp_path / ".net.pth.part").write_bytes(left)
    assert download(url, tmp_path / "net.pth", DIGEST, "--weights").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


def test_another_digest_leaves_nothing(url: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"sha256 of net.pth is {DIGEST}, expected 0000"):
        download(url, tmp_path / "net.pth", "0" * 64, "--weights")
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_fetch_it_once(url: str, file_server: FileServer, tmp_path: Path) -> None:
    found: list[bytes] = []

    def fetch() -> None:
        found.append(download(url, tmp_path / "net.pth", DIGEST, "--weights").read_bytes())

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 4
    assert file_server.seen == ["GET /net.pth"]


@pytest.mark.parametrize(
    ("address", "digits", "words"),
    [
        ("ftp://example.com/net.pth", DIGEST, "https URL"),
        ("file:///etc/hostname", DIGEST, "https URL"),
        ("https://example.com/net.pth", "1234567", "#sha256=DIGITS"),
        ("https://example.com/net.pth", "", "#sha256=DIGITS"),
        ("http://example.com/net.pth", DIGEST[:63], "64 digits"),
    ],
)
def test_what_could_not_be_trusted_is_refused_before_anything_is_sent(
    address: str, digits: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=words):
        download(address, tmp_path / "net.pth", digits, "--weights")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no-such-host.invalid", "[::1"])
def test_offline_is_one_line_that_says_what_to_do(host: str, tmp_path: Path) -> None:
    with pytest.raises(AweighError) as raised:
        download(f"https://{host}/net.pth", tmp_path / "net.pth", DIGEST, "--weights")
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("--weights")


def test_https_with_the_first_eight_digits(secure_server: FileServer, tmp_path: Path) -> None:
    secure_server.files["/net.pth"] = CONTENT
    assert (
        download(f"{secure_server.url}/net.pth", tmp_path / "net.pth", DIGEST[:8], "--weights").read_bytes() == CONTENT
    )


def test_a_redirect_to_http_is_refused(secure_server: FileServer, file_server: FileServer, tmp_path: Path) -> None:
    secure_server.files["/net.pth"] = CONTENT
    file_server.files["/net.pth"] = CONTENT
    secure_server.redirects = {"/old.pth": f"{secure_server.url}/net.pth", "/plain.pth": f"{file_server.url}/net.pth"}
    assert download(f"{secure_server.url}/old.pth", tmp_path / "net.pth", DIGEST, "--weights").read_bytes() == CONTENT
    with pytest.raises(CannotRun, match="not https"):
        download(f"{secure_server.url}/plain.pth", tmp_path / "other.pth", DIGEST, "--weights")
    assert file_server.seen == []
