"""``python -m load_tests.capacity.measure --url URL --out FILE``: the times of a running service, seen from outside.

The service must have nothing else to do, one server and one worker. Steps of the language model are fitted to what
passes between tokens at several numbers of callers and lengths of context, a prefilled token to the time before the
first token of short and long prompts, denoising steps to pictures of many and few steps at several numbers of callers,
the last of which is ``diffusion.max_batch``.
"""

import argparse
import asyncio
import json
import random
import statistics
import string
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import date
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from load_tests.capacity.profile import LanguageModel, Painter, Profile
from load_tests.capacity.recording import Recording, record_together
from models.diffusion.step_times import StepTimes

CALLERS = (1, 2, 4, 8)
TOKENS = 96
SHORT, LONG = 20, 600  # letters of a prompt that nobody has asked before; few of them make a token
FEW_STEPS, MANY_STEPS = 5, 50
ROUNDS = 3
PICTURE = "Draw a big red circle."


@dataclass(frozen=True, slots=True)
class Known:
    """What cannot be seen from outside. The defaults are the embedded model's and the server's.

    Attributes:
        name: of the machine and the models.
        max_seqs: sequences of one step of the language model (``llm.max_num_seqs``).
        max_tokens: tokens of one step (``llm.max_num_batched_tokens``).
        steps: of a picture, by default.
        query_tokens: of a picture's dream queries, with those around them.
        image_tokens: of a picture that is fed back, with those around them.
    """

    name: str = "a service"
    max_seqs: int = 64
    max_tokens: int = 2048
    steps: int = 20
    query_tokens: int = 9
    image_tokens: int = 18


async def measure(url: str, known: Known) -> Profile:
    """The profile of a service.

    Args:
        url: of its server.
        known: about it.

    Raises:
        RuntimeError: an answer failed.
    """
    rng = random.Random(0)
    await record_together(url, [writing(rng, SHORT), drawing(rng, FEW_STEPS)], 1)
    language_model = await measure_language_model(url, rng, known)
    painter = await measure_painter(url, rng, known)
    source = f"measured on {date.today()}"
    return Profile(known.name, source, language_model, painter, known.query_tokens, known.image_tokens)


async def measure_language_model(url: str, rng: random.Random, known: Known) -> LanguageModel:
    """Fit the times of its steps."""
    steps: list[tuple[float, float, float, float]] = []  # 1, tokens, context, seconds
    firsts: list[tuple[float, float]] = []  # prompt tokens, seconds
    for letters in (SHORT, LONG):
        for callers in CALLERS:
            recordings = await record_together(url, [writing(rng, letters) for _ in range(ROUNDS * callers)], callers)
            between = statistics.median(recording.between_tokens_s for recording in recordings)
            prompt = statistics.mean(recording.prompt_tokens for recording in recordings)
            steps.append((1.0, callers, callers * (prompt + TOKENS / 2), between))
            if callers == 1:
                firsts += [(recording.prompt_tokens, recording.token_s[0]) for recording in recordings]
    step_s, token_s, context_s = fitted([row[:3] for row in steps], [row[3] for row in steps])
    begin_s, prefilled_s = fitted([(1.0, tokens) for tokens, _ in firsts], [seconds for _, seconds in firsts])
    # A decoded token costs what a prefilled one does, or what a fuller batch shows, whichever can be told better.
    token_s, request_s = max(token_s, prefilled_s), max(0.0, begin_s - step_s)
    return LanguageModel(step_s, token_s, context_s, known.max_seqs, known.max_tokens, request_s)


