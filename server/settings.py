"""Every setting of the server. Command line over environment over one TOML file over the defaults here.

In the environment a setting is ``DREAMSERVE_<GROUP>__<NAME>``, such as ``DREAMSERVE_SERVER__PORT=8080``; in the file it
is ``<name>`` in the table ``[<group>]``. The file is named by ``--config`` or ``DREAMSERVE_CONFIG``.
"""

import os
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

import models

DEFAULT_CHECKPOINT = Path(models.__file__).parent / "checkpoints" / "dreamllm-tiny"
MIB = 2**20
PREFIX = "DREAMSERVE_"

Size = Annotated[str, Field(pattern=r"^[1-9][0-9]*x[1-9][0-9]*$")]
RemoteHost = Annotated[str, Field(pattern=r"^(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*(:[1-9][0-9]{0,4})?$")]
ImportPath = Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]


class Group(BaseModel):
    """A table of settings: a misspelt name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Group):
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    root_path: str = Field("", description="Path under which a proxy serves this server, such as /dream.")
    shutdown_delay_s: float = Field(
        0.0,
        ge=0,
        description="After SIGTERM, how long requests are still taken although /health/ready fails: time for a gateway "
        "to notice. Not for Kubernetes, where a preStop hook does it.",
    )
    shutdown_grace_s: float = Field(30.0, ge=0, description="After that, how long running documents may go on.")
    keepalive_s: float = Field(15.0, gt=0, description="Silence in a stream after which a comment is sent.")
    send_timeout_s: float = Field(60.0, gt=0, description="How long the reader of an answer may take nothing of it.")
    header_timeout_s: float = Field(20.0, gt=0, description="Time for the headers of a request.")
    body_timeout_s: float = Field(120.0, gt=0, description="Time for the body of a request.")
    unread_bytes: int = Field(
        64 * MIB, ge=1, description="Of events that the reader of one answer has not taken; past it, the answer fails."
    )
    allowed_origins: tuple[str, ...] = Field(
        (), description="Origins whose pages may use this server from a browser, such as https://example.com."
    )
    playground: bool = Field(True, description="Serve the page at / on which people can try the server.")
    ops_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of /health and /metrics, which the other one then does not have; 0 takes a free one.",
    )


class AuthSettings(Group):
    """Who may use the server. A server without keys does not start, unless ``enabled`` is false."""

    enabled: bool = Field(True, description="Ask for an API key. false: whoever reaches the server may use it.")
    keys: SecretStr | None = Field(
        None, description="API keys, or sha256: and the hash of one, parted by commas. They have no limits."
    )
    keys_file: Path | None = Field(
        None,
        description="TOML file of hashed keys, with their weights and limits. A changed one is read again. "
        "`dreamserve key` writes its tables.",
    )


class ModelSettings(Group):
    """What is served."""

    path: Path = Field(DEFAULT_CHECKPOINT, description="Checkpoint folder. By default the embedded one.")
    served_name: str | None = Field(None, min_length=1, description="Its name for callers. By default the folder's.")

    @cached_property
    def name(self) -> str:
        """The model's name for callers."""
        return self.served_name or self.path.resolve().name


