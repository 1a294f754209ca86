"""The commands of README.md and docs/*.md, literally, against one installation that `make run` has started."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from core.settings import environment
from jelmore.embedded.server import free_port
from tests.checks import eventually
from tests.servers import programs_of
from tests.service import FULL_LENGTH
from tests.shell_blocks import MARKS, PAGES, ROOT, Block, blocks, fenced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from jelmore.embedded import Nats, Postgres, Valkey

START = "make run"
READY_SECONDS = 120
BLOCK_SECONDS = 600 if FULL_LENGTH else 60
ENDLESS_SECONDS = 2
STOPPED = 124
"""What timeout(1) answers with."""
ALL = [block for page in PAGES for block in blocks(page)]
LITERAL = ("", "slow") if FULL_LENGTH else ("",)
RUN = [page for page in PAGES if any(block.mark in (*LITERAL, "endless") for block in blocks(page))]


@dataclass
class Reader:
    """Somebody who copies what stands there into a shell: what it said, what was exported, what placeholders stand for."""

    clone: Path
    environment: dict[str, str]
    stands_for: dict[str, str]
    said: str = ""
    log: Path = field(init=False)

    def __post_init__(self) -> None:
        self.log = self.clone / "run.log"

    def literally(self, text: str) -> str:
        """Return a text with the placeholders replaced that a reader would replace."""
        for placeholder, value in self.stands_for.items():
            text = text.replace(placeholder, value)
        text = re.sub(r"\bSESSION_ID\b", self._last(r'"session_id":\s*"([0-9a-f-]{36})"'), text)
        return re.sub(r"(?<= )ID\b", self._last(r"([0-9a-f]{8}-[0-9a-f-]{27})"), text)

    def _last(self, pattern: str) -> str:
        found = re.findall(pattern, self.said)
        return found[-1] if found else "nothing"

    def copy(self, block: Block) -> None:
        """Run a block as it stands; what it exports stays."""
        after = self.clone / "environment"
        script = f"trap 'env -0 > {after}' EXIT\n{self.literally(block.text)}"
        done = self._run(["bash", "-euo", "pipefail", "-c", script], BLOCK_SECONDS)
        self._expect(done, block, 0)
        self.said += done.stdout
        self.environment |= dict(line.partition("=")[::2] for line in after.read_text().split("\0") if "=" in line)

    def watch(self, block: Block) -> None:
        """Run the commands of a block for a moment, all at once."""
        with ThreadPoolExecutor() as pool:
            commands = [["timeout", str(ENDLESS_SECONDS), "bash", "-c", self.literally(c)] for c in block.commands()]
            for done in pool.map(lambda words: self._run(words, BLOCK_SECONDS), commands):
                self._expect(done, block, 0, STOPPED)

    def _expect(self, done: subprocess.CompletedProcess[str], block: Block, *codes: int) -> None:
        """See that it went well; curl does so, too, when it is refused."""
        said = f"{block}: {done.args[-1]}: {done.stdout}{done.stderr}"
        assert done.returncode in codes, said
        assert '"error_code"' not in done.stdout, said

    def _run(self, words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.clone, env=self.environment, capture_output=True, text=True, timeout=seconds, check=False
        )


@pytest.fixture(scope="module")
def reader(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: Postgres,
    valkey: Valkey,
    nats: Nats,
    new_database: Callable[[], str],
    empty_database: Callable[[], str],
) -> Iterator[Reader]:
    """A clone in which the first command of the README runs."""
    clone, port = tmp_path_factory.mktemp("clone"), free_port()
    for entry in ROOT.iterdir():
        if entry.name not in (".git", ".jelmore", ".env", "build"):
            (clone / entry.name).symlink_to(entry)
    outside = environment()
    own = {
        "PATH": os.pathsep.join([programs_of(postgres), outside["PATH"]]),
        "HOME": str(clone),
        "LANG": "C.UTF-8",
        "JELMORE_HOME": str(clone / ".jelmore"),
        "PORT": str(port),
        "DATABASE_URL": new_database(),
        "RESTORED_URL": empty_database(),
        "REDIS_URL": valkey.url,
        "NATS_URL": nats.url,
        "WEBHOOK_ALLOW_PRIVATE": "127.0.0.0/8",
        "UV_CACHE_DIR": outside.get("UV_CACHE_DIR", str(ROOT / ".uv" / "cache")),
    }
    url = f"http://127.0.0.1:{port}"
    stands_for = {
        "http://127.0.0.1:8000": url,
        "http://localhost:8000": url,
        "https://example.org": f"http://127.0.0.1:{free_port()}",
        "nats://…": nats.url,
    }
    made = Reader(clone, own, stands_for)
    with made.log.open("wb") as log:
        running = subprocess.Popen(
            ["bash", "-c", START], cwd=clone, env=own, stdout=log, stderr=log, start_new_session=True
        )
    try:
        eventually(lambda: "Jelmore is running" in made.log.read_text() or running.poll() is not None, READY_SECONDS)
        assert "Jelmore is running" in made.log.read_text(), made.log.read_text()[-3000:]
        yield made
    finally:
        os.killpg(running.pid, signal.SIGINT)
        running.wait(30)


def test_the_readme_begins_with_one_command() -> None:
    assert next(block.text.strip() for block in blocks("README.md")) == START


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_is_shell_and_its_mark_is_known(block: Block) -> None:
    looked = subprocess.run(["bash", "-n", "-c", block.text], capture_output=True, text=True, timeout=10, check=False)
    assert looked.returncode == 0, looked.stderr
    assert block.mark in MARKS, f"{block} is marked {block.mark}; tests/shell_blocks.py knows {MARKS}"


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    assert [str(block) for block in fenced(page) if not block.language] == []


@pytest.mark.parametrize("page", RUN)
def test_what_a_page_says_to_do_works(page: str, reader: Reader) -> None:
    if not reader.environment.get("KEY"):
        reader.copy(next(block for block in blocks("README.md") if "export KEY" in block.text))
    before = dict(reader.environment)
    for block in blocks(page):
        if block.mark == "endless":
            reader.watch(block)
        elif block.mark in LITERAL and block.text.strip() != START:
            reader.copy(block)
    reader.environment = before


@pytest.mark.parametrize("block", [block for block in ALL if block.mark == "make"], ids=str)
def test_targets_exist(block: Block) -> None:
    for command in block.commands():
        words = shlex.split(command, comments=True)
        looked = subprocess.run(
            ["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
        assert words[0] == "make"
        assert looked.returncode == 0, looked.stderr
