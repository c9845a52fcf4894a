"""``python -m load_tests.fan_out.servers ours|vllm PORT``: one of the servers, as a process."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvloop
from vllm.entrypoints.launchers.api_server.entry import run_server
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser

from load_tests.fan_out.core import MAX_MODEL_LEN, MAX_READERS, install
from load_tests.fan_out.readers import MODEL
from load_tests.service.stand_ins import DRAWING, PaintingPool
from server.app import create_app
from server.backend import Backend
from server.heap import freeze_heap
from server.http_server import HTTPServer
from server.llm.prompt import PromptBuilder
from server.llm.vllm_arguments import engine_args
from server.llm.vllm_engine import VLLMEngine
from server.settings import (
    DEFAULT_CHECKPOINT,
    AdmissionSettings,
    AuthSettings,
    LLMSettings,
    LogSettings,
    ServerSettings,
    Settings,
)

HOST = "127.0.0.1"
LLM = LLMSettings(max_model_len=MAX_MODEL_LEN)


def serve_ours(port: int) -> None:
    """The server as it is, on its own HTTP server."""

    @asynccontextmanager
    async def open_backend(_: Settings) -> AsyncIterator[Backend]:
        engine = await VLLMEngine.start(DEFAULT_CHECKPOINT, LLM)
        try:
            yield Backend(engine, PromptBuilder(engine), PaintingPool(), DRAWING)
        finally:
            await engine.shutdown()

    settings = Settings(
        server=ServerSettings(host=HOST, port=port),
        auth=AuthSettings(enabled=False),
        admission=AdmissionSettings(max_running=MAX_READERS, max_waiting=MAX_READERS),
        log=LogSettings(level="warning"),
    )
    app = create_app(settings, open_backend)
    HTTPServer(app, app.state.service, on_ready=lambda _: freeze_heap()).run()


def serve_vllm(port: int) -> None:
    """What ``vllm serve`` runs, without a log of requests."""
    ours = engine_args(DEFAULT_CHECKPOINT, LLM)
    options = {
        "model": ours.model,
        "served-model-name": MODEL,
        "host": HOST,
        "port": port,
        "uvicorn-log-level": "warning",
        "dtype": ours.dtype,
        "max-model-len": ours.max_model_len,
        "generation-config": ours.generation_config,
    }
    parser = make_arg_parser(FlexibleArgumentParser())
    arguments = parser.parse_args([f"--{name}={value}" for name, value in options.items()])
    validate_parsed_serve_args(arguments)
    uvloop.run(run_server(arguments))


SERVERS: dict[str, Callable[[int], None]] = {"ours": serve_ours, "vllm": serve_vllm}

if __name__ == "__main__":
    install()
    SERVERS[sys.argv[1]](int(sys.argv[2]))
