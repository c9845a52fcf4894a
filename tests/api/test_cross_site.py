"""Pages of other sites get nothing done here."""

import pytest

from tests.api.serving import Running, in_memory, scripted_engine
from tests.scripted.script import EOS

FOREIGN = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}


async def test_a_request_of_a_foreign_page_is_refused(running: Running) -> None:
    calls = len(running.engine.calls)
    response = await running.client.post("/v1/interleaved", json={"input": "a"}, headers=FOREIGN)

    assert response.status_code == 403
    assert response.json()["error"]["code"] == "cross_site_request"
    assert len(running.engine.calls) == calls


@pytest.mark.parametrize("site", [None, "none", "same-origin", "same-site"])
async def test_programs_and_pages_of_this_site_are_answered(running: Running, site: str | None) -> None:
    headers = {} if site is None else {"Sec-Fetch-Site": site}
    response = await running.client.post("/v1/interleaved", json={"input": "a"}, headers=headers)

    assert response.status_code == 200


async def test_an_allowed_origin_is_answered_and_may_read_it() -> None:
    async with in_memory(scripted_engine(["a", EOS]), server={"allowed_origins": [FOREIGN["Origin"]]}) as app:
        await app.ready()
        allowed = await app.client.post("/v1/interleaved", json={"input": "a"}, headers=FOREIGN)
        asked = {**FOREIGN, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        preflight = await app.client.options("/v1/interleaved", headers=asked)
        other = {**FOREIGN, "Origin": "https://another.example"}
        refused = await app.client.post("/v1/interleaved", json={"input": "a"}, headers=other)

    assert allowed.status_code == preflight.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == FOREIGN["Origin"]
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers
