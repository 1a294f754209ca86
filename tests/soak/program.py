"""What a soak's sessions run: prints numbered lines, answers each input with its number, and writes down what it does.

The record outlives any kill -9 because it is written to files outside the workspace, by plain write(2): what the kernel has taken
survives its process. (Only a machine that loses power would need fsync.) Standard library alone, started with -I -S.

    <record>.<run>.said   every byte it sets out to print, written before it is printed
    <record>.<run>.done   how many of them write() has taken, as text
    <record>.<run>.heard  every line of input, written before it is answered; ^D for the end of input
    <record>.<run>.twice  made if another process of the session still runs: it holds the lock on <record>.lock
"""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import re
import select
import signal
import sys
import termios
import time
import tty

READ_BYTES = 65536
END_OF_INPUT = b"\x04"
LIMIT_SECONDS = 600.0


class Record:
    """The files of this run."""

    def __init__(self, path: str) -> None:
        for run in itertools.count(1):
            try:
                self.said = os.open(f"{path}.{run}.said", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND)
            except FileExistsError:
                continue
            break
        self.run = run
        self.lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(os.open(f"{path}.{run}.twice", os.O_WRONLY | os.O_CREAT))
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self.done = os.open(f"{path}.{run}.done", flags)
        self.heard = os.open(f"{path}.{run}.heard", flags)
        self.size = 0


class Program:
    """Numbers what it prints and what it hears."""

    def __init__(self, record: Record, choice: random.Random) -> None:
        self.record = record
        self.choice = choice
        self.lines = 0
        self.inputs = 0
        self.rest = b""

    def say(self, text: bytes) -> None:
        """Print a numbered line, in one piece or in two."""
        line = b"%d.%d %s\n" % (self.record.run, self.lines, text)
        self.lines += 1
        os.write(self.record.said, line)
        cut = self.choice.randrange(len(line)) if self.choice.random() < 0.1 else 0
        self.print(line[:cut])
        if cut and self.choice.random() < 0.5:
            time.sleep(0.15)  # longer than the beginning of a character is held back
        self.print(line[cut:])

    def print(self, piece: bytes) -> None:
        """Write all of it, and down how far it came."""
        while piece:
            taken = os.write(1, piece)
            piece = piece[taken:]
            self.record.size += taken
            os.pwrite(self.record.done, b"%020d" % self.record.size, 0)

    def hear(self, seconds: float) -> None:
        """Take input for so long, and answer it."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([0], [], [], left)[0]:
                chunk = os.read(0, READ_BYTES)
                *lines, self.rest = re.split(rb"[\r\n]", self.rest + chunk)
                for line in lines:
                    self.answer(line)
                if not chunk or END_OF_INPUT in self.rest:
                    os.write(self.record.heard, END_OF_INPUT + b"\n")
                    self.say(b"end of input")
                    sys.exit(0)

    def answer(self, line: bytes) -> None:
        """Echo one line with its number; `quit <code>` ends the program."""
        os.write(self.record.heard, line + b"\n")
        self.say(b"heard %d %s" % (self.inputs, line))
        self.inputs += 1
        if line.startswith(b"quit "):
            sys.exit(int(line[5:]))

    def text(self) -> bytes:
        """Return something to print: mostly short, now and then long, no text, or a flood."""
        dice = self.choice.random()
        if dice < 0.004:
            return b"%x" % self.choice.getrandbits(8 * self.choice.randrange(60_000, 150_000))
        if dice < 0.05:
            return b"%x" % self.choice.getrandbits(8 * 2_000)
        if dice < 0.2:
            return self.choice.randbytes(self.choice.randrange(40)).replace(b"\n", b"")
        return "größer ".encode() * self.choice.randrange(1, 20)


def leave_a_daemon() -> None:
    """Start something that holds the output and outlives its parents, unless somebody sees to it."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", "1000"])
        os._exit(0)
    os.wait()


def main() -> None:
    """Print and listen until told to stop, or until the lines are through."""
    given = os.environ  # noqa: TID251  (a session's variables are what this program is told by)
    lines, pause, habits = int(given["SOAK_LINES"]), float(given["SOAK_PAUSE"]), given["SOAK_HABITS"]
    if "deaf" in habits:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "terminal" in habits:
        tty.setraw(0, termios.TCSANOW)  # not TCSAFLUSH, which throws away what was typed already
    program = Program(Record(given["SOAK_RECORD"]), random.Random(given["SOAK_SEED"]))
    if "daemon" in habits:
        leave_a_daemon()
    until = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < until and (not lines or program.lines < lines):
        program.say(program.text())
        program.hear(program.choice.uniform(0, 2 * pause))
    if "crash" in habits:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
