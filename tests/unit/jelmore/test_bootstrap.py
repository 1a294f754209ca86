"""How uv comes into the project where python3 has neither venv nor pip: from the index, checked."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import platform
import threading
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from jelmore import bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MACHINE = {("Darwin", "arm64"): "arm64"}.get((platform.system(), platform.machine()), platform.machine())
KIND = "macosx_11_0" if platform.system() == "Darwin" else "manylinux_2_17"
UV = b"#!/bin/sh\necho uv 9.9.9\n"


def wheel() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("uv-9.9.9.data/scripts/uvx", b"not this one")
        archive.writestr("uv-9.9.9.data/scripts/uv", UV)
    return packed.getvalue()


class Index(http.server.ThreadingHTTPServer):
    """A package index with uv in it; notes what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.wheel = wheel()
        self.sha256 = hashlib.sha256(self.wheel).hexdigest()
        self.asked: list[tuple[str, str | None]] = []

    def page(self) -> dict[str, Any]:
        names = [f"uv-{version}-py3-none-{KIND}_{MACHINE}.whl" for version in ("9.9.8", "9.9.9")]
        names += ["uv-9.9.9.tar.gz", "uv-9.9.9-py3-none-win_arm64.whl", "uv-9.9.9-py3-none-manylinux_2_17_s390x.whl"]
        return {"files": [{"filename": n, "url": f"../../files/{n}", "hashes": {"sha256": self.sha256}} for n in names]}


class Page(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        page = self.path.endswith("/uv/")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(self.server.page()).encode() if page else self.server.wheel)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    with Index() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("PIP_INDEX_URL", f"http://me:p%40ss@127.0.0.1:{server.server_port}/simple/")
        monkeypatch.setenv("no_proxy", "*")
        yield server
        server.shutdown()
        thread.join()


def test_the_wheel_of_this_machine_is_fetched_from_the_index_that_is_set(tmp_path: Path, index: Index) -> None:
    bootstrap.by_wheel(tmp_path / "uv", "9.9.9")

    assert bootstrap.has_uv(tmp_path / "uv", "9.9.9")
    assert [path for path, _ in index.asked] == ["/simple/uv/", f"/files/uv-9.9.9-py3-none-{KIND}_{MACHINE}.whl"]
    assert all(login == "Basic bWU6cEBzcw==" for _, login in index.asked[:1])


def test_a_wheel_that_was_changed_is_refused(tmp_path: Path, index: Index) -> None:
    index.sha256 = "0" * 64
    with pytest.raises(ValueError, match="sha256"):
        bootstrap.by_wheel(tmp_path / "uv", "9.9.9")

    assert not (tmp_path / "uv").exists()


def test_a_version_the_index_does_not_have_is_told(tmp_path: Path, index: Index) -> None:
    with pytest.raises(LookupError, match=r"no uv 1\.2\.3"):
        bootstrap.by_wheel(tmp_path / "uv", "1.2.3")


def test_what_is_there_already_is_not_fetched(tmp_path: Path, index: Index) -> None:
    bootstrap.by_wheel(tmp_path / "uv", "9.9.9")
    index.asked.clear()

    assert bootstrap.main([str(tmp_path / "uv"), "9.9.9"]) == 0
    assert index.asked == []
