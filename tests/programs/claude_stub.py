#!/usr/bin/env python3
"""A stand-in for Claude Code: its protocol (2.1.330) without a model, in plain Python of the system's, ready in a moment.

It does what the text says: @text, @slow, @bash, @tool, @status, @flaky, @hang, @recall as in model_script.py. Everything but
Read asks first. Not as the real one: messages that wait are not put together into one turn, and allowed rules name tools alone.
"""

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

Object = dict[str, Any]
FLAGS = dict(flag[2:].partition("=")[::2] for flag in sys.argv[1:] if flag.startswith("--"))
RETRIES = int(os.environ.get("CLAUDE_CODE_MAX_RETRIES", "10"))
ERRORS = {401: "authentication_failed", 429: "rate_limit", 529: "overloaded"}
COST = 0.01
CONVERSATIONS = Path(os.environ["CLAUDE_CONFIG_DIR"]) / "projects" / re.sub(r"[^a-zA-Z0-9]", "-", str(Path.cwd()))


class Interrupted(Exception):
    """The turn is to end."""


class Stub:
    def __init__(self, conversation: str) -> None:
        self.id, self.file = conversation, CONVERSATIONS / f"{conversation}.jsonl"
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.waiting: queue.Queue[tuple[str, str] | None] = queue.Queue()
        self.answers: dict[str, queue.Queue[Any]] = {}
        self.prompts: list[str] = []
        self.known: set[str] = set()
        self.turns, self.code = 0, 0
        self.unkept: Object | None = None
        for line in self.file.read_text().splitlines() if self.file.exists() else ():
            self.remember(json.loads(line))

    def remember(self, kept: Object) -> None:
        if kept["type"] == "user":
            self.known.add(kept["uuid"])
            self.prompts.append(kept["text"])

    def print(self, **line: object) -> None:
        with self.lock:
            print(json.dumps({**line, "session_id": self.id, "uuid": line.get("uuid", str(uuid.uuid4()))}), flush=True)

    def system(self, subtype: str, **more: object) -> None:
        self.print(type="system", subtype=subtype, **more)

    def state(self, state: str) -> None:
        if os.environ.get("CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS"):
            self.system("session_state_changed", state=state)

    def lifecycle(self, message: str, state: str) -> None:
        self.print(type="command_lifecycle", command_uuid=message, state=state)

    def pause(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Interrupted

    # What comes.

    def listen(self) -> None:
        for line in sys.stdin:
            try:
                self.take(json.loads(line)) if line.strip() else None
            except (ValueError, KeyError):
                sys.exit(f"Error parsing streaming input line: {line[:80]}")
        self.waiting.put(None)

    def take(self, line: Object) -> None:
        if line["type"] == "user":
            self.lifecycle(line["uuid"], "completed" if line["uuid"] in self.known else "queued")
            if line["uuid"] not in self.known:
                self.known.add(line["uuid"])
                self.stop.set() if line.get("priority") == "now" else None
                self.waiting.put((line["uuid"], line["message"]["content"]))
        elif line["type"] == "control_request":
            self.control(line["request_id"], line["request"]["subtype"])
        elif line["type"] == "control_response" and line["response"]["request_id"] in self.answers:
            self.answers[line["response"]["request_id"]].put(line["response"].get("response"))

    def control(self, request_id: str, subtype: str) -> None:
        about = {"claude_code_version": "2.1.330", "pid": os.getpid()} if subtype == "initialize" else {}
        answer = {"subtype": "success", "request_id": request_id, "response": about}
        self.print(type="control_response", response=answer)
        if subtype == "interrupt":
            self.stop.set()
        elif subtype == "end_session":
            os._exit(self.code)

    # What is done.

    def work(self) -> None:
        while (message := self.waiting.get()) is not None:
            self.stop.clear()
            self.turn(*message)
            if self.waiting.empty():
                self.state("idle")
        os._exit(self.code)

    def turn(self, message: str, text: str) -> None:
        self.state("running")
        self.lifecycle(message, "started")
        self.system("init", model=FLAGS.get("model", "stub"), tools=["Bash"], claude_code_version="2.1.330")
        self.print(type="user", message={"role": "user", "content": text}, uuid=message, isReplay=True)
        self.unkept = {"type": "user", "uuid": message, "text": text}
        try:
            outcome: Object = {"subtype": "success", **self.answer(text)}
        except Interrupted:
            outcome = {"subtype": "error_during_execution", "is_error": True, "terminal_reason": "aborted_streaming"}
        self.keep()
        self.prompts.append(text)
        self.turns += 1
        self.code = int(bool(outcome.get("is_error")))
        usage, cost = {"input_tokens": len(text), "output_tokens": 1}, COST * self.turns
        common = {"usage": usage, "total_cost_usd": cost, "num_turns": 1, "user_message_uuids": [message]}
        self.print(type="result", **{"is_error": False, **common, **outcome})
        self.lifecycle(message, "cancelled" if "terminal_reason" in outcome else "completed")

    def answer(self, text: str) -> Object:
        verb, _, rest = (re.findall(r"^@(.*)$", text, re.MULTILINE) or [f"text heard: {text}"])[-1].partition(" ")
        if verb == "hang":
            self.pause(1e6)
        if verb in ("status", "flaky", "cut"):
            return self.fail(verb, rest)
        if verb in ("bash", "tool"):
            name, _, given = (f"Bash {json.dumps({'command': rest})}" if verb == "bash" else rest).partition(" ")
            rest = "tool said: " + self.use(name, json.loads(given or "{}"))
        if verb == "recall":
            rest = "you said: " + " | ".join(self.prompts)
        number, seconds = rest.split() if verb == "slow" else (0, 0)
        words = [f"word{each + 1} " for each in range(int(number))] or [rest]
        message = f"msg_{uuid.uuid4().hex}"
        self.print(type="stream_event", event={"type": "message_start", "message": {"id": message, "content": []}})
        self.print(
            type="stream_event", event={"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}
        )
        for word in words:
            delta = {"type": "text_delta", "text": word}
            self.print(type="stream_event", event={"type": "content_block_delta", "index": 0, "delta": delta})
            self.pause(float(seconds))
        self.said({"type": "text", "text": "".join(words)}, message)
        self.print(type="stream_event", event={"type": "message_stop"})
        return {"result": "".join(words)}

    def keep(self, *lines: Object) -> None:
        """Write down: as the real one, the user's message not before the first block of an answer is whole."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a") as file:
            for line in (self.unkept, *lines):
                file.write(json.dumps(line, separators=(",", ":")) + "\n" if line else "")
        self.unkept = None

    def said(self, block: Object, message_id: str | None = None) -> None:
        message = {"id": message_id or f"msg_{uuid.uuid4().hex}", "role": "assistant", "content": [block]}
        self.keep({"type": "assistant", "message": message})
        self.print(type="assistant", message=message, parent_tool_use_id=None)

    def fail(self, verb: str, rest: str) -> Object:
        status, times = (rest.split() if verb == "flaky" else (rest, RETRIES)) if verb != "cut" else (0, rest or 1)
        kind = ERRORS.get(int(status), "unknown")
        for attempt in range(int(times) if int(status) in (0, *ERRORS) else 0):
            told = {"attempt": attempt + 1, "max_retries": RETRIES, "retry_delay_ms": 100, "error": kind}
            self.system("api_retry", error_status=int(status) or None, **told)
            self.pause(0.1)
        if verb != "status":
            self.said({"type": "text", "text": "recovered"})
            return {"result": "recovered"}
        return {"is_error": True, "api_error_status": int(status), "result": f"API Error: {status}"}

    def use(self, name: str, wanted: Object) -> str:
        tool_id = f"toolu_{uuid.uuid4().hex}"
        self.said({"type": "tool_use", "id": tool_id, "name": name, "input": wanted})
        is_allowed = name in ("Read", *FLAGS.get("allowedTools", "").split(","))
        decision: Object = {"behavior": "allow"} if is_allowed else self.ask(name, wanted, tool_id)
        content = str(decision.get("message", "denied"))
        if decision["behavior"] == "allow":
            given: Object = decision.get("updatedInput") or wanted
            content = self.run(given["command"]) if name == "Bash" else json.dumps(given.get("answers", given))
        result = {"type": "tool_result", "tool_use_id": tool_id, "content": content}
        self.print(type="user", message={"role": "user", "content": [result]}, parent_tool_use_id=None)
        return content

    def ask(self, name: str, wanted: Object, tool_id: str) -> Object:
        request_id = str(uuid.uuid4())
        answers = self.answers[request_id] = queue.Queue()
        self.state("requires_action")
        request = {"subtype": "can_use_tool", "tool_name": name, "input": wanted, "tool_use_id": tool_id}
        self.print(type="control_request", request_id=request_id, request={**request, "permission_suggestions": []})
        while answers.empty():
            if self.stop.wait(0.02):
                self.print(type="control_cancel_request", request_id=request_id)
                raise Interrupted
        self.state("running")
        answer = answers.get()
        return answer if isinstance(answer, dict) and "behavior" in answer else {"behavior": "deny"}

    def run(self, command: str) -> str:
        tool = subprocess.Popen(["/bin/sh", "-c", command], stdout=subprocess.PIPE, start_new_session=True)
        while tool.poll() is None:
            if self.stop.wait(0.02):
                os.killpg(tool.pid, signal.SIGKILL)
                raise Interrupted
        return tool.communicate()[0].decode().strip()


def begin() -> Stub:
    if "version" in FLAGS:
        sys.exit(print("2.1.330 (Claude Code)"))
    old, new = FLAGS.get("resume"), FLAGS.get("session-id")
    if old and not (CONVERSATIONS / f"{old}.jsonl").exists():
        sys.exit(f"No conversation found with session ID: {old}")
    if new and (CONVERSATIONS / f"{new}.jsonl").exists():
        sys.exit(f"Error: Session ID {new} is already in use.")
    if old and new:
        shutil.copy(CONVERSATIONS / f"{old}.jsonl", CONVERSATIONS / f"{new}.jsonl")
    return Stub(new or old or str(uuid.uuid4()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    stub = begin()
    threading.Thread(target=stub.work, daemon=True).start()
    stub.listen()
    threading.Event().wait()
