"""The copy of one log in Redis."""

from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from server.interleave.events import is_last
from server.interleave.journal.codec import CodecError, encode_event
from server.interleave.journal.keys import (
    Entry,
    Keys,
    entry_id,
    entry_sequence,
    read_entry,
    record_fields,
)
from server.interleave.journal.log import DocumentLog
from server.observe.tracing import tracer

BATCH_EVENTS = 500
BATCH_BYTES = 2**20
NOTHING = ""

# KEYS: the stream. ARGV: id of its last entry, or nothing to begin it anew; id from which on entries are kept;
# number of the first new entry; the new events. Returns whether the last entry was that one: if not, nothing is done.
APPEND = """
if ARGV[1] == '' then
  redis.call('DEL', KEYS[1])
else
  local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
  if not last or last[1] ~= ARGV[1] then
    return 0
  end
end
for i = 4, #ARGV do
  redis.call('XADD', KEYS[1], string.format('%d-0', ARGV[3] + i - 4), 'event', ARGV[i])
end
redis.call('XTRIM', KEYS[1], 'MINID', ARGV[2])
return 1
"""


class TakenOverError(Exception):
    """Another process has ended the document, because it took this one for dead."""


class Replica:
    """Brings to Redis what the log has and Redis has not: :meth:`write`, then :meth:`check` what Redis answered.

    Args:
        log: what is copied.
        keys: of the journal.
        owner: id of this process.
        retention_s: how long Redis keeps the copy unless it is renewed.

    Attributes:
        log: what is copied.
        span: from the first event to the end of the copying.
        begun: whether Redis has something of it.
        certain: whether it is known what Redis has, and not only what was sent to it.
    """

    def __init__(self, log: DocumentLog, keys: Keys, owner: str, retention_s: float) -> None:
        self.log = log
        self.span = tracer.start_span("journal", attributes={"dreamserve.document.id": log.record.id})
        self.begun = False
        self.certain = True
        self._next = self._sent = 0
        self._owner = owner
        self._record = keys.record(log.record.id)
        self._events = keys.events(log.record.id)
        self._retention_ms = max(1, round(retention_s * 1000))

    @property
    def complete(self) -> bool:
        """Whether Redis has all that the log has now."""
        return self.certain and self._next == self.log.next

    def write(self, pipeline: Pipeline) -> int:
        """Put the next events into a pipeline, and return their bytes."""
        log, events, size = self.log, list[bytes](), 0
        begin = max(self._next, log.first)
        for event in log.read(begin, BATCH_EVENTS):
            events.append(encode_event(event))
            size += len(events[-1])
            if size > BATCH_BYTES:
                break
        self._sent, self.certain = begin + len(events), False
        latest = entry_id(self._next - 1) if self.begun else NOTHING
        pipeline.eval(APPEND, 1, self._events, latest, entry_id(log.first), begin + 1, *events)
        if not self.begun:  # after the events: who finds the record finds some
            pipeline.hset(self._record, mapping=record_fields(log.record, self._owner))
            size += len(log.record.request)
        if not self.begun or log.ended:
            self.renew(pipeline)
        return size

    def check(self, answers: Sequence[Any]) -> None:
        """Learn from the answers to :meth:`write` whether all was written. If not, it is not certain what was."""
        if answers[0] == 1 and not any(isinstance(answer, RedisError) for answer in answers):
            self._next = self._sent
            self.begun = self.certain = True

    async def compare(self, client: Redis) -> None:
        """Find out what Redis has.

        Raises:
            TakenOverError: an end that is not the log's.
            RedisError: Redis cannot be reached.
        """
        async with client.pipeline(transaction=False) as pipeline:
            pipeline.exists(self._record)
            pipeline.xrevrange(self._events, count=1)
            has_record, latest = await pipeline.execute()
        try:
            self._next = self._after(latest[0]) if has_record and latest else 0
        except CodecError:
            self._next = 0  # nothing that could be continued
        self.begun = self._next > 0
        self.certain = True

    def renew(self, pipeline: Pipeline) -> None:
        """Have Redis keep it for as long again. Two answers: whether it has the record, and the events."""
        pipeline.pexpire(self._record, self._retention_ms)
        pipeline.pexpire(self._events, self._retention_ms)

    def _after(self, latest: Entry) -> int:
        """The sequence number after the latest event that Redis has."""
        sequence, event = entry_sequence(latest[0]), read_entry(latest)
        kept = self.log.first <= sequence < self.log.next
        if is_last(event) and not (kept and self.log.read(sequence, 1)[0] == event):
            raise TakenOverError
        return sequence + 1
