"""What callers come for. Each visit takes a caller from its first request to its last."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from load_tests.soak import prompts
from load_tests.soak.caller import Caller, FaultError, is_last

INTERLEAVED, CHAT = "/v1/interleaved", "/v1/chat/completions"
RESPONSES, IMAGES = "/v1/responses", "/v1/images/generations"
ENDED = ("completed", "incomplete", "failed", "cancelled")
SLOW_READER_S = 20.0

Visit = Callable[[Caller], Awaitable[None]]


async def interleaved_stream(caller: Caller) -> None:
    """A document as it is made."""
    body = prompts.interleaved(caller.dice)
    body["images"]["previews"] = caller.dice.choice((0, 0, 2))
    await caller.read(INTERLEAVED, body)


async def interleaved_whole(caller: Caller) -> None:
    """A document, and the pictures that it links to."""
    document = await caller.document(INTERLEAVED, prompts.interleaved(caller.dice))
    for part in document["parts"]:
        if url := part.get("image", {}).get("url"):
            picture = await caller.ask("GET", url)
            await caller.ask("HEAD", url)
            if not picture.content:
                raise FaultError(f"{url} is empty")


async def chat_stream(caller: Caller) -> None:
    """A chat completion as it is made."""
    options = {"include_usage": True, "include_image_events": caller.dice.random() < 0.3}
    await caller.read(CHAT, prompts.chat(caller.dice, stream_options=options))


async def chat_whole(caller: Caller) -> None:
    """A chat completion; sometimes it is stored, read again and deleted."""
    stored = caller.dice.random() < 0.3
    completion = await caller.document(CHAT, prompts.chat(caller.dice, store=stored))
    if stored:
        await caller.ask("GET", f"{CHAT}/{completion['id']}")
        await caller.ask("DELETE", f"{CHAT}/{completion['id']}")


async def responses_stream(caller: Caller) -> None:
    """A response as it is made, not stored."""
    await caller.read(RESPONSES, prompts.response(caller.dice, store=False))


async def responses_conversation(caller: Caller) -> None:
    """Two responses, the second going on from the first; sometimes what is stored is left to expire."""
    first = await caller.document(RESPONSES, prompts.response(caller.dice, images={"max": 1, "steps": 4}))
    more = prompts.response(caller.dice, previous_response_id=first["id"], images={"max": 0})
    second = await caller.document(RESPONSES, more)
    await caller.ask("GET", f"{RESPONSES}/{second['id']}/input_items")
    if caller.dice.random() < 0.5:
        await caller.ask("DELETE", f"{RESPONSES}/{second['id']}")
        await caller.ask("DELETE", f"{RESPONSES}/{first['id']}")


async def responses_background(caller: Caller) -> None:
    """A response in the background, followed from some event on; or cancelled."""
    made = await caller.document(RESPONSES, prompts.response(caller.dice, background=True))
    url = f"{RESPONSES}/{made['id']}"
    if caller.dice.random() < 0.4:
        ended = (await caller.ask("POST", f"{url}/cancel")).json()
        if ended["status"] not in ENDED:
            raise FaultError(f"{url} is {ended['status']} after it was cancelled")
        return
    after = caller.dice.choice((0, 1))  # no response has fewer than three events
    async for event in caller.events("GET", f"{url}?stream=true&starting_after={after}"):
        if event.json()["sequence_number"] <= after:
            raise FaultError(f"{url}: event {event.json()['sequence_number']} came after {after}")


async def resumed(caller: Caller) -> None:
    """A stored document, of which every event is seen once although the connection breaks."""
    body = prompts.interleaved(caller.dice, store=True, stream=True)
    seen: list[int] = []
    cut = caller.dice.randint(1, 20)
    async with aclosing(caller.events("POST", INTERLEAVED, body)) as events:
        async for event in events:
            seen.append(int(event.id))
            if len(seen) == 1:
                url = f"{INTERLEAVED}/{event.json()['id']}"
            if len(seen) == cut:
                break
    if len(seen) == cut and not is_last(event):
        rest = caller.events("GET", f"{url}?stream=true", headers={"Last-Event-ID": str(seen[-1])})
        seen += [int(event.id) async for event in rest]
    if seen != list(range(len(seen))):
        raise FaultError(f"{url}: events {seen}")
    if caller.dice.random() < 0.5:
        await caller.ask("DELETE", url)


async def abandoned(caller: Caller) -> None:
    """A stored document that its caller leaves and never comes back to."""
    body = prompts.interleaved(caller.dice, store=True, stream=True)
    await caller.leave(INTERLEAVED, body, after_s=caller.dice.uniform(0, 2))


async def cancelled(caller: Caller) -> None:
    """A stored document that is cancelled at some event."""
    body = prompts.interleaved(caller.dice, store=True, stream=True)
    left = caller.dice.randint(1, 20)
    async for event in caller.events("POST", INTERLEAVED, body):
        if event.event == "document.started":
            url = f"{INTERLEAVED}/{event.json()['id']}"
        left -= 1
        if left == 0:
            ended = (await caller.ask("POST", f"{url}/cancel")).json()
            if ended["status"] not in ENDED:
                raise FaultError(f"{url} is {ended['status']} after it was cancelled")


async def images(caller: Caller) -> None:
    """Pictures of a description, whole or as they are drawn."""
    if caller.dice.random() < 0.5:
        await caller.read(IMAGES, prompts.pictures(caller.dice, partial_images=caller.dice.randint(0, 2)))
        return
    for image in (await caller.document(IMAGES, prompts.pictures(caller.dice)))["data"]:
        if "url" in image:
            await caller.ask("GET", image["url"])


async def left_in_the_middle(caller: Caller) -> None:
    """An answer of any kind that its caller does not wait for."""
    path, make = caller.dice.choice(
        (
            (INTERLEAVED, prompts.interleaved),
            (CHAT, prompts.chat),
            (RESPONSES, prompts.response),
            (IMAGES, prompts.pictures),
        )
    )
    more: dict[str, Any] = {"stream": caller.dice.random() < 0.5}
    if path == RESPONSES:
        more["store"] = caller.dice.random() < 0.5
    await caller.leave(path, make(caller.dice, **more), after_s=caller.dice.uniform(0, 2))


async def nonsense(caller: Caller) -> None:
    """A request that cannot be served."""
    path, body = caller.dice.choice(prompts.BAD_REQUESTS)
    await caller.ask("POST", path, body, expected=(400, 404))


async def slow_reader(caller: Caller) -> None:
    """A stream that is read in drops."""
    body = prompts.interleaved(caller.dice)
    body["images"] |= {"max": 2, "previews": 3, "format": "png", "delivery": "inline"}
    await caller.dawdle(INTERLEAVED, body, SLOW_READER_S)


WEIGHTS: Mapping[Visit, int] = {
    interleaved_stream: 12,
    interleaved_whole: 10,
    chat_stream: 8,
    chat_whole: 8,
    responses_stream: 6,
    responses_conversation: 5,
    responses_background: 6,
    resumed: 6,
    abandoned: 3,
    cancelled: 4,
    images: 6,
    left_in_the_middle: 10,
    nonsense: 10,
    slow_reader: 3,
}
"""How many of a hundred visits or so are of which kind."""
