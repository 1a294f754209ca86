"""docker-compose.yml without containers: each service of ours as a plain process with the command line and the environment it has
there, servers and nginx on loopback. Only names of hosts, ports and folders differ, and times are those of other tests.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml

from jelmore.embedded import Nats, Valkey
from jelmore.embedded.server import free_port
from runner.marks import kill
from tests.checks import eventually
from tests.client import Client
from tests.leaks import KNOWN
from tests.member import ROOT, Member
from tests.needs import needs
from tests.service import FAST_TIMES, FULL_LENGTH, NO_RATE_LIMITS, READY_SECONDS, Service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

COMPOSE: Final[dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS: Final = {
    name: each for name, each in COMPOSE["services"].items() if each.get("image") == COMPOSE["x-jelmore"]["image"]
}
KEY: Final = "a-key-of-the-topology-s-tests"
KEYS: Final = json.dumps({KEY: {"permissions": ["admin"], "name": "ops"}})
VARIABLE: Final = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")
METRICS: Final = ("metrics are shown", "METRICS_PORT cannot be used: no metrics")
"""One of these is said at each start."""
NGINX: Final = """
daemon off;
pid FOLDER/nginx.pid;
error_log FOLDER/error.log warn;
events { worker_connections 1024; }
http {
  client_body_temp_path FOLDER/body;
  proxy_temp_path FOLDER/proxy;
  fastcgi_temp_path FOLDER/fastcgi;
  uwsgi_temp_path FOLDER/uwsgi;
  scgi_temp_path FOLDER/scgi;
  upstream jelmore { WEBS }
  upstream flower { server 127.0.0.1:FLOWER; }
  include FOLDER/jelmore.conf;
}
"""


def filled(text: str, variables: Mapping[str, str]) -> str:
    """Fill in variables as Docker Compose does. Raises KeyError for one that must be set and is not."""

    def value(found: re.Match[str]) -> str:
        name, how, otherwise = found.groups()
        if name not in variables and how != "-":
            raise KeyError(f"{name}: {otherwise}")
        return variables.get(name, otherwise)

    return VARIABLE.sub(value, text)


def environment_of(name: str, variables: Mapping[str, str]) -> dict[str, str]:
    """Return what a service of ours finds in its environment."""
    return {each: filled(str(value), variables) for each, value in OURS[name].get("environment", {}).items()}


def module_of(name: str) -> tuple[str, ...]:
    """Return a service's command line as a module of this Python's and its arguments."""
    command = [str(word) for word in OURS[name]["command"]]
    return tuple(command[2:] if command[:2] == ["python", "-m"] else command)


@dataclass
class Topology:
    """All of it. `members`: each replica by its name."""

    home: Path
    service: Service
    ports: dict[str, int]
    nginx_port: int
    members: dict[str, Member] = field(default_factory=dict)
    _starts: Counter[str] = field(default_factory=Counter)

    @property
    def client(self) -> Client:
        """Speaks through nginx, as the world does."""
        return Client(self.nginx_port, KEY)

    def requests(self) -> list[dict[str, Any]]:
        """Return what nginx has written about requests."""
        return [json.loads(line) for line in (self.home / "nginx" / "access.log").read_text().splitlines()]

    def start(self, name: str) -> None:
        """Start a member."""
        self.members[name].start()
        self._starts[name] += 1

    def wait_ready(self, name: str) -> None:
        """Wait until a member is of use."""
        member = self.members[name]
        if name.startswith("worker"):
            eventually(lambda: self.service.is_taking(f"worker-{member.pid}", member), READY_SECONDS)
        elif name.startswith("jelmore-api"):
            eventually(lambda: self._is_ready(name), READY_SECONDS)
        elif name == "flower":
            eventually(lambda: self.client.request("GET", "/flower/").status == 401, READY_SECONDS)
        else:
            eventually(lambda: self._has_begun(name), READY_SECONDS)

    def restart(self, name: str) -> int:
        """Ask a member to leave, and start it again as soon as it has; return its exit code."""
        member = self.members[name]
        member.signal(signal.SIGTERM)
        code = member.wait(30)
        self.start(name)
        self.wait_ready(name)
        return code

    def _is_ready(self, name: str) -> bool:
        assert self.members[name].alive, self.members[name].said()[-3000:]
        try:
            return Client(self.ports[name], None).request("GET", "/health/ready", timeout=3).status == 200
        except OSError:
            return False

    def _has_begun(self, name: str) -> bool:
        """Whether a member has said that it begins, as often as it was started."""
        member = self.members[name]
        assert member.alive, member.said()[-3000:]
        return sum(line["event"] in METRICS for line in member.lines()) == self._starts[name]


@contextmanager
def composed(home: Path, database_url: str) -> Iterator[Topology]:
    """Start servers, all services with their replicas, and nginx in front."""
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)
    with ExitStack() as stack:
        valkey, nats = Valkey(home / "servers", fast=True), Nats(home / "nats", fast=True)
        for server in (valkey, nats):
            server.start()
            stack.callback(server.stop)
        service = Service(home, valkey, database_url)
        replicas = {
            f"{name}-{number}" if count > 1 else name: name
            for name, each in OURS.items()
            if name != "migrate"
            for count in [each.get("deploy", {}).get("replicas", 1)]
            for number in range(1, count + 1)
        }
        ports = {replica: free_port() for replica in replicas}
        topology = Topology(home, service, ports, free_port())
        addresses = {
            r"postgresql://jelmore:[^@]*@postgres:5432/jelmore": database_url,
            r"redis://valkey:6379/0": valkey.url,
            r"nats://nats:4222": nats.url,
        }
        stack.callback(_stop, topology)
        for replica, name in replicas.items():
            env = _environment(topology, name, replica, addresses)
            KNOWN.know_settings(env)
            topology.members[replica] = Member(replica, module_of(name), env, home / f"{replica}.log")
            topology.start(replica)
        stack.enter_context(_nginx(topology))
        for replica in replicas:
            topology.wait_ready(replica)
        yield topology


def _environment(topology: Topology, name: str, replica: str, addresses: Mapping[str, str]) -> dict[str, str]:
    own = environment_of(
        name, {"API_KEYS": KEYS, "POSTGRES_PASSWORD": "unused", "FLOWER_BASIC_AUTH": "ops:a-login-of-flower"}
    )
    for pattern, address in addresses.items():
        own = {each: re.sub(pattern, address.replace("\\", r"\\"), value) for each, value in own.items()}
    here = os.path.dirname(sys.executable)  # noqa: PTH120  (as it was called, not what a link points to)
    port = str(topology.ports[replica])
    place = {"API_HOST": "127.0.0.1", "FLOWER_ADDRESS": "127.0.0.1", "METRICS_PORT": str(topology.nginx_port + 1)}
    place["FLOWER_PORT" if name == "flower" else "PORT"] = port
    return {
        "PATH": os.pathsep.join([here, os.defpath]),
        "HOME": str(topology.home),
        "LANG": "C.UTF-8",
        "JELMORE_HOME": str(topology.home),
        "SESSION_ROOTS": json.dumps([str(topology.home)]),
        "PROGRAMS_ENABLED": "shell",
        "DEFAULT_PROGRAM": "shell",
        "PYTHONDONTWRITEBYTECODE": "1",
        **({} if FULL_LENGTH else FAST_TIMES),
        **NO_RATE_LIMITS,
        **own,
        **place,
    }


@contextmanager
def _nginx(topology: Topology) -> Iterator[None]:
    """Run nginx with the file that containers are given, its port and its log elsewhere."""
    nginx, folder = needs("nginx"), topology.home / "nginx"
    folder.mkdir()
    folder.chmod(0o755)
    own = (ROOT / "deploy" / "nginx" / "jelmore.conf").read_text()
    own = own.replace("listen 8080;", f"listen 127.0.0.1:{topology.nginx_port};").replace(
        "/dev/stdout", f"{folder}/access.log"
    )
    (folder / "jelmore.conf").write_text(own)
    webs = " ".join(
        f"server 127.0.0.1:{port} max_fails=0;"
        for name, port in topology.ports.items()
        if name.startswith("jelmore-api")
    )
    text = NGINX.replace("WEBS", webs).replace("FLOWER", str(topology.ports["flower"])).replace("FOLDER", str(folder))
    (folder / "nginx.conf").write_text(text)
    command = [nginx, "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)


def _stop(topology: Topology) -> None:
    for member in topology.members.values():
        member.signal(signal.SIGTERM)
    for member in topology.members.values():
        member.stop()
    for left in topology.service.leftovers():
        kill(left)
    topology.service.refuse_leaks()
