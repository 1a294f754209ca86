"""Claude Code as one long-lived process that speaks JSON lines over its pipes: how it is started, spoken to and understood.

What the program says and understands was tried with version 2.1.330 (`claude -p --input-format stream-json`).
"""