class LLMSettings(Group):
    """vLLM. What is None is left to vLLM, or to the platform."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Of weights and states. auto is the checkpoint's, but bfloat16 for a float32 checkpoint."
    )
    max_model_len: int | None = Field(None, ge=1, description="Tokens of a context, pictures expanded.")
    max_num_seqs: int = Field(64, ge=1, description="Sequences that decode together.")
    max_num_batched_tokens: int | None = Field(None, ge=1, description="Tokens of one step, over all sequences.")
    block_size: int | None = Field(
        None, ge=1, description="Tokens of a KV block, the unit of prefix caching; on a CPU a multiple of 32."
    )
    gpu_memory_utilization: float = Field(0.6, gt=0, le=1, description="Share of GPU memory; diffusion needs the rest.")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that share the language model.")
    kv_cache_gib: float = Field(1.0, gt=0, description="KV cache where there is no GPU.")
    cpu_threads: int | None = Field(None, ge=1, description="Threads of the CPU kernels. By default half of the cores.")
    enforce_eager: bool | None = Field(None, description="No compilation and no CUDA graphs; None: so on a CPU.")
    image_cache_gib: float = Field(0.25, ge=0, description="Preprocessed pictures that are kept.")
    dream_state_cache: int = Field(64, ge=0, description="Contexts whose dream states are kept.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("ERROR", description="Of vLLM's own loggers.")


class DiffusionSettings(Group):
    """The diffusion engine of this process."""

    device: str = Field("auto", description="Torch device; auto takes a GPU if there is one.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto is float32 on a CPU and float16 elsewhere."
    )
    max_batch: int = Field(8, ge=1, description="Pictures that are drawn together.")
    max_decode_batch: int = Field(4, ge=1, description="Pictures that are decoded together.")
    preview_share: float = Field(
        0.1, ge=0, le=1, description="Of the time for denoising, what previews may take; others are left out."
    )


class RedisSettings(Group):
    """What servers and workers share: the queue of image jobs, and stored documents. All must agree on all of it."""

    url: SecretStr | None = Field(
        None,
        description="redis://[user:password@]host:port/db, rediss:// with TLS, unix://, or "
        "redis+sentinel://host:port,…/master/db. A server without it draws by itself.",
    )
    namespace: str = Field(
        "dreamserve",
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="First part of all keys: parts what shares a Redis.",
    )
    lease_s: float = Field(
        10.0, ge=0.1, description="Silence after which a worker's jobs go to another, and a server's are dropped."
    )
    patience_s: float = Field(
        30.0, ge=0, description="How long jobs and stored documents wait for a Redis that is away or full."
    )


class WorkerSettings(Group):
    """A process that draws for servers."""

    host: str = Field("127.0.0.1", description="Address of its health checks and metrics; 0.0.0.0 for all.")
    port: int = Field(8001, ge=0, le=65535, description="Port of the same; 0 takes a free one.")
    drain_s: float = Field(30.0, ge=0, description="After SIGTERM, how long its jobs may go on before others get them.")
    max_tries: int = Field(3, ge=1, description="Workers that may die with a job before it is given up.")


class LimitsSettings(Group):
    """What one request may ask for."""

    images: int = Field(8, ge=0, le=64, description="Pictures of one answer.")
    default_max_tokens: int | None = Field(
        None, ge=1, description="max_tokens of requests without one; None: the context."
    )
    steps: int = Field(250, ge=1, le=998, description="Denoising steps of one picture.")
    image_pixels: int = Field(1024 * 1024, ge=1, description="Pixels of one drawn picture.")
    image_sizes: tuple[Size, ...] | None = Field(
        None, description="The only sizes allowed, such as 512x512; None: any."
    )
    image_timeout_s: float = Field(
        300.0, gt=0, description="Time for one picture, waiting included; then its part fails."
    )
    body_bytes: int = Field(32 * MIB, ge=1, description="Bytes of a request body.")
    input_parts: int = Field(256, ge=1, description="Parts of a request, over all messages.")
    input_images: int = Field(16, ge=0, description="Pictures of a request.")
    input_image_bytes: int = Field(10 * MIB, ge=1, description="Encoded bytes of one picture of a request.")
    input_image_pixels: int = Field(16_000_000, ge=1, description="Pixels of one picture of a request.")
    input_pixels: int = Field(
        32_000_000, ge=1, description="Pixels of all pictures of a request; decoded, 4 bytes each."
    )
    held_input_pixels: int = Field(
        500_000_000,
        ge=1,
        description="Pixels of the pictures of all requests that wait or are answered; past it, requests with pictures "
        "are refused for a while.",
    )
    input_image_threads: int = Field(2, ge=1, description="Pictures of requests that are decoded at one time.")
    input_image_timeout_s: float = Field(
        20.0, gt=0, description="Time for decoding one picture of a request, waiting included; then it is refused."
    )


class RemoteImagesSettings(Group):
    """Pictures of requests that are given as https URLs. By default none are fetched."""

    allowed_hosts: tuple[RemoteHost, ...] = Field(
        (), description="Fetched from: example.com, *.example.com for all below it, example.com:8443 for another port."
    )
    timeout_s: float = Field(10.0, gt=0, description="Time for fetching one picture, from its name to its last byte.")
    concurrency: int = Field(8, ge=1, description="Pictures that are fetched at one time; others wait.")


class ChecksSettings(Group):
    """What looks at prompts before they are answered, and at pictures before anybody sees them. By default nothing."""

    prompt: ImportPath | None = Field(None, description="Makes the check of prompts, such as package.module:factory.")
    image: ImportPath | None = Field(
        None, description="Makes the check of drawn pictures and previews, such as server.guard.flat_pictures:check."
    )
    timeout_s: float = Field(
        10.0, gt=0, description="Time for one check, waiting included; what takes longer is refused."
    )
    threads: int = Field(2, ge=1, description="Checks that run at one time.")


class AdmissionSettings(Group):
    """When a document may begin, and when the pictures of one that has begun come too late."""

    max_running: int = Field(256, ge=1, description="Documents at work.")
    max_waiting: int = Field(256, ge=1, description="Documents in line; when it is full, requests are refused.")
    max_wait_s: float = Field(30.0, gt=0, description="How long one may wait in line; then it is refused.")
    max_kv_usage: float = Field(0.9, gt=0, le=1, description="Share of the KV cache in use at which nobody is let in.")
    max_engine_waiting: int = Field(8, ge=1, description="Requests in vLLM's own line at which nobody is let in.")
    max_picture_wait_s: float = Field(
        60.0, gt=0, description="Seconds of work for the pool, promised pictures included, at which no others may come."
    )
    expected_images: float | None = Field(
        None, ge=0, description="Pictures that a document is promised if it may have as many. None: as they have had."
    )
    behind_s: float = Field(
        120.0, gt=0, description="Seconds of work in the pool past which answers do what their images.on_overload says."
    )
    wait_for_workers: bool = Field(
        False,
        description="Be ready without workers, and take documents with pictures, which wait for one: for where workers "
        "are started when there is work for them.",
    )


class JournalSettings(Group):
    """Stored documents: in the memory of the process that makes them and, where there is one, in Redis too."""

    retention_s: float = Field(
        3600.0, gt=0, allow_inf_nan=False, description="How long a document can be read after it has ended."
    )
    abandon_after_s: float = Field(
        300.0, gt=0, description="Without a reader for so long, a running document is cancelled; inf: never."
    )
    document_bytes: int = Field(
        64 * MIB, ge=1, description="Of events of one document; a longer one loses its oldest, and cannot be resumed."
    )
    total_bytes: int = Field(256 * MIB, ge=1, description="Of all documents of this process; the oldest ended ones go.")


class FilesSettings(Group):
    """Pictures that answers link to rather than hold, with ``delivery`` or ``response_format`` of ``url``."""

    target: SecretStr | None = Field(
        None,
        description="Where they are kept: memory:// of this process, redis:// which is the Redis of the pool, or a URL "
        "of a folder that fsspec can write to: file:///var/lib/dreamserve, s3://bucket/folder (needs the package "
        "s3fs). By default Redis if there is one, else memory.",
    )
    ttl_s: float = Field(
        7200.0,
        gt=0,
        allow_inf_nan=False,
        description="How long a picture is kept, from when it was drawn. Shorter than a stored document is made and "
        "kept (`journal.retention_s`), its links end before it does.",
    )
    max_bytes: int = Field(
        256 * MIB, ge=1, description="Of pictures in memory; the oldest go. Redis and disks have limits of their own."
    )
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="What links to pictures begin with, such as https://example.com/dream. By default the host, the "
        "scheme and the root path under which a request came.",
    )

    def target_url(self, redis: RedisSettings) -> str:
        """Where pictures are kept, the default filled in."""
        if self.target is not None:
            return self.target.get_secret_value()
        return "memory://" if redis.url is None else "redis://"


LogFormat = Literal["text", "json"]


class LogSettings(Group):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity.")
    format: LogFormat = Field("text", description="For people, or one JSON object a line.")
    contents: bool = Field(False, description="Prompts and answers too, without their pictures. Else they never are.")


class Settings(BaseSettings):
    """All settings. ``Settings()`` reads environment and file; arguments go over both."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
        hide_input_in_errors=True,  # which may be a secret
    )

    config: Path | None = Field(None, description="The TOML file.")
    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    model: ModelSettings = ModelSettings()
    llm: LLMSettings = LLMSettings()
    diffusion: DiffusionSettings = DiffusionSettings()
    redis: RedisSettings = RedisSettings()
    worker: WorkerSettings = WorkerSettings()
    limits: LimitsSettings = LimitsSettings()
    admission: AdmissionSettings = AdmissionSettings()
    remote_images: RemoteImagesSettings = RemoteImagesSettings()
    checks: ChecksSettings = ChecksSettings()
    journal: JournalSettings = JournalSettings()
    files: FilesSettings = FilesSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="before")
    @classmethod
    def _environment_holds_no_other(cls, given: Any) -> Any:
        # Only names with the delimiter: Kubernetes adds DREAMSERVE_PORT and the like for a Service of that name.
        for name in map(str.upper, os.environ):
            group, delimiter, _ = name.removeprefix(PREFIX).partition("__")
            if name.startswith(PREFIX) and delimiter and group.lower() not in cls.model_fields:
                raise ValueError(f"there is no setting {name}, which is in the environment")
        return given

    @field_validator("config")
    @classmethod
    def _file_exists(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError(f"there is no file {path}")
        return path

    @model_validator(mode="after")
    def _files_have_their_redis(self) -> Self:
        if self.files.target_url(self.redis) == "redis://" and self.redis.url is None:
            raise ValueError("files.target is redis://, the Redis of the pool, but redis.url names none")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given = cast(InitSettingsSource, init_settings).init_kwargs
        file = given.get("config") or env_settings().get("config")
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)
