"""The lines of `jelmore up`."""

from __future__ import annotations

import io

from jelmore.console import Console


def test_each_line_carries_the_name_of_its_process() -> None:
    out = io.StringIO()
    Console(out).relay("web", 0, "listening")

    assert out.getvalue() == "web    | listening\n"


def test_colour_is_only_where_it_is_asked_for() -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    Console(plain).relay("web", 0, "x")
    Console(coloured, colour=True).relay("web", 0, "x")

    assert "\x1b" not in plain.getvalue()
    assert coloured.getvalue() == "\x1b[36mweb    |\x1b[0m x\n"


def test_a_closed_output_is_no_error_but_told() -> None:
    out = io.StringIO()
    console = Console(out)
    out.close()
    console.say("to nobody")

    assert console.gone
