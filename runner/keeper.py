"""The keeper: one small process beside each worker that starts the sessions' processes and sees to it that none survives.

Run as `python -I -S keeper.py <descriptor of a stream socket>` by `runner.keeper_link`; imports little, so that it stays
near 10 MB. It is a subreaper: whatever a session leaves behind becomes its child. If the worker dies (the socket closes),
stops renewing its lease (whatever the worker does by then: stopped, swapping, blocked), or anything here fails, it kills
everything and leaves. Linux only.

In one file, because with -I -S it can import nothing of ours. Messages are 4 bytes of length and a marshalled tuple:

    to the keeper    ("spawn", request, tag, argv, env, limits, nice, terminal, max_processes, user, sandboxed) + descriptors:
                     a terminal or three pipes, then the directory to start in
                     ("signal", tag, number, whole)  ("end", tag)  ("lease", boot-time seconds)
    from the keeper  ("spawned", request, pid)  ("failed", request, errno, step)  ("exited", tag, code, signal number)
                     ("empty", tag)  ("many", tag, count)
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import _socket
import ctypes
import fcntl
import marshal
import os
import resource
import select
import sys
import time

TYPE_CHECKING = False  # importing typing for it would cost a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TAG_BASE = 1 << 40  # an RLIMIT_RTTIME no scheduler ever reaches: inherited through fork, exec, setsid and `env -i`
MAX_UNSENT = 8 * 1024 * 1024  # reports a stopped worker does not read; the lease ends that, this bounds it
COUNT_SECONDS = 1.0
ROUND_SECONDS = 0.005  # between two rounds of killing: the kernel needs a moment to let processes die
GIVE_UP_SECONDS = 20.0
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
PIPE = 0o010000
DIRECTORY = 9  # where a sandbox finds the descriptor of the directory it starts in
SO_PASS, CHUNK = _socket.CMSG_SPACE(4 * 8), 65536

keeper_pid = os.getpid()
prctl = ctypes.CDLL(None, use_errno=True).prctl


class Plan:
    """What to execute: the arguments of a spawn order."""

    def __init__(self, *order: Any) -> None:
        self.request, self.tag, self.argv, self.env, self.limits, *rest = order
        self.nice, self.terminal, self.max_processes, self.user, self.sandboxed = rest


class Session:
    """A session's main process, and what is known of it."""

    def __init__(self, plan: Plan, pid: int, gate: int) -> None:
        self.tag = plan.tag
        self.request = plan.request
        self.pid = pid
        self.gate = gate  # read end of the pipe that closes with exec, or brings the reason why not; -1 afterwards
        self.alive = True
        self.ending = False
        self.max_processes = plan.max_processes
        self.told_many = False
        self.sandboxed = plan.sandboxed  # the program in the sandbox, if the main process is the sandbox's; else None


