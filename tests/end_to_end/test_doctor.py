"""`jelmore doctor` through real proxies, on a whole installation: what each of them does is found, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from jelmore.cli import main
from jelmore.doctor.rounds import Wanted, rounds
from jelmore.embedded.server import free_port
from tests.nginx import BUFFERING, DEFAULT, MODERN, in_front
from tests.service import ADA, FULL_LENGTH

if TYPE_CHECKING:
    from pathlib import Path

    from tests.service import Service

CUT_SECONDS = 10 if FULL_LENGTH else 2
PATIENT = 60
LOSING = """
      proxy_set_header Idempotency-Key "";
      proxy_set_header Last-Event-ID "";
      proxy_hide_header X-Request-ID;
"""


def wrong(port: int, *, idle_seconds: float = 0.0, key: str = ADA) -> list[str]:
    """What is wrong, seen through this port."""
    environ = {"JELMORE_API_KEY": key}
    found = rounds(environ, Wanted(f"http://127.0.0.1:{port}", idle_seconds=idle_seconds))
    return [finding.says for finding in found if finding.state == "wrong"]


def test_nothing_is_wrong_inside_and_through_a_good_proxy(service: Service, tmp_path: Path) -> None:
    with in_front(tmp_path, [service.port], MODERN, timeout_seconds=PATIENT) as port:
        command = [
            sys.executable,
            "-m",
            "jelmore",
            "doctor",
            "--url",
            f"http://127.0.0.1:{port}",
            "--idle",
            "1",
            "--json",
        ]
        env = service.env() | {"JELMORE_API_KEY": ADA}
        ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)

    told = json.loads(ran.stdout)
    assert [finding for finding in told["findings"] if finding["state"] == "wrong"] == []
    assert (told["well"], ran.returncode) == (True, 0)
    says = "\n".join(finding["says"] for finding in told["findings"])
    for sentence in (
        "with this code",
        "The key is good",
        "Headers go through",
        "An event stream brings",
        "A WebSocket brings",
    ):
        assert sentence in says


def test_no_canary_is_left_behind(service: Service) -> None:
    live = service.rows("SELECT count(*) FROM sessions WHERE query = 'exec cat' AND ended_at IS NULL")
    assert live == [(0,)]


@pytest.mark.parametrize(
    ("protocol", "sentences"),
    [
        (BUFFERING, ["proxy buffers event streams", "WebSockets are blocked"]),
        (DEFAULT, ["WebSockets are blocked"]),
        (LOSING + MODERN, ["Idempotency-Key is lost", "X-Request-ID is lost", "Last-Event-ID is lost"]),
        (MODERN + 'proxy_set_header Authorization "";', ["removes the Authorization header"]),
        ("return 502;", ["not Jelmore (HTTP 502)"]),
    ],
    ids=["buffering", "HTTP/1.0", "losing headers", "losing keys", "answering itself"],
)
def test_what_a_proxy_does_is_named(service: Service, tmp_path: Path, protocol: str, sentences: list[str]) -> None:
    with in_front(tmp_path, [service.port], protocol, timeout_seconds=PATIENT) as port:
        found = wrong(port)

    assert len(found) == len(sentences), found
    for said, sentence in zip(found, sentences, strict=True):
        assert sentence in said


def test_a_proxy_that_hangs_up_on_the_silent_is_named(service: Service, tmp_path: Path) -> None:
    with in_front(tmp_path, [service.port], MODERN, timeout_seconds=CUT_SECONDS) as port:
        found = wrong(port, idle_seconds=CUT_SECONDS + 3)

    assert len(found) == 2, found
    assert f"An event stream is cut by the proxy after {CUT_SECONDS} s" in found[0]
    assert f"A WebSocket is cut by the proxy after {CUT_SECONDS} s" in found[1]


def test_a_bad_key_is_named(service: Service) -> None:
    (said,) = wrong(service.port, key="nobodys-key")
    assert "does not know this key" in said


def run(*words: str, **environ: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["doctor", *words], env=dict(environ))
    return result.exit_code, result.output


def test_exit_codes_say_whether_all_is_well(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run()[0] == 2
    assert run("--url", "ftp://nowhere", "--no-canary")[0] == 2
    assert run("--url", f"http://127.0.0.1:{service.port}")[0] == 2  # no key
    code, said = run("--url", f"http://127.0.0.1:{service.port}", "--no-canary")
    assert (code, said.splitlines()[-1]) == (0, "All is well.")
    code, said = run("--url", f"http://127.0.0.1:{free_port()}", "--no-canary")
    assert (code, said.splitlines()[-1]) == (1, "1 thing is wrong.")