async def measure_painter(url: str, rng: random.Random, known: Known) -> Painter:
    """Fit the times of its steps, and of what comes before and after them.

    What grows with the steps of pictures is the step; what a worker that is never idle needs for each picture beside
    its steps is the decoding; and what a picture alone takes beside both is the way there and back.
    """
    *fewer, full = CALLERS
    lasted = {n: [await pictures_s(url, rng, steps, n) for steps in (FEW_STEPS, MANY_STEPS)] for n in fewer}
    few, many = [await saturated_s(url, rng, steps, full) for steps in (FEW_STEPS, MANY_STEPS)]
    steps_s = [per_step(*pair) for pair in lasted.values()] + [full * per_step(few, many)]
    decode_s = max(0.0, few - FEW_STEPS * per_step(few, many))
    finish_s = max(0.0, lasted[1][0] - FEW_STEPS * steps_s[0] - decode_s)
    # A fuller batch is never faster.
    times = StepTimes(tuple(zip(CALLERS, accumulate(steps_s, max), strict=True)))
    return Painter(times, known.steps, full, hand_off_s=0.0, decode_s=decode_s, finish_s=finish_s)


def per_step(few_s: float, many_s: float) -> float:
    """Of what grows with the number of steps, what one takes."""
    return (many_s - few_s) / (MANY_STEPS - FEW_STEPS)


async def saturated_s(url: str, rng: random.Random, steps: int, full: int) -> float:
    """Seconds of a worker for each picture, while there are always more jobs than it draws together."""
    recordings = await record_together(url, [drawing(rng, steps) for _ in range(2 * ROUNDS * full)], 3 * full)
    asked = [recording.asked_s + at for recording in recordings for at in recording.asked_picture_s]
    came = [recording.asked_s + at for recording in recordings for at in recording.picture_s]
    return (max(came) - min(asked)) / len(came)


async def pictures_s(url: str, rng: random.Random, steps: int, callers: int) -> float:
    """Seconds from dream states to picture, the median."""
    recordings = await record_together(url, [drawing(rng, steps) for _ in range(ROUNDS * callers)], callers)
    return statistics.median(seconds for recording in recordings for seconds in picture_seconds(recording))


def picture_seconds(recording: Recording) -> Iterable[float]:
    """Of each picture, from its first event."""
    return (came - asked for asked, came in zip(recording.asked_picture_s, recording.picture_s, strict=True))


def fitted(rows: Sequence[Sequence[float]], seconds: Sequence[float]) -> list[float]:
    """Non-negative coefficients with which rows make up seconds, the relative errors squared being least."""
    matrix = np.array(rows) / np.array(seconds)[:, None]
    kept = list(range(matrix.shape[1]))
    while True:
        found = np.linalg.lstsq(matrix[:, kept], np.ones(len(seconds)), rcond=None)[0]
        if (found >= 0).all():
            return [float(found[kept.index(column)]) if column in kept else 0.0 for column in range(matrix.shape[1])]
        kept.pop(int(found.argmin()))


def writing(rng: random.Random, letters: int) -> dict[str, Any]:
    """A request for text alone, of exactly so many tokens, to a prompt that is in no cache."""
    words = "".join(rng.choices(string.ascii_lowercase + "     ", k=letters))
    return {
        "input": words.strip() or "a",
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "temperature": 1.0,
        "seed": rng.getrandbits(31),
        "images": {"max": 0},
    }


def drawing(rng: random.Random, steps: int) -> dict[str, Any]:
    """A request for a picture of so many steps."""
    return {"input": PICTURE, "seed": rng.getrandbits(31), "temperature": 0, "images": {"max": 1, "steps": steps}}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.capacity.measure", description=__doc__)
    parser.add_argument("--url", required=True, help="of the server")
    for field in fields(Known):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    parser.add_argument("--out", type=Path, required=True, help="where the profile goes")
    arguments = parser.parse_args()
    known = Known(**{field.name: getattr(arguments, field.name) for field in fields(Known)})
    profile = asyncio.run(measure(arguments.url, known))
    arguments.out.write_text(json.dumps(profile.to_json(), indent=2) + "\n")
    print(json.dumps(profile.to_json(), indent=2))


if __name__ == "__main__":
    main()