class Keeper:
    """The loop and its tables."""

    def __init__(self, channel: _socket.socket) -> None:
        self.channel = channel
        self.incoming = bytearray()
        self.descriptors: list[int] = []
        self.outgoing = bytearray()
        self.sessions: dict[int, Session] = {}  # tag -> Session
        self.mains: dict[int, Session] = {}  # pid -> Session
        self.gates: dict[int, Session] = {}  # descriptor -> Session
        self.deadline: float | None = None
        self.next_count = 0.0
        self.poll = select.poll()
        self.wakes, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake)
        self.poll.register(channel.fileno(), select.POLLIN)
        self.poll.register(self.wakes, select.POLLIN)

    def run(self) -> None:
        """Serve until the worker is gone or the lease is over."""
        while True:
            ready = dict(self.poll.poll(self.pause()))
            if self.wakes in ready:
                os.read(self.wakes, CHUNK)
            for gate in [fd for fd in ready if fd in self.gates]:
                self.open_gate(self.gates[gate])
            if self.channel.fileno() in ready and not self.receive():
                return
            self.reap()
            self.end_sessions()
            self.count()
            self.send()
            if self.deadline is not None and boottime() >= self.deadline:
                return

    def pause(self) -> float | None:
        """Return how long nothing needs doing, in milliseconds."""
        if any(session.ending for session in self.sessions.values()):
            return ROUND_SECONDS * 1000
        waits = [self.deadline - boottime()] if self.deadline is not None else []
        if self.sessions:
            waits.append(self.next_count - time.monotonic())
        return max(0.0, min(waits)) * 1000 + 1 if waits else None

    # The channel.

    def receive(self) -> bool | None:
        """Take what the worker sent; return False when it is gone."""
        while True:
            try:
                chunk, ancillary, _, _ = self.channel.recvmsg(CHUNK, SO_PASS, _socket.MSG_CMSG_CLOEXEC)
            except BlockingIOError:
                return True
            except OSError:
                return False  # ECONNRESET: the worker died with reports unread
            for level, kind, packed in ancillary:
                if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                    self.descriptors += memoryview(packed[: len(packed) // 4 * 4]).cast("i").tolist()
            if not chunk:
                return False
            self.incoming += chunk
            self.obey_all()

    def obey_all(self) -> None:
        while len(self.incoming) >= 4:
            end = 4 + int.from_bytes(self.incoming[:4], "big")
            if len(self.incoming) < end:
                return
            name, *arguments = marshal.loads(self.incoming[4:end])
            del self.incoming[:end]
            ORDERS[name](self, *arguments)

    def report(self, *message: Any) -> None:
        """Queue a message for the worker; never blocks: a stopped worker must not stop the keeper."""
        body = marshal.dumps(message)
        self.outgoing += len(body).to_bytes(4, "big") + body
        if len(self.outgoing) > MAX_UNSENT:
            raise OverflowError("the worker reads nothing")

    def send(self) -> None:
        while self.outgoing:
            try:
                del self.outgoing[: self.channel.send(self.outgoing)]
            except BlockingIOError:
                break
        events = select.POLLIN | (select.POLLOUT if self.outgoing else 0)
        self.poll.modify(self.channel.fileno(), events)

    # Orders.

    def spawn(self, *order: Any) -> None:
        """Fork and execute; the answer comes when the exec went through, or did not."""
        plan = Plan(*order)
        wanted = 2 if plan.terminal else 4
        given, self.descriptors = self.descriptors[:wanted], self.descriptors[wanted:]
        gate, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            pid = os.fork()
        except OSError as fault:
            os.close(gate)
            self.report("failed", plan.request, fault.errno, "fork")
        else:
            if pid == 0:
                become(plan, theirs, given)
            session = Session(plan, pid, gate)
            self.sessions[plan.tag] = self.mains[pid] = self.gates[gate] = session
            self.poll.register(gate, select.POLLIN)
        for descriptor in (*given, theirs):
            os.close(descriptor)

    def signal(self, tag: int, number: int, whole: bool) -> None:
        """Send a signal to all of a session, or to its main process's group."""
        session = self.sessions.get(tag)
        if session is None:
            return
        main, *around = self.main_of(session)
        if whole:
            for pid in self.members(session).difference(around):
                send_signal(pid, number)
        elif session.alive:
            try:
                os.killpg(main, number)
            except OSError:
                send_signal(main, number)

    def end(self, tag: int) -> None:
        """Kill all that is left of a session; "empty" follows."""
        session = self.sessions.get(tag)
        if session is None:
            self.report("empty", tag)
        else:
            session.ending = True

    def lease(self, deadline: float) -> None:
        """Live until then, unless a later order says otherwise."""
        self.deadline = deadline

    # Children.

    def open_gate(self, session: Session) -> None:
        """The exec went through (end of the pipe), or brought the reason why not."""
        if session.gate < 0:
            return
        why = os.read(session.gate, 256)
        self.poll.unregister(session.gate)
        del self.gates[session.gate]
        os.close(session.gate)
        session.gate = -1
        if why:
            number, _, step = why.decode().partition(" ")
            self.report("failed", session.request, int(number), step)
            del self.sessions[session.tag], self.mains[session.pid]
        else:
            self.report("spawned", session.request, session.pid)

    def reap(self) -> None:
        """Take the exits of all children; those of main processes are news."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            session = self.mains.get(pid)
            if session is None:
                continue
            self.open_gate(session)  # before its exit: a process may be gone before its exec was told
            if self.mains.pop(pid, None) is not None:
                session.alive = False
                code, number = (None, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else (os.WEXITSTATUS(status), None)
                self.report("exited", session.tag, code, number)

    def members(self, session: Session) -> set[int]:
        """Return the pids of a session: its main process's descendants and the orphans that carry its tag."""
        roots = [session.pid] if session.alive else []
        roots += [pid for pid in children(os.getpid()) if pid not in self.mains and tag_of(pid) == session.tag]
        return descendants(roots)

    def main_of(self, session: Session) -> list[int]:
        """Return the main process, and what stands around it: signals to a sandbox would end it, not reach the program.

        Before the program runs, the sandbox is all there is to signal. It has a process outside and one inside, the
        parent of all the others there; the program is its first child.
        """
        around = [session.pid]
        while session.sandboxed and session.alive and len(around) < 3:
            below = children(around[0])
            if not below:
                return [session.pid]
            around.insert(0, below[0])
        return around

    def end_sessions(self) -> None:
        """One round of killing for each session that is to end."""
        for session in [session for session in self.sessions.values() if session.ending]:
            if self.kill(self.members, session) == 0 and not session.alive:
                del self.sessions[session.tag]
                self.report("empty", session.tag)

    def kill(self, find: Callable[..., set[int]], *of: Session) -> int:
        """Stop all that `find` finds, until it finds no more, then kill it; return how many there were.

        Stopped first: what is killed one by one forks faster than it dies. Bounded: a fork bomb gets another round.
        """
        found: set[int] = set()
        for _ in range(20):
            new = find(*of) - found
            if not new:
                break
            for pid in new:
                send_signal(pid, signal.SIGSTOP)
            found |= new
        for pid in found:
            send_signal(pid, signal.SIGKILL)
        return len(found)

    def count(self) -> None:
        """Tell of sessions with too many processes, once each."""
        now = time.monotonic()
        if now < self.next_count:
            return
        self.next_count = now + COUNT_SECONDS
        for session in self.sessions.values():
            if session.max_processes and session.alive and not session.told_many:
                number = len(self.members(session)) - (2 if session.sandboxed else 0)
                if number > session.max_processes:
                    session.told_many = True
                    self.report("many", session.tag, number)

    def end_everything(self) -> None:
        """Kill every descendant, whatever it belongs to."""
        give_up = time.monotonic() + GIVE_UP_SECONDS
        while time.monotonic() < give_up:
            killed = self.kill(lambda: descendants(children(os.getpid())))
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                if not killed:
                    return
            time.sleep(ROUND_SECONDS)


ORDERS = {"spawn": Keeper.spawn, "signal": Keeper.signal, "end": Keeper.end, "lease": Keeper.lease}


def become(plan: Plan, theirs: int, given: list[int]) -> None:
    """In the child: become the session's main process, or say why not and die. Never returns."""
    step = "setup"
    try:
        reset_signals()
        theirs = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 16)  # out of the way of 0, 1, 2
        step = "terminal" if plan.terminal else "pipes"
        directory = take_descriptors(plan, given)
        step = "limits"
        for kind, soft, hard in (*plan.limits, (resource.RLIMIT_RTTIME, TAG_BASE + plan.tag, TAG_BASE + plan.tag)):
            resource.setrlimit(kind, (soft, hard))
        os.nice(plan.nice)
        if plan.user:
            step = "user"
            become_user(*plan.user)
        step = "parent"  # after the user: a new one takes the signal back
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != keeper_pid:
            os._exit(127)
        step = "directory"
        os.fchdir(directory)
        step = "execute"
        if plan.sandboxed:
            look_for(plan.sandboxed)
        os.execve(plan.argv[0], plan.argv, plan.env)
    except BaseException as fault:
        os.write(theirs, f"{getattr(fault, 'errno', None) or 0} {step}".encode())
    os._exit(127)


def reset_signals() -> None:
    """Ignored signals stay ignored through exec: Python ignores SIGPIPE, the keeper some more."""
    signal.set_wakeup_fd(-1)
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP, 32, 33):  # 32 and 33 are the C library's
            signal.signal(number, signal.SIG_DFL)


