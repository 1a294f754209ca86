"""Claude Code, or what stands in for it, driven by a test over its pipes: as the service drives it, without the service.

The real one runs with an environment from nothing, a home and a configuration directory of its own, a key that opens nothing, the
scripted API as its model and as its proxy: it reaches nothing but loopback, whatever it tries.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID, uuid4

import pytest

from core.claude_options import Allowed, ClaudeOptions
from core.settings import environment
from runner.programs.claude_code import messages
from runner.programs.claude_code.dialogue import INITIALIZE, Dialogue
from runner.programs.claude_code.invocation import Account, Beginning, command_line, variables
from runner.programs.claude_code.said import Asked, Became, Doing, Printed, Ready, Said, TurnEnded
from tests.checks import eventually
from tests.leaks import KNOWN
from tests.programs.messages_api import DUMMY_KEY, MessagesApi

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STUB: Final = Path(__file__).parent / "programs" / "claude_stub.py"
MODEL: Final = "claude-sonnet-4-5"
ANSWER_SECONDS: Final = 20.0
"""Within what a turn ends: it lasts half a second on a machine with nothing else to do."""
LEAVE_SECONDS: Final = 5.0
_MISSING: Final = "Claude Code (the extra `claude`) is not installed"

S = TypeVar("S", bound="Said")


class EndedError(RuntimeError):
    """The process is gone; the words are its last."""


def real_claude() -> Path:
    """Return the executable the extra `claude` brings. Where it is missing: skip the test, or fail it where CI is set."""
    package = importlib.util.find_spec("claude_agent_sdk")
    for place in (package.submodule_search_locations or ()) if package is not None else ():
        if (found := Path(place) / "_bundled" / "claude").is_file():
            return found
    if environment().get("CI"):
        pytest.fail(_MISSING, pytrace=False)
    pytest.skip(_MISSING)


@pytest.fixture(params=["stub", "real"])
def claude(request: pytest.FixtureRequest) -> Path:
    """Both programs: what holds for one must hold for the other, or the fast tests prove nothing."""
    return STUB if request.param == "stub" else real_claude()


@pytest.fixture(scope="module")
def messages_api() -> Iterator[MessagesApi]:
    """A model's API that does what is said to it; fails if anything but the API was asked for."""
    KNOWN.know(DUMMY_KEY, "the key of the model's API")
    with MessagesApi() as api:
        yield api
    assert api.strays == [], "asked for what is not there"


def confined(api: MessagesApi) -> dict[str, str]:
    """Return the variables by which a program finds no way to any other network."""
    return {"HTTPS_PROXY": api.url, "HTTP_PROXY": api.url, "NO_PROXY": "127.0.0.1,nothing.invalid"}


