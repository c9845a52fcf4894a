"""How the place of a Redis is written: one URL, of which nothing secret is ever shown."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

REDIS_PORT = 6379
SENTINEL_PORT = 26379

_URL = re.compile(
    r"(?P<scheme>redis|rediss|unix|redis\+sentinel|rediss\+sentinel)://"
    r"(?:(?P<login>[^@/?#\s]*)@)?(?P<hosts>[^@/?#\s]*)(?P<path>/[^@?#\s]*)?(?:\?(?P<options>[^@#\s]*))?"
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::(?P<port>[0-9]{1,5}))?")
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"})
_OPTIONS: Mapping[str, frozenset[str]] = {
    "redis": frozenset(),
    "rediss": _TLS_OPTIONS,
    "unix": frozenset({"db"}),
    "redis+sentinel": _SENTINEL_OPTIONS,
    "rediss+sentinel": _SENTINEL_OPTIONS | _TLS_OPTIONS,
}


@dataclass(frozen=True, slots=True)
class TLSOptions:
    """Named as redis-py names them. By default the system's authorities decide and the host's name must match."""

    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_cert_reqs: str = "required"
    ssl_check_hostname: bool = True


@dataclass(frozen=True, slots=True)
class RedisURL:
    """A URL that was understood. ``str()`` of it hides passwords and options.

    Attributes:
        scheme: of the URL.
        hosts: names and ports: one Redis, or Sentinels to ask one after the other; empty for a unix socket.
        path: of the unix socket, else None.
        master: by which name the Sentinels know the master; None where there are no Sentinels.
        tls: None for connections in the clear.
        username: ACL user; None is the default user.
        password: None for a Redis that wants none.
        sentinel_username: ACL user at the Sentinels themselves.
        sentinel_password: for the Sentinels themselves.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    path: str | None
    master: str | None
    db: int
    tls: TLSOptions | None
    username: str | None
    password: str | None = field(repr=False)
    sentinel_username: str | None
    sentinel_password: str | None = field(repr=False)

    def __str__(self) -> str:
        login = "" if self.password is None else f"{quote(self.username or '', safe='')}:***@"
        if self.path is not None:
            return f"unix://{login}{quote(self.path)}?db={self.db}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        master = "" if self.master is None else f"/{quote(self.master, safe='')}"
        return f"{self.scheme}://{login}{hosts}{master}/{self.db}"


def parse_redis_url(url: str) -> RedisURL:
    """Read one of these, where user name, password, paths and option values are percent-encoded:

    - ``redis://[[user]:password@]host[:port][/db]``, ``rediss://`` for TLS
    - ``unix://[[user]:password@]/path/to/socket[?db=db]``
    - ``redis+sentinel://[[user]:password@]host[:port][,host[:port]…]/master-name[/db]``, ``rediss+sentinel://`` for TLS
      to Sentinels and master. The password is the master's; the Sentinels' own is the option ``sentinel_password``,
      with ``sentinel_username``

    Options of TLS are ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile`` (files), ``ssl_cert_reqs`` (``required``,
    ``none``) and ``ssl_check_hostname`` (``true``, ``false``).

    Raises:
        ValueError: says what is wrong and repeats no part of the URL.
    """
    found = _URL.fullmatch(url)
    if found is None:
        raise ValueError(
            f"not the URL of a Redis: that begins with {', '.join(f'{scheme}://' for scheme in _OPTIONS)}, and "
            "in user name and password the characters :/?#@% are percent-encoded"
        )
    scheme = found["scheme"]
    username, password = _login(found["login"])
    options = _options(found["options"], _OPTIONS[scheme])
    path, master, db = None, None, found["path"] or "/"
    hosts: tuple[tuple[str, int], ...] = ()
    if scheme == "unix":
        path, db = _socket_path(found["hosts"], found["path"]), options.get("db", "")
    elif "sentinel" in scheme:
        hosts = tuple(_host(text, SENTINEL_PORT) for text in found["hosts"].split(","))
        master, db = _master(db)
    else:
        hosts = (_host(found["hosts"], REDIS_PORT),)
    return RedisURL(
        scheme=scheme,
        hosts=hosts,
        path=path,
        master=master,
        db=_db(db.removeprefix("/")),
        tls=_tls(options) if scheme.startswith("rediss") else None,
        username=username,
        password=password,
        sentinel_username=options.get("sentinel_username"),
        sentinel_password=options.get("sentinel_password"),
    )


def safe_url(url: str) -> str:
    """The URL for logs and messages: without passwords and options, and nothing of one that cannot be read."""
    try:
        return str(parse_redis_url(url))
    except ValueError:
        return "<a Redis URL that cannot be read>"


def _decoded(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        # The cause would repeat the text.
        raise ValueError("the URL has a percent-encoded part that is not UTF-8") from None


def _login(text: str | None) -> tuple[str | None, str | None]:
    if not text or text == ":":
        return None, None
    username, colon, password = text.partition(":")
    if not colon:
        raise ValueError("the URL has a user name and no password: write user:password@, or :password@ for no user")
    return _decoded(username) or None, _decoded(password)


def _host(text: str, default_port: int) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if found is None:
        raise ValueError("the URL has no host, or a port that is no number")
    port = int(found["port"] or default_port)
    if not 1 <= port <= 65535:
        raise ValueError("the URL's port is not in 1 to 65535")
    return found["host"].strip("[]"), port


def _socket_path(host: str, path: str | None) -> str:
    if host or not path or path == "/":
        raise ValueError("the URL of a unix socket is unix:// and an absolute path: unix:///run/redis.sock")
    return _decoded(path)


def _master(path: str) -> tuple[str, str]:
    """The master's name and what follows."""
    master, _, db = path.removeprefix("/").partition("/")
    if not master:
        raise ValueError("the URL has no name of a master after the Sentinels: write host:port/master-name/db")
    return _decoded(master), db


def _db(text: str) -> int:
    if not re.fullmatch(r"[0-9]{0,9}", text):
        raise ValueError("the URL's database is no number")
    return int(text or 0)


def _options(text: str | None, allowed: frozenset[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for option in (text or "").split("&"):
        name, equals, value = option.partition("=")
        if not option:
            continue
        if not equals or name not in allowed or name in options:
            raise ValueError(
                f"the URL has an option that is unknown or given twice; there may be {', '.join(sorted(allowed))}"
                if allowed
                else "the URL has options after a question mark; with this scheme there are none"
            )
        options[name] = _decoded(value)
    return options


def _tls(options: Mapping[str, str]) -> TLSOptions:
    def one_of(name: str, default: str, *others: str) -> str:
        value = options.get(name, default)
        if value not in (default, *others):
            raise ValueError(f"the URL's {name} is not one of {', '.join((default, *others))}")
        return value

    def file(name: str) -> str | None:
        path = options.get(name)
        if path is not None and not Path(path).is_file():
            raise ValueError(f"the URL's {name} is no file")
        return path

    return TLSOptions(
        ssl_ca_certs=file("ssl_ca_certs"),
        ssl_certfile=file("ssl_certfile"),
        ssl_keyfile=file("ssl_keyfile"),
        ssl_cert_reqs=one_of("ssl_cert_reqs", "required", "none"),
        ssl_check_hostname=one_of("ssl_check_hostname", "true", "false") == "true",
    )