def take_descriptors(plan: Plan, given: list[int]) -> int:
    """Become the leader of a session with 0, 1 and 2 in their places; return the directory's descriptor."""
    *given, directory = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 16) for descriptor in given]
    if plan.terminal and not plan.sandboxed:
        os.login_tty(given[0])
        return directory
    os.setsid()  # in a sandbox it is the program that takes the terminal
    for number in (0, 1, 2):
        os.dup2(given[number % len(given)], number, inheritable=True)
    if plan.sandboxed:
        os.dup2(directory, DIRECTORY, inheritable=True)
    return directory


def look_for(program: str) -> None:
    """Fail as exec would: a sandbox around it could not tell."""
    if not os.access(program, os.X_OK):
        os.stat(program)
        raise PermissionError(13, "")


def become_user(uid: int, gid: int, groups: list[int]) -> None:
    """Give up being root for good: no program can become anybody else either. The pipes are the user's then."""
    for number in (0, 1, 2):
        if os.fstat(number).st_mode & 0o170000 == PIPE:
            os.fchown(number, uid, -1)  # so that it can open /dev/stderr
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def send_signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError:
        pass  # gone by itself


def children(pid: int) -> list[int]:
    """Return the children of all threads of a process."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as listed:
                found += map(int, listed.read().split())
    except OSError:
        pass  # gone
    return found


def descendants(roots: list[int]) -> set[int]:
    found: set[int] = set()
    queue = list(roots)
    while queue:
        pid = queue.pop()
        if pid not in found:
            found.add(pid)
            queue += children(pid)
    return found


def tag_of(pid: int) -> int | None:
    """Return the tag a process carries, or None."""
    try:
        limit = resource.prlimit(pid, resource.RLIMIT_RTTIME)[1]
    except PermissionError:
        limit = limit_of_another(pid) if os.geteuid() == 0 else -1
    except OSError:
        return None
    return limit - TAG_BASE if limit >= TAG_BASE else None


def limit_of_another(pid: int) -> int:
    """Read the limit of another user's process: in a container root may lack the right to ask for it."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as listed:
            hard = next(line for line in listed if line.startswith(b"Max realtime timeout")).split()[-2]
    except (OSError, StopIteration):
        return -1  # gone
    return int(hard) if hard.isdigit() else -1


def boottime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)  # only the worker ends the keeper
    signal.signal(signal.SIGCHLD, lambda *_: None)  # so that the wake-up descriptor hears of it
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)  # its memory holds what it was given to hand on
    channel = _socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(channel.fileno(), False)
    channel.setblocking(False)
    keeper = Keeper(channel)
    try:
        keeper.run()
    finally:
        keeper.end_everything()


if __name__ == "__main__":
    main()
