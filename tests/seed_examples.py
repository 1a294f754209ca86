"""The examples of seed_examples.md, with what they leave open filled in; nothing else of them is changed but what is said here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

DOCUMENT: Final = Path(__file__).with_name("seed_examples.md")
BLOCK: Final = re.compile(r"^## (?P<heading>.+?)\n\n```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
EXAMPLES: Final = {found["heading"]: found["code"] for found in BLOCK.finditer(DOCUMENT.read_text())}
CURL: Final = tuple(heading for heading, code in EXAMPLES.items() if "curl" in code)


def curl_commands(heading: str, port: int, key: str, session_id: str) -> list[str]:
    """Return the commands of an example. Lines that go on end with one backslash in a shell, not two."""
    code = EXAMPLES[heading].replace("\\\\\n", "\\\n")
    filled = code.replace("YOUR_API_KEY", key).replace("SESSION_ID", session_id)
    there = filled.replace("http://localhost:8000", f"http://localhost:{port}")
    return [command.strip() for command in re.split(r"^#.*$", there, flags=re.MULTILINE) if command.strip()]


def python_example(port: int, key: str) -> str:
    """Return the Python client and its use. httpx waits 5 s for a byte unless told otherwise; it is httpx2 nowadays."""
    code = EXAMPLES["Python Client"].replace("import httpx\n", "import httpx2 as httpx\n")
    code = code.replace("httpx.AsyncClient()", "httpx.AsyncClient(timeout=None)")
    return code.replace("http://localhost:8000", f"http://localhost:{port}").replace("your-api-key", key)


def python_use(port: int, key: str) -> str:
    """Return only the use, with the client of `jelmore.client`."""
    return (
        "import asyncio\nfrom jelmore.client import JelmoreClient\n"
        + python_example(port, key).partition("# Usage\n")[2]
    )


def javascript_example(origin: str, key: str, ticket: str) -> tuple[str, str]:
    """Return the JavaScript client and its use. Its EventSource has to be the module's; its WebSocket gets a ticket."""
    code = EXAMPLES["JavaScript Client"].replace("/ws`", f"/ws?ticket={ticket}`").replace("your-api-key", key)
    code = code.replace("http://localhost:8000", origin).replace("ws://localhost:8000", origin.replace("http", "ws"))
    client, _, use = code.partition("// Usage\n")
    return client, use


def event_source_example(session_id: str, key: str) -> str:
    """Return the EventSource of the section on Server-Sent Events."""
    return EXAMPLES["Connection Setup"].replace("SESSION_ID", session_id).replace("YOUR_API_KEY", key)
