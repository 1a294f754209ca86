"""GET output/search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.integration.app.holder import Holder
    from tests.integration.app.serving import Api


@pytest.mark.parametrize("ended", [True, False])
def test_a_text_is_found_over_entries_and_pages(api: Api, holder: Holder, ended: bool) -> None:
    session_id = api.create()
    run = holder.run(session_id)
    for piece in (b"zw", "ö".encode()[:1], "ö".encode()[1:] + b" zw", "ö\n".encode()):
        run.write(piece)
    if ended:
        run.end()
    path = f"/sessions/{session_id}/output/search"

    whole = api.get(path, params={"q": "zwö"}).json()
    assert whole["session_id"] == str(session_id)
    assert [(match["offset"], match["length"]) for match in whole["matches"]] == [(0, 4), (5, 4)]
    assert whole["matches"][0]["seq"] < whole["matches"][1]["seq"]
    assert whole["complete"] is ended

    first = api.get(path, params={"q": "ZWö", "limit": 1, "ignore_case": "true"}).json()
    assert (len(first["matches"]), first["next_offset"], first["complete"]) == (1, 4, False)
    rest = api.get(path, params={"q": "zwö", "offset": first["next_offset"]}).json()
    assert rest["matches"] == whole["matches"][1:]
    assert api.get(path, params={"q": "zwö\n "}).json()["matches"] == []


def test_what_cannot_be_looked_for_is_refused(api: Api, holder: Holder) -> None:
    session_id = api.create()
    holder.run(session_id).end()
    path = f"/sessions/{session_id}/output/search"

    for params in ({}, {"q": ""}, {"q": "x" * 1001}, {"q": "x", "limit": 0}, {"q": "x", "offset": -1}, {"q": "\x00"}):
        answer = api.get(path, params=params)
        assert (answer.status_code, answer.json()["error_code"]) == (422, "VALIDATION_FAILED"), params
    assert api.get(path, params={"q": "x", "offset": 99}).json()["error_code"] == "INVALID_POSITION"
