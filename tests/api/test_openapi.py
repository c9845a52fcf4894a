"""Schemathesis, which asks for everything that ``/openapi.json`` describes, and for what it does not allow."""

import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from server.llm.engine import Priority, Prompt, Sampling, TokenChunk
from tests.api.asking import ALICE, bearer, keys_of_alice_and_bob
from tests.api.serving import Listening, on_socket
from tests.commands import run
from tests.scripted.engine import ScriptedEngine
from tests.scripted.script import DREAM, EOS

REQUEST = {"model": "scripted", "store": True, "images": {"delivery": "url"}}
LEFT_OUT = (
    # A description cannot say all that a request must be: that `partial_images` needs `stream`, for one.
    "positive_data_acceptance",
    # What was made without `store` cannot be read again.
    "ensure_resource_availability",
)


class DrawingEngine(ScriptedEngine):
    """Asks for a picture whenever it may, and ends whenever it may."""

    def __init__(self) -> None:
        super().__init__([["Look: ", DREAM]], one_turn_for_all=True)
        self._without = ScriptedEngine([["The end.", EOS]], one_turn_for_all=True)
        self._endless = ScriptedEngine([["No end."]], one_turn_for_all=True)

    def generate(
        self, request_id: str, prompt: Prompt, sampling: Sampling, priority: Priority = "normal"
    ) -> AsyncGenerator[TokenChunk, None]:
        if self.eos_token_id in sampling.banned_token_ids:
            return self._endless.generate(request_id, prompt, sampling, priority)
        if self.config.dream_token_id in sampling.banned_token_ids:
            return self._without.generate(request_id, prompt, sampling, priority)
        return super().generate(request_id, prompt, sampling, priority)


async def test_no_request_breaks_the_server_or_is_answered_as_it_is_not_described(tmp_path: Path) -> None:
    limits, auth = {"images": 2, "steps": 8}, keys_of_alice_and_bob(tmp_path)
    async with on_socket(DrawingEngine(), limit_s=300, limits=limits, auth=auth) as app:
        app.client.headers.update(bearer(ALICE))
        configuration = tmp_path / "schemathesis.toml"
        configuration.write_text(f"[parameters]\n{await known_ids(app)}\n")
        schemathesis = [sys.executable, "-m", "schemathesis.cli", "--config-file", configuration, "--no-color"]
        options = ["--max-examples", "20", "--generation-deterministic", "--exclude-checks", ",".join(LEFT_OUT)]
        options += ["--header", f"Authorization: Bearer {ALICE}"]
        await run([*schemathesis, "run", f"{app.client.base_url}/openapi.json", *options], tmp_path)


async def known_ids(app: Listening) -> str:
    """Parameters of paths that name something, so that not every request for it ends with 404."""
    document = await created(app, "/v1/interleaved", input="Show me.")
    completion = await created(app, "/v1/chat/completions", messages=[{"role": "user", "content": "Show me."}])
    response = await created(app, "/v1/responses", input="Show me.")
    ids = {
        "document_id": document["id"],
        "completion_id": completion["id"],
        "response_id": response["id"],
        "image_id": document["parts"][1]["image"]["url"].rpartition("/")[2],
    }
    return "\n".join(f'{name} = "{id}"' for name, id in ids.items())


async def created(app: Listening, path: str, **body: Any) -> dict[str, Any]:
    """What is stored."""
    response = await app.client.post(path, json={**REQUEST, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer
