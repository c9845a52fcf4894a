"""The gateway of docker/gateway: Envoy with the reference configuration, in which only the addresses are others."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import trustme
import yaml

from tests.operations.programs import program
from tests.operations.upstreams import Address
from tests.redis_server import HOST, free_port

REFERENCE = Path(__file__).parents[2] / "docker" / "gateway" / "envoy.yaml"
PATIENCE_S = 240.0  # less than the limit of a test


def reference() -> Any:
    """The configuration as it stands."""
    return yaml.safe_load(REFERENCE.read_text())


def connection_manager(config: Any) -> Any:
    """The part of a configuration that is about requests."""
    return config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]


@dataclass(frozen=True)
class Gateway:
    """A running gateway.

    Attributes:
        port: on which it speaks TLS.
        client: trusts its certificate.
        authority: that signed it.
        admin: asks what only its operator may.
    """

    port: int
    client: httpx.AsyncClient
    authority: trustme.CA
    admin: httpx.AsyncClient

    async def sends_to(self, *upstreams: Address) -> None:
        """Return when these, and no others, are taken for healthy."""
        wanted = {upstream.port for upstream in upstreams}
        await eventually(lambda: self._healthy_ports(), wanted)

    async def _healthy_ports(self) -> set[int]:
        clusters = (await self.admin.get("/clusters", params={"format": "json"})).json()["cluster_statuses"]
        return {
            host["address"]["socket_address"]["port_value"]
            for host in clusters[0].get("host_statuses", [])
            if not any(host["health_status"].get(f"failed_active_{what}") for what in ("health_check", "hc_timeout"))
            and not host["health_status"].get("pending_active_hc")
        }


async def eventually(ask: Callable[[], Awaitable[Any]], wanted: object) -> None:
    """Ask until the answer is the wanted one. While nobody listens yet, there is none."""
    answer: object = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while answer != wanted:
                try:
                    answer = await ask()
                except httpx.TransportError:
                    answer = None
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{answer} after {PATIENCE_S} s, not {wanted}") from None


@asynccontextmanager
async def gateway(folder: Path, *upstreams: Address) -> AsyncIterator[Gateway]:
    """A gateway in front of these upstreams, which sends requests to all of them."""
    envoy, authority = program("envoy"), trustme.CA()
    port, admin_port = free_port(), free_port()
    config = addressed(folder, authority.issue_cert(HOST), port, upstreams)
    config["admin"]["address"] = socket_address(admin_port)
    file = folder / "envoy.json"
    file.write_text(json.dumps(config))
    with (folder / "envoy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            envoy, "-c", file, "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning", stderr=log
        )
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    try:
        async with (
            httpx.AsyncClient(base_url=f"https://{HOST}:{port}", verify=trust, timeout=PATIENCE_S) as client,
            httpx.AsyncClient(base_url=f"http://{HOST}:{admin_port}") as admin,
        ):
            running = Gateway(port, client, authority, admin)
            await running.sends_to(*upstreams)
            yield running
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def addressed(folder: Path, certificate: trustme.LeafCert, port: int, upstreams: Sequence[Address]) -> Any:
    """The reference configuration with the addresses and the certificate of this test."""
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "tls.crt")
    config = reference()
    listener, servers = config["static_resources"]["listeners"][0], config["static_resources"]["clusters"][0]
    listener["address"] = socket_address(port)
    tls = listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    tls["tls_certificates"] = [
        {
            "certificate_chain": {"filename": str(folder / "tls.crt")},
            "private_key": {"filename": str(folder / "tls.key")},
        }
    ]
    servers["load_assignment"]["endpoints"][0]["lb_endpoints"] = [
        {
            "endpoint": {
                "address": socket_address(upstream.port),
                "health_check_config": {"port_value": upstream.ops_port},
            }
        }
        for upstream in upstreams
    ]
    return config


def socket_address(port: int) -> Any:
    """A port of this machine, as Envoy has it."""
    return {"socket_address": {"address": HOST, "port_value": port}}
