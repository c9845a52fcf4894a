"""``python -m load_tests.capacity --rate 1000 --images 2 --slo first_token_s=1``: how many GPUs a load needs.

``--profile FILE`` takes times that ``python -m load_tests.capacity.measure`` has measured; without it they are those
of an H100, estimated. ``python -m load_tests.capacity.check`` compares the simulation with a real run.
"""

import argparse
import json
import math
from pathlib import Path

from load_tests.capacity.plan import PERCENTILE, PROMISES, percentile, plan
from load_tests.capacity.profile import Profile, h100_estimate
from load_tests.capacity.traffic import Traffic


def promise(text: str) -> tuple[str, float]:
    """``NAME=SECONDS``."""
    name, _, seconds = text.partition("=")
    if name not in PROMISES:
        raise argparse.ArgumentTypeError(f"there is no {name!r}: it is one of {', '.join(PROMISES)}")
    try:
        limit = float(seconds)
    except ValueError:
        limit = math.nan
    if not 0 < limit < math.inf:
        raise argparse.ArgumentTypeError(f"{name}: {seconds!r} is no number of seconds")
    return name, limit


def positive(text: str) -> float:
    """A number above zero."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return number


def read_profile(path: str) -> Profile:
    """The profile in a file."""
    try:
        return Profile.from_json(json.loads(Path(path).read_text()))
    except (OSError, TypeError, KeyError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error!r}") from error


def main() -> None:
    """Plan and print."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.capacity", description=__doc__)
    parser.add_argument("--rate", type=positive, required=True, help="answers a second")
    parser.add_argument("--images", type=float, default=1.0, help="pictures of an answer, on average")
    parser.add_argument("--prompt-tokens", type=positive, default=200, help="of an answer, on average, not cached")
    parser.add_argument("--text-tokens", type=positive, default=300, help="of an answer, on average")
    parser.add_argument(
        "--slo",
        type=promise,
        action="append",
        metavar="NAME=SECONDS",
        help=f"{PERCENTILE} %% stay within; of {', '.join(PROMISES)}; default first_token_s=1 and picture_s=5",
    )
    parser.add_argument("--most-busy", type=positive, default=0.85, help="share of full load, on average")
    parser.add_argument("--profile", type=read_profile, help="of the machines; by default an H100, estimated")
    parser.add_argument("--seconds", type=positive, default=60, help="of traffic to simulate")
    parser.add_argument("--seed", type=int, default=0, help="of the traffic")
    arguments = parser.parse_args()
    if not 0 <= arguments.images < math.inf:
        parser.error("argument --images: below zero")
    profile = arguments.profile or h100_estimate()
    slo = dict(arguments.slo or [("first_token_s", 1.0), ("picture_s", 5.0)])
    traffic = Traffic(arguments.rate, arguments.images, arguments.prompt_tokens, arguments.text_tokens)
    print(f"machines: {profile.name}; times {profile.source}")
    print(
        f"traffic: {traffic.rate:g} answers a second, each {traffic.prompt_tokens:g} tokens of prompt, "
        f"{traffic.text_tokens:g} of text, {traffic.images:g} pictures of {profile.painter.steps} steps; "
        f"{arguments.seconds:g} s simulated, seed {arguments.seed}"
    )
    try:
        found = plan(
            profile, traffic, slo, most_busy=arguments.most_busy, seconds=arguments.seconds, seed=arguments.seed
        )
    except ValueError as error:
        raise SystemExit(str(error)) from error
    print(f"server GPUs: {found.servers} ({found.least_servers} by load alone)")
    print(f"worker GPUs: {found.workers} ({found.least_workers} by load alone)")
    for name in PROMISES:
        got = getattr(found.times, name)
        if got:
            limit = f", promised {slo[name]:g} s" if name in slo else ""
            print(f"{name:16} p50 {percentile(got, 50):7.3f}  p{PERCENTILE} {percentile(got):7.3f}{limit}")


if __name__ == "__main__":
    main()
