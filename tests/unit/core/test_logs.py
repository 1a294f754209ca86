"""Secrets are taken out of log lines."""

from __future__ import annotations

from core.logs import redactor


def test_no_line_carries_a_secret() -> None:
    redact = redactor(["the-key"])
    line = redact(
        None,
        "info",
        {
            "event": "Authorization: Bearer abcdefgh, postgresql://u:hush@h/d, key the-key",
            "deep": {"url": "redis://:hush@h:1/0", "list": ["the-key"]},
            "count": 3,
        },
    )

    assert "hush" not in str(line)
    assert "the-key" not in str(line)
    assert "abcdefgh" not in str(line)
    assert "postgresql://u:***@h/d" in line["event"]
    assert line["count"] == 3
