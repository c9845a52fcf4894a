"""The choice of a service to try: one that runs already, or one that is started for the purpose."""

import argparse
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import get_args

from load_tests.service.deployment import Deployment, Kind, deployed


def add_choice(parser: argparse.ArgumentParser, *, default: Kind) -> None:
    """Add the arguments that choose. By default one of this kind is started."""
    parser.add_argument("--url", help="of a running service to use instead of starting one, with DREAMSERVE_API_KEY")
    parser.add_argument("--redis", help="of that service, to look at its keys")
    parser.add_argument("--kind", choices=get_args(Kind), default=default, help="what draws in a service started here")


def chosen(
    arguments: argparse.Namespace, settings: Mapping[str, str], logs: Path
) -> AbstractContextManager[Deployment]:
    """The service at the URL that was given, or one of our own with these settings, for as long as it is needed.

    Raises:
        NotStartedError: it did not become ready.
    """
    if arguments.url:
        return nullcontext(Deployment(arguments.url, redis_url=arguments.redis))
    return deployed(arguments.kind, settings, logs)
