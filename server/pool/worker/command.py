"""``dreamserve worker``: what it prints, and how it ends."""

import asyncio
import logging
import socket

from rich.console import Console
from rich.table import Table

from models.diffusion.step_times import StepTimes
from server.heap import freeze_heap
from server.pool.drawing import Drawing, load_drawing
from server.pool.redis_url import safe_url
from server.pool.worker.process import WorkerProcess
from server.pool.worker.worker import WorkerError
from server.settings import Settings

logger = logging.getLogger(__name__)


def work(settings: Settings, listener: socket.socket, console: Console, *, calibrate: bool) -> int:
    """Run a worker until it is told to stop. Returns the exit code."""

    def announce(drawing: Drawing) -> None:
        freeze_heap()
        if calibrate:
            console.print(step_table(drawing.step_times, drawing.max_batch))
        url = safe_url(settings.redis.url.get_secret_value()) if settings.redis.url else ""
        host, port = listener.getsockname()[:2]
        console.print(
            f"[bold green]ready[/bold green] to draw up to {drawing.max_batch} pictures together on "
            f"{drawing.decoder.device}, for {url}  [dim](http://{host}:{port}/metrics)[/dim]",
            highlight=False,
            soft_wrap=True,
        )

    try:
        asyncio.run(WorkerProcess(settings, listener, announce).run(calibrate=calibrate))
    except (WorkerError, OSError, ValueError):
        logger.exception("the worker cannot go on")
        return 1
    return 0


def calibrate(settings: Settings, console: Console) -> int:
    """Print how long a step takes at each batch size. Returns the exit code."""
    try:
        drawing = load_drawing(settings, calibrate=True)
    except (OSError, ValueError):
        logger.exception("the checkpoint cannot be loaded")
        return 1
    console.print(step_table(drawing.step_times, drawing.max_batch))
    return 0


def step_table(times: StepTimes, chosen: int) -> Table:
    """Measured step times; the batch limit that follows from them is marked."""
    table = Table("pictures together", "seconds a step", "picture steps a second", title="one denoising step")
    for batch, seconds in times.measured:
        mark = "[bold green]" if batch == chosen else ""
        table.add_row(f"{mark}{batch}", f"{mark}{seconds:.4f}", f"{mark}{times.job_steps_per_s(batch):.1f}")
    return table