@dataclass
class Agent:
    """One process. `said`: what followed from its lines, as the service understands them."""

    program: Path
    api: MessagesApi
    home: Path
    beginning: Beginning = field(default_factory=lambda: Beginning(uuid4()))
    options: ClaudeOptions = field(default_factory=lambda: ClaudeOptions(model=MODEL))
    key: str = DUMMY_KEY
    max_retries: int = 4
    said: list[Said] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)

    def __post_init__(self) -> None:
        self.workspace, self.config = self.home / "workspace", self.home / "config"
        self.workspace.mkdir(parents=True, exist_ok=True)
        self._dialogue = Dialogue()
        self._errors = (self.home / "stderr").open("ab")
        self.process = subprocess.Popen(
            command_line(self.program, self.beginning, self.options, Allowed()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=self.workspace,
            env=self._env(),
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _env(self) -> dict[str, str]:
        account = Account(self.key, self.api.url, self.max_retries)
        usual = {"PATH": os.defpath, "HOME": str(self.home), "LANG": "C.UTF-8"}
        return {**usual, **confined(self.api), **variables(account, self.config)}

    def _read(self) -> None:
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 65536):
            self.raw += data
            self.said.extend(self._dialogue.take(data))
        self.said.extend(self._dialogue.end())

    # Speaking.

    def tell(self, line: bytes) -> None:
        """Write a line as it is."""
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def start(self) -> Ready:
        """Wait until it listens."""
        self.tell(messages.control(INITIALIZE, "initialize", hooks=None))
        return self.hear(Ready)

    def say(self, text: str, message_id: UUID | None = None, mode: str = "queue") -> UUID:
        """Say something to the model; return under which id."""
        message_id = message_id or uuid4()
        self.tell(messages.user(text, message_id, mode))
        return message_id

    def turn(self, text: str) -> TurnEnded:
        """Say something, and wait until it waits for more."""
        before = len(self.said)
        self.say(text)
        return self.over(before)

    def interrupt(self) -> None:
        self.tell(messages.control(f"interrupt-{uuid4()}", "interrupt"))

    # Listening.

    def over(self, since: int) -> TurnEnded:
        """Wait for the end of a turn that had not ended when it had said so much; return how it ended."""
        ended = self.hear(TurnEnded, since=since)
        self.hear(Became, lambda became: became.doing is Doing.IDLE, since=self.said.index(ended))
        return ended

    def hear(self, kind: type[S], wanted: Callable[[S], bool] = lambda _: True, *, since: int = 0) -> S:
        """Wait for something it says."""

        def heard() -> S | None:
            for each in self.said[since:]:
                if isinstance(each, kind) and wanted(each):
                    return each
            if not self._reader.is_alive():
                raise EndedError(self.tail())
            return None

        try:
            return eventually(heard, ANSWER_SECONDS)
        except AssertionError as error:
            raise AssertionError(f"no {kind.__name__}: {self.tail()}") from error

    @property
    def is_idle(self) -> bool:
        """Whether it lives and waits."""
        states = [each.doing for each in self.said if isinstance(each, Became)]
        return self.process.poll() is None and states[-1:] in ([], [Doing.IDLE])

    def asked(self, since: int = 0) -> Asked:
        """Wait for a question."""
        return self.hear(Asked, since=since)

    def text(self, since: int = 0) -> str:
        """Return what a person would have read."""
        return "".join(each.text for each in self.said[since:] if isinstance(each, Printed))

    def tail(self) -> str:
        """Return the last it said, for whoever wonders."""
        return f"{bytes(self.raw[-2000:])!r} {(self.home / 'stderr').read_bytes()[-500:]!r}"

    # Ending.

    def leave(self) -> int:
        """Close its input; return how it ended."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(LEAVE_SECONDS)
        self._reader.join(LEAVE_SECONDS)
        return code

    def kill(self) -> None:
        """End it as nothing does that could say goodbye."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(LEAVE_SECONDS)

    def close(self) -> None:
        """Be done with it, whatever happened."""
        self.kill()
        self._reader.join(LEAVE_SECONDS)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:  # what was still to be written to it
                pass
        self._errors.close()


@pytest.fixture
def agent(claude: Path, messages_api: MessagesApi, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    """Return a maker of processes that share a home; all are ended afterwards."""
    made: list[Agent] = []

    def make(**more: Any) -> Agent:
        made.append(Agent(claude, messages_api, tmp_path, **more))
        made[-1].start()
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="module")
def _shared() -> Iterator[dict[Path, Agent]]:
    made: dict[Path, Agent] = {}
    yield made
    for each in made.values():
        each.close()


@pytest.fixture
def conversing(
    claude: Path, messages_api: MessagesApi, tmp_path_factory: pytest.TempPathFactory, _shared: dict[Path, Agent]
) -> Agent:
    """A process in the midst of a conversation that the tests of a module share: a start costs a second."""
    if claude in _shared and not _shared[claude].is_idle:  # what a test that failed has left
        _shared.pop(claude).close()
    if claude not in _shared:
        _shared[claude] = Agent(claude, messages_api, tmp_path_factory.mktemp("agent"), max_retries=1)
        _shared[claude].start()
    return _shared[claude]
