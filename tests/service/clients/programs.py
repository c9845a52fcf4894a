"""Programs that use clients, each run in the environment that has its client.

OpenAI's Python client is in the environment of the tests. The others want other versions of the same packages than vLLM
does, and than each other: ``make clients`` makes an environment for each of them.
"""

import shutil
import sys
from pathlib import Path

import pytest

from tests.commands import run

ROOT = Path(__file__).parents[3]
ENVIRONMENTS = ROOT / ".clients"


def environment(name: str) -> Path:
    """The folder of an environment, which must be there."""
    folder = ENVIRONMENTS / name
    if not (folder / ".installed").is_file():
        pytest.fail(f"there is no environment for {name}: run `make clients`")
    return folder


def interpreter(program: str) -> Path:
    """What runs a program, whose name begins with that of its client."""
    if program.endswith(".mjs"):
        return environment("node") / "bin" / "node"
    client, _, _ = program.partition("_")
    return Path(sys.executable) if client == "openai" else environment(client) / "bin" / "python"


def copy_programs(source: Path, folder: Path) -> None:
    """Copy the programs of a folder to another one, where Node finds its packages."""
    shutil.copytree(source, folder, dirs_exist_ok=True)
    (folder / "node_modules").symlink_to(environment("node") / "node_modules")


async def run_program(program: Path, *arguments: str, variables: dict[str, str]) -> str:
    """Run a program, in its own folder.

    Args:
        program: its file.
        arguments: of its command line.
        variables: environment variables.

    Returns:
        What it printed.
    """
    # LiteLLM asks GitHub for prices otherwise.
    variables = {**variables, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONDONTWRITEBYTECODE": "1"}
    return await run([interpreter(program.name), program.name, *arguments], program.parent, variables)
