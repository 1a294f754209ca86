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

ROOT: Final = Path(__file__).parents[2]
LOCUST: Final = ROOT / ".uv" / "locust" / "bin" / "locust"
"""Installed by `make load`, out of the way of everything else."""
USERS: Final = Path(__file__).with_name("locustfile.py")
LEAVING_SECONDS: Final = 10
"""What users have for ending what they are at."""
SAMPLE_SECONDS: Final = 1.0
AS_IN_PRODUCTION: Final = {name: str(Settings.model_fields[name.lower()].default) for name in FAST_TIMES}
INSTALLATION: Final = {
    "WORKER_SLOTS": "64",
    "WEB_CONCURRENCY": "2",
    "MAX_CONCURRENT_SESSIONS": "100000",
    "REDIS_ENDED_TTL_SECONDS": "60",  # what Redis keeps of ended sessions levels off within the run
}


def main() -> int:
    """Run the load; write the report, beside it what the processes logged; say in words what came of it."""
    options = _options()
    out: Path = options.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    if options.url:
        run = drive(options, options.url, environment().get("LOAD_KEY", ""), {})
    else:
        with standing() as (service, postgres):
            run = drive(options, f"http://127.0.0.1:{service.port}", ADA, pids_of(service, postgres))
            for log in (*service.home.glob("*.log"), postgres.log):
                shutil.copy(log, out)
    for line in run.verdicts():
        print(line)
    print(f"Report: {write(run, out)}")
    return 0 if run.is_good else 1


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


def pids_of(service: Service, postgres: Postgres) -> dict[str, int]:
    """Return whose memory is looked at."""
    ours = {"web": service.web.pid, "worker": service.workers["one"].pid, "beat": service.beat.pid}
    servers = {"valkey": service.valkey.process, "postgres": postgres.process}
    return ours | {name: process.pid for name, process in servers.items() if process is not None}


def drive(options: argparse.Namespace, url: str, key: str, pids: Mapping[str, int]) -> Run:
    """Have locust drive an installation, and look at its memory meanwhile."""
    prefix = options.out / "locust"
    words = [
        *(os.fspath(LOCUST), "-f", os.fspath(USERS), "--host", url, "--headless", "--only-summary"),
        *("-u", str(options.users), "-r", str(max(1, options.users // 8)), "-t", f"{options.seconds}s"),
        *("--stop-timeout", str(LEAVING_SECONDS), "--exit-code-on-error", "0"),
        *("--csv", os.fspath(prefix), "--csv-full-history"),
    ]
    samples: list[Sample] = []
    log = options.out / "locust.log"
    with log.open("wb") as opened:
        env = environment() | {"LOAD_KEY": key, "PYTHONPATH": os.fspath(ROOT)}
        locust = subprocess.Popen(words, env=env, stdout=opened, stderr=opened)
        try:
            until = time.monotonic() + options.seconds + 120
            while locust.poll() is None and time.monotonic() < until:
                samples += [Sample(name, time.time(), mib(name, pid)) for name, pid in pids.items()]
                time.sleep(SAMPLE_SECONDS)
        finally:
            locust.terminate()
            locust.wait(30)
    if locust.returncode != 0:
        raise SystemExit(log.read_text(errors="replace")[-4000:])
    return Run.read(prefix, samples, users=options.users, seconds=options.seconds)


def mib(name: str, pid: int) -> float:
    """Return what a process and those below it have for themselves: neither files nor what they share with others."""
    # Below a worker are its sessions as well; they are none of its memory.
    return sum(map(_private_bytes, [pid] if name == "worker" else family(pid))) / 2**20


def _private_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    except OSError:
        return 0  # it is gone
    return 0


if __name__ == "__main__":
    sys.exit(main())
