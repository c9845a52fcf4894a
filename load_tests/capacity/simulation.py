"""Servers and workers as a discrete-event simulation: what waits for what, and for how long.

Only time is simulated, nothing is computed: a replica of the language model takes steps over all sequences that it has,
with chunked prefill; a worker takes denoising steps over all jobs that it has, and new ones from one line as it has
room, which is what :mod:`models.diffusion.engine` and :mod:`server.pool.worker` do. An answer is the interceptor's
sequence: text, dream states, picture, text. Not simulated are network, faults and previews.
"""

import heapq
from collections import deque
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import simpy

from load_tests.capacity.profile import LanguageModel, Painter, Profile
from load_tests.capacity.traffic import Answer

PATIENCE_S = 60.0  # after the last arrival: what has not ended by then counts as unfinished

Waits = Generator[simpy.Event, Any, None]


@dataclass(slots=True)
class Times:
    """What answers took, in seconds from their arrival unless said otherwise; one number for each that got so far.

    Attributes:
        first_token_s: to the first token.
        first_picture_s: to the first picture.
        picture_s: from dream states asked for to the picture, of every picture.
        answer_s: to the end.
        unfinished: answers that had not ended when the simulation did.
    """

    first_token_s: list[float] = field(default_factory=list)
    first_picture_s: list[float] = field(default_factory=list)
    picture_s: list[float] = field(default_factory=list)
    answer_s: list[float] = field(default_factory=list)
    unfinished: int = 0


@dataclass(slots=True)
class Sequence:
    """One engine request.

    Attributes:
        context: tokens in the cache before it.
        prefill: tokens still to be computed before it decodes.
        decode: tokens to be decoded, the first of them by the last step of the prefill.
        first: happens at its first token.
        done: happens at its last.
    """

    context: int
    prefill: int
    decode: int
    first: simpy.Event
    done: simpy.Event


class Replica:
    """One language model.

    Attributes:
        answers: that are being made with it.
    """

    def __init__(self, env: simpy.Environment, model: LanguageModel) -> None:
        self.answers = 0
        self._env = env
        self._model = model
        self._waiting: deque[Sequence] = deque()
        self._decoding: list[tuple[int, int, Sequence]] = []  # a heap by the step of the last token
        self._context = 0
        self._steps = 0
        self._order = count()
        self._work = env.event()
        env.process(self._run())

    def submit(self, context: int, prefill: int, decode: int) -> Sequence:
        """Begin a request. With no tokens to decode it ends with its prefill."""
        sequence = Sequence(context, prefill, decode, self._env.event(), self._env.event())
        self._waiting.append(sequence)
        if not self._work.triggered:
            self._work.succeed()
        return sequence

    def _run(self) -> Waits:
        while True:
            if not self._waiting and not self._decoding:
                self._work = self._env.event()
                yield self._work
            prefilled, tokens = self._admit()
            seconds = self._model.step_s + self._model.token_s * tokens + self._model.context_s * self._context
            yield self._env.timeout(seconds)
            self._steps += 1
            self._context += len(self._decoding)
            while self._decoding and self._decoding[0][0] <= self._steps:
                _, _, sequence = heapq.heappop(self._decoding)
                self._context -= sequence.context + sequence.decode
                sequence.done.succeed()
            for sequence in prefilled:
                self._begin_decoding(sequence)

    def _admit(self) -> tuple[list[Sequence], int]:
        """The prefills that the next step completes, and the tokens that it computes in all."""
        tokens = len(self._decoding)
        completed: list[Sequence] = []
        while self._waiting and len(self._decoding) + len(completed) < self._model.max_seqs:
            sequence = self._waiting[0]
            chunk = max(0, min(sequence.prefill, self._model.max_tokens - tokens))
            sequence.prefill -= chunk
            sequence.context += chunk
            tokens += chunk
            if sequence.prefill:
                break
            completed.append(self._waiting.popleft())
        return completed, tokens

    def _begin_decoding(self, sequence: Sequence) -> None:
        sequence.first.succeed()
        if sequence.decode <= 1:
            sequence.done.succeed()
            return
        heapq.heappush(self._decoding, (self._steps + sequence.decode - 1, next(self._order), sequence))
        self._context += sequence.context + 1


class Pool:
    """Workers and the line of jobs before them."""

    def __init__(self, env: simpy.Environment, painter: Painter, workers: int) -> None:
        self._env = env
        self._painter = painter
        self._line: deque[simpy.Event] = deque()
        self._idle: deque[simpy.Event] = deque()
        for _ in range(workers):
            env.process(self._work())

    def draw(self) -> Waits:
        """One picture, from its dream states to the server."""
        yield self._env.timeout(self._painter.hand_off_s)
        drawn = self._env.event()
        self._line.append(drawn)
        if self._idle:
            self._idle.popleft().succeed()
        yield drawn
        yield self._env.timeout(self._painter.finish_s)

    def _work(self) -> Waits:
        painter = self._painter
        jobs: deque[tuple[int, simpy.Event]] = deque()  # by their last step
        step = 0
        while True:
            if not jobs and not self._line:
                wakened = self._env.event()
                self._idle.append(wakened)
                yield wakened
            while self._line and len(jobs) < painter.max_batch:
                jobs.append((step + painter.steps, self._line.popleft()))
            if not jobs:
                continue  # another worker was faster
            seconds = painter.step_times.seconds(len(jobs))
            yield self._env.timeout(seconds)
            step += 1
            finished = 0
            while finished < len(jobs) and jobs[finished][0] == step:
                finished += 1
            yield self._env.timeout(finished * painter.decode_s)
            for _ in range(finished):
                jobs.popleft()[1].succeed()


def simulate(
    profile: Profile, answers: Iterable[Answer], servers: int, workers: int, *, counted_from_s: float = 0.0
) -> Times:
    """Let answers arrive, and see what they take.

    Args:
        profile: how long things take.
        answers: in the order of their arrival.
        servers: replicas of the language model.
        workers: of pictures.
        counted_from_s: answers that arrive earlier fill the machines, and are not counted.
    """
    env = simpy.Environment()
    replicas = [Replica(env, profile.language_model) for _ in range(servers)]
    pool = Pool(env, profile.painter, workers)
    times = Times()
    arrived = 0

    def make(answer: Answer, times: Times) -> Waits:
        replica = min(replicas, key=lambda replica: replica.answers)
        replica.answers += 1
        yield env.timeout(profile.language_model.request_s)
        context, new = 0, answer.prompt_tokens
        for number, tokens in enumerate(answer.segments):
            is_last = number == answer.pictures
            # The dream token is one of the sampled ones, and so is the end.
            sequence = replica.submit(context, new, tokens + 1)
            context += new + tokens + 1
            if not number:
                yield sequence.first
                times.first_token_s.append(env.now - answer.arrives_s)
            yield sequence.done
            if is_last:
                break
            asked = env.now
            yield replica.submit(context, profile.query_tokens, 0).done
            context += profile.query_tokens
            yield env.process(pool.draw())
            times.picture_s.append(env.now - asked)
            if not number:
                times.first_picture_s.append(env.now - answer.arrives_s)
            new = profile.image_tokens
        replica.answers -= 1
        times.answer_s.append(env.now - answer.arrives_s)

    def arrivals() -> Waits:
        nonlocal arrived
        for answer in answers:
            yield env.timeout(answer.arrives_s - env.now)
            counts = answer.arrives_s >= counted_from_s
            arrived += counts
            env.process(make(answer, times if counts else Times()))
        yield env.timeout(PATIENCE_S)

    env.run(env.process(arrivals()))
    times.unfinished = arrived - len(times.answer_s)
    return times
