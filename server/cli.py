"""The command line: ``dreamserve serve | worker | key | generate | demo | evaluate | train | convert``."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.console import Console

from server.guard.key_ring import open_keys
from server.guard.keys import CALLER_ID, KeysError, new_key, table_of
from server.heap import collect_all, freeze_heap
from server.listener import listen
from server.openmp import prefer_intel_openmp
from server.pool.redis_url import parse_redis_url
from server.settings import Settings

app = typer.Typer(
    name="dreamserve",
    help="Serves models that answer in text and pictures together.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()
errors = Console(stderr=True)

DEFAULT_URL = "http://localhost:8000"


@app.command()
def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    model: Annotated[Path | None, typer.Option(help="Checkpoint folder. Default: the embedded model.")] = None,
    served_name: Annotated[str | None, typer.Option(help="Name of the model for callers.")] = None,
    redis: Annotated[str | None, typer.Option(help="redis://…: let workers draw. Default: this process does.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device that draws. Default: a GPU if there is one.")] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth", help="Ask nobody for an API key.")] = False,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
) -> None:
    """Serve a model over HTTP. Every other setting: DREAMSERVE_* in the environment, or the file."""
    flags: dict[str, dict[str, Any]] = {
        "server": {"host": host, "port": port},
        "auth": {"enabled": False if no_auth else None},
        "model": {"path": model, "served_name": served_name},
        "redis": {"url": redis},
        "diffusion": {"device": device},
        "log": {"level": log_level, "format": log_format},
    }
    settings = load_settings(config, flags)
    require_redis_url(settings)
    require_checkpoint(settings)
    require_keys(settings)

    prefer_intel_openmp()
    # Imports torch, which the client commands should not wait for.
    from server.app import create_app, create_ops_app
    from server.availability import State
    from server.http_server import HTTPServer
    from server.observe.logging import configure_logging

    configure_logging(settings.log.level, settings.log.format)
    require_tracing("dreamserve-server")
    # Before the model is loaded, which takes a while.
    listener = require_listener(settings.server.host, settings.server.port)
    ops_port = settings.server.ops_port
    ops_listener = None if ops_port is None else require_listener(settings.server.host, ops_port)
    application = create_app(settings)
    service = application.state.service
    ops = None if ops_listener is None else (create_ops_app(service), ops_listener)

    def ready(url: str) -> None:
        freeze_heap()
        announce(url, asks_for_key=settings.auth.enabled)

    server = HTTPServer(application, service, ready, ops)
    server.run([listener])
    # What is left of the documents still refers to the engine, and vLLM's finaliser fails while the interpreter exits.
    collect_all()
    if not server.started or service.state is State.FAILED:
        raise typer.Exit(1)


@app.command()
def worker(
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    redis: Annotated[str | None, typer.Option(help="redis://…: where the image jobs are.")] = None,
    model: Annotated[Path | None, typer.Option(help="Checkpoint folder. Default: the embedded model.")] = None,
    device: Annotated[str | None, typer.Option(help="Torch device that draws. Default: a GPU if there is one.")] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Choose the batch limit by measuring.")] = False,
    host: Annotated[str | None, typer.Option(help="Address of health checks and metrics.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the same; 0 takes a free one.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
) -> None:
    """Draw for servers that share a Redis. Loads only the diffusion side of the checkpoint.

    With --calibrate and no Redis: print how long a step takes at each batch size, and leave.
    """
    flags: dict[str, dict[str, Any]] = {
        "redis": {"url": redis},
        "model": {"path": model},
        "diffusion": {"device": device},
        "worker": {"host": host, "port": port},
        "log": {"level": log_level, "format": log_format},
    }
    settings = load_settings(config, flags)
    require_redis_url(settings)
    require_checkpoint(settings)
    if settings.redis.url is None and not calibrate:
        errors.print("a worker needs a Redis to take jobs from: --redis redis://…", style="red", highlight=False)
        raise typer.Exit(2)

    prefer_intel_openmp()
    # Imports torch, which the client commands should not wait for.
    from server.observe.logging import configure_logging
    from server.pool.worker import command as worker_command

    configure_logging(settings.log.level, settings.log.format)
    require_tracing("dreamserve-worker")
    if settings.redis.url is None:
        raise typer.Exit(worker_command.calibrate(settings, console))
    listener = require_listener(settings.worker.host, settings.worker.port)
    raise typer.Exit(worker_command.work(settings, listener, console, calibrate=calibrate))


def require_redis_url(settings: Settings) -> None:
    """End the command if the place of the Redis cannot be understood. It may be away."""
    if settings.redis.url is None:
        return
    try:
        parse_redis_url(settings.redis.url.get_secret_value())
    except ValueError as error:
        errors.print(f"setting redis.url: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def require_checkpoint(settings: Settings) -> None:
    """End the command if there is no checkpoint."""
    if not (settings.model.path / "config.json").is_file():
        errors.print(f"there is no checkpoint at {settings.model.path}", style="red", markup=False, soft_wrap=True)
        raise typer.Exit(2)


def require_keys(settings: Settings) -> None:
    """End the command if it would ask for API keys and there are none."""
    try:
        open_keys(settings.auth)
    except KeysError as error:
        errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def require_tracing(service_name: str) -> None:
    """Send traces where the environment says. Ends the command if they cannot be sent as it says."""
    from server.observe.tracing import TracingError, configure_tracing

    try:
        configure_tracing(service_name)
    except TracingError as error:
        errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def require_listener(host: str, port: int) -> socket.socket:
    """A listening socket. Ends the command if there can be none."""
    try:
        return listen(host, port)
    except OSError as error:
        message = f"cannot listen on {host}, port {port}: {error.strerror}"
        errors.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def load_settings(config: Path | None, flags: dict[str, dict[str, Any]]) -> Settings:
    """The settings, with the flags that were given over all else. Ends the command if they are wrong."""
    given = {
        group: chosen
        for group, options in flags.items()
        if (chosen := {name: value for name, value in options.items() if value is not None})
    }
    try:
        return Settings(**({"config": config} if config else {}), **given)  # type: ignore[arg-type]
    except ValidationError as error:
        for problem in error.errors():
            where = f"setting {'.'.join(map(str, problem['loc']))}: " if problem["loc"] else ""
            reason = problem["msg"].removeprefix("Value error, ")
            errors.print(f"{where}{reason}", style="red", markup=False, highlight=False)
        raise typer.Exit(2) from error


def announce(url: str, *, asks_for_key: bool) -> None:
    """Say that the server takes requests, and how to send one."""
    header = '-H "Authorization: Bearer $DREAMSERVE_API_KEY" ' if asks_for_key else ""
    body = '{"input": "Draw two pictures: a red circle, then a blue star.", "stream": true}'
    console.print(f"\n[bold green]ready[/bold green] at [bold]{url}[/bold]  [dim]({url}/docs)[/dim]", highlight=False)
    console.print(f"  curl -N {url}/v1/interleaved {header}-d '{body}'", markup=False, highlight=False, soft_wrap=True)
    console.print(f'  dreamserve generate "Draw a red circle." --url {url}\n', markup=False, highlight=False)


@app.command()
def key(caller: Annotated[str, typer.Argument(help="Name of whoever will use it.")]) -> None:
    """Make an API key. Its table for the file of keys goes to the output, the key itself past it to the terminal:

    dreamserve key alice >> keys.toml
    """
    if not CALLER_ID.fullmatch(caller):
        message = "a name has letters, digits and the characters _.- and no more than 64 of them"
        errors.print(message, style="red", markup=False, highlight=False)
        raise typer.Exit(2)
    made = new_key()
    errors.print(made, markup=False, highlight=False, soft_wrap=True)
    console.print(table_of(caller, made), markup=False, highlight=False, soft_wrap=True)


@app.command()
def generate(
    prompt: Annotated[str, typer.Argument(help="What to ask for.")],
    image: Annotated[list[Path] | None, typer.Option(exists=True, dir_okay=False, help="A picture to show.")] = None,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for answer.html and the pictures.")] = Path("out"),
    url: Annotated[str, typer.Option(envvar="DREAMSERVE_URL", help="Of the server.")] = DEFAULT_URL,
    api_key: Annotated[
        str | None, typer.Option(envvar="DREAMSERVE_API_KEY", help="For servers that ask for one.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens that the model may write.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Nucleus mass.")] = None,
    top_k: Annotated[int | None, typer.Option(help="Keep the k likeliest tokens.")] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the document repeatable.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Text that ends the document.")] = None,
    images: Annotated[int | None, typer.Option(help="Pictures at most.")] = None,
    size: Annotated[str | None, typer.Option(help="Of the pictures, such as 512x512.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps of a picture.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="How closely pictures follow the text.")] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What pictures should keep away from.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="ddpm, ddim or dpmpp_2m.")] = None,
    format: Annotated[Literal["png", "webp", "jpeg"] | None, typer.Option(help="Of the pictures.")] = None,
    feedback: Annotated[Literal["image", "none"] | None, typer.Option(help="Does the model see them?")] = None,
) -> None:
    """Ask a running server for a document; show it as it comes, and save it.

    Exit codes: 1 the document failed, 2 the request was refused, 3 no server, 130 interrupted.
    """
    from server.client.answer import Answer
    from server.client.generate import generate as run
    from server.client.generate import request_body

    options = {
        "model": model,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "seed": seed,
        "stop": stop or None,
    }
    drawing = {
        "max": images,
        "size": size,
        "steps": steps,
        "guidance_scale": guidance_scale,
        "negative_prompt": negative_prompt,
        "scheduler": scheduler,
        "format": format,
        "feedback": feedback,
    }
    body = request_body(prompt, image or [], options, drawing)
    raise typer.Exit(run(url, Answer(prompt), body, out, console, errors, api_key))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the answer and the log.")] = Path("out"),
) -> None:
    """Start the service, ask it for a document with pictures, show and save it, stop the service."""
    from server.demo import NotStartedError
    from server.demo import demo as run

    try:
        raise typer.Exit(run(out, console))
    except NotStartedError as error:
        errors.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(1) from error


@app.command()
def evaluate(
    model: Annotated[Path | None, typer.Option(help="Checkpoint folder. Default: the embedded model.")] = None,
    url: Annotated[str | None, typer.Option(help="Of a running server to evaluate instead.")] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="DREAMSERVE_API_KEY", help="For servers that ask for one.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings.")] = None,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the report.")] = Path("out/evaluation"),
    seed: Annotated[int, typer.Option(min=0, help="Decides the questions, and how they are answered.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A tenth of the cases, to try it out.")] = False,
    cases: Annotated[list[str] | None, typer.Option(help="NAME=N, such as creation=300; 0 for none.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests at the same time.")] = 16,
    strict: Annotated[bool, typer.Option("--strict", help="A missed bar is a failure.")] = False,
) -> None:
    """Measure how good a model of the training world is, through the service: comprehension, creation, feedback.

    Exit codes: 1 a bar is missed and --strict was given, 3 the model cannot be served.
    """
    settings = load_settings(config, {"model": {"path": model}})
    if url is None:
        require_checkpoint(settings)

    prefer_intel_openmp()
    # Imports torch, which the client commands should not wait for.
    from server.evaluation.evaluate import Evaluation
    from server.evaluation.evaluate import evaluate as run
    from server.evaluation.model import RemoteServer
    from server.evaluation.plan import Plan
    from server.observe.logging import configure_logging

    try:
        plan = (Plan().quick() if quick else Plan()).with_cases(cases or [])
    except ValueError as error:
        errors.print(f"--cases: {error}", style="red", markup=False, highlight=False)
        raise typer.Exit(2) from error
    configure_logging("warning", settings.log.format)
    evaluation = Evaluation(plan, seed, concurrency, console)
    outcome = run(evaluation, settings if url is None else RemoteServer(url, api_key), out, strict)
    collect_all()  # as at the end of serve
    raise typer.Exit(outcome)


# Commands whose options live with the models: all that follows their name, --help too, is theirs to read.
DELEGATED: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True},
}


@app.command(**DELEGATED)
def train(context: typer.Context) -> None:
    """Train a model: one of DreamLLM's three stages, or all of the tiny model. `train --help` lists the options."""
    from models.training.cli import train as run

    delegate(run, context)


@app.command(**DELEGATED)
def convert(context: typer.Context) -> None:
    """Convert an official DreamLLM checkpoint. `dreamserve convert --help` lists its options."""
    from models.dreamllm.convert_cli import convert as run

    delegate(run, context)


def delegate(command: Callable[..., None], context: typer.Context) -> None:
    """Run a command of its own on the arguments of this one."""
    delegated = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    delegated.command()(command)
    delegated(context.args, prog_name=context.command_path)


def main() -> None:
    """The entry point of ``dreamserve``."""
    app()


if __name__ == "__main__":
    main()
