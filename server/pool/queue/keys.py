"""Names of the keys in Redis."""

from dataclasses import dataclass

from server.pool.wire import WIRE_VERSION

GROUP = "workers"


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of all keys of one pool: the servers and workers of one checkpoint in one namespace.

    They share a hash tag, so that a cluster keeps them in one slot and a script may touch any of them, and the version
    of the wire format, so that nobody reads what only others understand.

    Attributes:
        namespace: sets apart what shares a Redis.
        checkpoint_id: of the weights that draw; see :func:`models.diffusion.fingerprint.checkpoint_id`.
    """

    namespace: str
    checkpoint_id: str

    @property
    def prefix(self) -> str:
        """What all names begin with. The scripts take it as their one key, which tells a cluster where to run them."""
        return f"{{{self.namespace}:{self.checkpoint_id}}}:v{WIRE_VERSION}:"

    def jobs(self, priority: str) -> str:
        """Stream of the jobs of a priority."""
        return f"{self.prefix}jobs:{priority}"

    def job(self, job_id: str) -> str:
        """Hash of one open job."""
        return f"{self.prefix}job:{job_id}"

    def outcome(self, job_id: str) -> str:
        """What became of a job: its picture, or why there is none."""
        return f"{self.prefix}outcome:{job_id}"

    def replies(self, server_id: str) -> str:
        """Stream of what the workers tell one server."""
        return f"{self.prefix}replies:{server_id}"

    def states(self, digest: str) -> str:
        """Dream states that many jobs refer to."""
        return f"{self.prefix}states:{digest}"

    def cancellations(self, worker_id: str) -> str:
        """Channel on which a worker hears that jobs are not wanted any more."""
        return f"{self.prefix}cancel:{worker_id}"

    @property
    def dead(self) -> str:
        """Stream of the jobs that were given up."""
        return f"{self.prefix}dead"
