"""`make load`: an installation of its own under as many users as saturate the machine; a report page with plots.

Exit code 1 if anything failed, or a process of the service goes on growing. With --url another installation is driven, whose
memory nobody here can see; its key stands in the variable LOAD_KEY. It should have no rate limits for that key.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from core.settings import Settings, environment, load_settings
from jelmore.embedded import Postgres
from migrations.__main__ import upgrade
from tests.checks import family
from tests.load.report import Run, Sample, write
from tests.service import ADA, FAST_TIMES, Service, installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE: Final = Path(__file__).parent
SAMPLE_SECONDS: Final = 1.0
AS_IN_PRODUCTION: Final = {name: str(Settings.model_fields[name.lower()].default) for name in FAST_TIMES}
INSTALLATION: Final = {
    "WORKER_SLOTS": "64",
    "WEB_CONCURRENCY": "2",
    "MAX_CONCURRENT_SESSIONS": "100000",
    "REDIS_ENDED_TTL_SECONDS": "60",  # what Redis keeps of ended sessions levels off within the run
}


def main() -> int:
    """Run the load; write the report; say in words what came of it."""
    options = _options()
    out: Path = options.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    if options.url:
        run = drive(options, options.url, environment().get("LOAD_KEY", ""), {})
    else:
        with standing() as (service, postgres):
            pids = {"web": service.web.pid, "worker": service.workers["one"].pid, "beat": service.beat.pid}
            servers = {"valkey": service.valkey.process, "postgres": postgres.process}
            pids |= {name: process.pid for name, process in servers.items() if process is not None}
            run = drive(options, f"http://127.0.0.1:{service.port}", ADA, pids)
    for line in run.verdicts():
        print(line)
    print(f"Report: {write(run, out)}")
    return 0 if run.is_good() else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--seconds", type=int, default=300, help="how long (300)")
    parser.add_argument("--users", type=int, default=64, help="how many at once (64)")
    parser.add_argument("--out", type=Path, default=Path("build/load"), help="where the report goes (build/load)")
    parser.add_argument("--url", help="drive this installation instead of one of its own")
    return parser.parse_args()


@contextmanager
def standing() -> Iterator[tuple[Service, Postgres]]:
    """An installation that runs: servers, two web processes, a worker with 64 slots, beat. All of it is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="jelmore-load-"))
    postgres = Postgres(home / "servers")
    try:
        postgres.start()
        upgrade(load_settings({"DATABASE_URL": postgres.url}).database_url)
        with installed(home / "service", postgres.url, **AS_IN_PRODUCTION, **INSTALLATION) as service:
            service.start("one")
            yield service, postgres
    finally:
        postgres.stop()
        shutil.rmtree(home, ignore_errors=True)


@dataclass
class Memory:
    """What processes have for themselves, over time."""

    pids: Mapping[str, int]
    samples: list[Sample] = field(default_factory=list)

    def look(self, at: float) -> None:
        """Add a sample."""
        for name, pid in self.pids.items():
            # A worker's family are its sessions too; they are none of its memory.
            pids = [pid] if name == "worker" else family(pid)
            self.samples.append(Sample(name, at, sum(map(private_bytes, pids)) / 2**20))


def private_bytes(pid: int) -> int:
    """Return a process's own memory: neither files nor what it shares with others; 0 if it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 0


def drive(options: argparse.Namespace, url: str, key: str, pids: Mapping[str, int]) -> Run:
    """Have locust drive an installation, and look at its memory meanwhile."""
    words = [
        *(sys.executable, "-m", "locust", "-f", os.fspath(HERE / "locustfile.py"), "--headless", "--only-summary"),
        *("-u", str(options.users), "-r", str(max(1, options.users // 8)), "-t", f"{options.seconds}s"),
        *("--host", url, "--csv", os.fspath(options.out / "locust"), "--csv-full-history", "--exit-code-on-error", "0"),
    ]
    memory, began = Memory(pids), time.time()
    with (options.out / "locust.log").open("wb") as log:
        env = environment() | {"LOAD_KEY": key, "PYTHONPATH": os.fspath(HERE.parents[1])}
        locust = subprocess.Popen(words, env=env, stdout=log, stderr=log)
        try:
            while locust.poll() is None and time.time() - began < options.seconds + 120:
                memory.look(time.time())
                time.sleep(SAMPLE_SECONDS)
        finally:
            locust.terminate()
            locust.wait(30)
    if locust.returncode != 0:
        raise SystemExit((options.out / "locust.log").read_text(errors="replace")[-4000:])
    return Run.read(options.out / "locust", memory.samples, users=options.users, seconds=options.seconds)


if __name__ == "__main__":
    sys.exit(main())
