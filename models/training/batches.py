"""From documents to micro-batches: by number, of about one length, prepared by other processes ahead of time."""

import logging
import random
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from models.training.documents import Document
from models.training.documents.stored import BrokenPictureError
from models.training.readers import Documents
from models.training.sequence import Batch, Encoder, Example, collate

logger = logging.getLogger(__name__)

WINDOW = 16  # batches whose documents are sorted by length together


class DenoisedShare(BaseModel):
    """How many of the pictures asked for are denoised. The UNet is what a picture costs most.

    Attributes:
        pictures: of a micro-batch, at most; None for all.
        every: only every so-manieth micro-batch has any.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pictures: int | None = Field(None, ge=0)
    every: int = Field(1, gt=0)


class DocumentBatches(IterableDataset[Batch]):
    """The micro-batches of a run, each the same whenever it is asked for.

    Documents are taken in windows of several batches and sorted by length within, so that little of a batch is padding;
    which batch of a window comes when is random. So every process goes through the texts of all documents, which costs
    little, and loads, draws and encodes what is in its own batches alone.

    Args:
        documents: the data.
        encoder: makes sequences of them.
        batch_size: documents of a micro-batch.
        seed: decides order and drawing.
        denoised: which pictures are denoised.
        side: of these, in pixels.
        max_length: tokens; what is longer is left out.
        workers: processes that prepare micro-batches ahead; 0 prepares them where they are used.

    Attributes:
        broken: documents left out so far, in this process, because of their pictures.
    """

    def __init__(
        self,
        documents: Documents,
        encoder: Encoder,
        *,
        batch_size: int,
        seed: int,
        denoised: DenoisedShare,
        side: int,
        max_length: int,
        workers: int = 1,
    ) -> None:
        self.documents = documents
        self.encoder = encoder
        self.batch_size = batch_size
        self.seed = seed
        self.denoised = denoised
        self.side = side
        self.max_length = max_length
        self.workers = workers
        self.first, self.stride = 0, 1
        self.broken = 0

    def __call__(self, first: int, stride: int) -> Iterator[Batch]:
        """Micro-batches first, first + stride, … without end."""
        self.first, self.stride = first, stride
        ahead: dict[str, Any] = {"prefetch_factor": 8} if self.workers else {}
        return iter(DataLoader(self, batch_size=None, num_workers=self.workers, **ahead))

    def __iter__(self) -> Iterator[Batch]:
        # Workers hand over in turn, so each takes its turns of the numbers.
        worker = get_worker_info()
        index, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        number, stride = self.first + index * self.stride, count * self.stride
        stream = self.documents(number // WINDOW * WINDOW * self.batch_size)
        window, chosen = -1, list[list[Document]]()
        while True:
            while window < number // WINDOW:
                window = number // WINDOW if window < 0 else window + 1
                chosen = self.split(list(islice(stream, WINDOW * self.batch_size)), window)
            turn = number % WINDOW
            yield self.batch(chosen[turn], chain.from_iterable(chosen[turn + 1 :] + chosen[:turn]), number)
            number += stride

    def split(self, documents: list[Document], window: int) -> list[list[Document]]:
        """The documents of a window as its batches, each of about one length, in random order."""
        documents = sorted(documents, key=self.encoder.rough_length)
        size = self.batch_size
        batches = [documents[start : start + size] for start in range(0, len(documents), size)]
        random.Random(f"{self.seed}/window/{window}").shuffle(batches)
        return batches

    def batch(self, documents: list[Document], others: Iterable[Document], number: int) -> Batch:
        """One micro-batch; the others of its window take the places of documents whose pictures are broken.

        Raises:
            ValueError: all of its documents are too long, or all of the window are broken.
        """
        rng = random.Random(f"{self.seed}/batch/{number}")
        examples = list(islice(self.encoded(chain(documents, others), rng), len(documents)))
        short = [example for example in examples if len(example.ids) <= self.max_length]
        if not short:
            raise ValueError(f"all documents of batch {number} are broken or longer than max_length, {self.max_length}")
        rng.shuffle(short)
        denoised = 0 if number % self.denoised.every else self.denoised.pictures
        return collate(short, self.encoder.processor, denoised, self.side)

    def encoded(self, documents: Iterable[Document], rng: random.Random) -> Iterator[Example]:
        """Those of documents whose pictures can be read; the others are logged and counted."""
        for document in documents:
            try:
                yield self.encoder.encode(document, rng)
            except BrokenPictureError as error:
                self.broken += 1
                logger.warning("left out a document, the %dth: %s", self.broken, error)
