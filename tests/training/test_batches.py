"""Micro-batches follow from their number alone, whoever asks for them and in which process."""

import itertools
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.training.batches import WINDOW, DenoisedShare, DocumentBatches
from models.training.documents import INSTRUCTIONS
from models.training.documents.stored import Stored
from models.training.readers import Reader, WorldReader, read_json, read_webdataset
from models.training.sequence import Batch, Encoder
from models.training.sources import World, mixed, turns
from models.training.world import RESOLUTION
from tests.training.parts import tiny_config, tiny_processor
from tests.training.readers.examples import png, write_lines, write_pairs


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    processor = tiny_processor()
    return Encoder(tiny_config(processor), processor)


def batches(encoder: Encoder, **changes: Any) -> DocumentBatches:
    settings: dict[str, Any] = {
        "batch_size": 4,
        "seed": 1,
        "denoised": DenoisedShare(pictures=2, every=3),
        "side": RESOLUTION,
        "max_length": 2048,
        "workers": 0,
        "documents": WorldReader(INSTRUCTIONS, 1),
    }
    return DocumentBatches(encoder=encoder, **{**settings, **changes})


def take(source: DocumentBatches, count: int, first: int = 0, stride: int = 1) -> list[Batch]:
    return list(islice(source(first, stride), count))


def same(one: Batch, other: Batch) -> bool:
    pictures = [(batch.pixel_values, batch.pictures) for batch in (one, other)]
    return torch.equal(one.input_ids, other.input_ids) and all(
        torch.equal(a, b) if a is not None and b is not None else a is b for a, b in zip(*pictures, strict=True)
    )


def test_a_batch_is_the_same_whenever_it_is_asked_for(encoder: Encoder) -> None:
    straight = take(batches(encoder), WINDOW + 6)
    for first, stride in ((5, 1), (WINDOW + 1, 1), (1, 4)):
        numbers = range(first, WINDOW + 6, stride)
        found = take(batches(encoder), len(numbers), first, stride)
        assert all(same(batch, straight[number]) for batch, number in zip(found, numbers, strict=True))


def test_worker_processes_change_nothing(encoder: Encoder) -> None:
    straight = take(batches(encoder), 6)
    found = take(batches(encoder, workers=2), 3, 1, 2)
    assert all(same(batch, straight[number]) for batch, number in zip(found, (1, 3, 5), strict=True))


@pytest.fixture
def shards(tmp_path: Path) -> Reader:
    """Two shards of 48 pairs."""
    for shard in range(2):
        write_pairs(tmp_path / f"pairs-{shard}.tar", range(48 * shard, 48 * shard + 48))
    return read_webdataset(str(tmp_path / "pairs-{0..1}.tar"), "pair", seed=5)


def noted(monkeypatch: pytest.MonkeyPatch) -> list[Stored]:
    """The pictures that will have been loaded."""
    loaded: list[Stored] = []
    load = Stored.load

    def load_and_note(stored: Stored) -> np.ndarray:
        loaded.append(stored)
        return load(stored)

    monkeypatch.setattr(Stored, "load", load_and_note)
    return loaded


def test_each_process_loads_the_pictures_of_its_own_batches_and_all_have_the_batches_of_one(
    encoder: Encoder, shards: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = noted(monkeypatch)

    def read(count: int, first: int, stride: int) -> tuple[list[Batch], list[Stored]]:
        loaded.clear()
        return take(batches(encoder, documents=shards), count, first, stride), loaded.copy()

    alone, pictures = read(24, 0, 1)
    assert len(pictures) == 96
    for processes in (2, 3):
        shares = [read(24 // processes, first, processes) for first in range(processes)]
        assert Counter(stored for _, share in shares for stored in share) == Counter(pictures)
        for number, batch in enumerate(alone):
            assert same(batch, shares[number % processes][0][number // processes])


def test_a_run_that_goes_on_leaves_the_pictures_behind_it_on_the_disk(
    encoder: Encoder, shards: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = take(batches(encoder, documents=shards), 24)
    loaded = noted(monkeypatch)
    rest = take(batches(encoder, documents=shards), 5, 19)
    assert all(same(*pair) for pair in zip(rest, straight[19:], strict=True))
    assert len(loaded) == 5 * 4


@pytest.mark.parametrize("batch_size", [1, 4])
def test_other_documents_take_the_places_of_those_with_broken_pictures(
    encoder: Encoder, tmp_path: Path, batch_size: int, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "there.png").write_bytes(png(1))
    (tmp_path / "cut.png").write_bytes(png(1)[:40])
    names = itertools.cycle(["there.png", "there.png", "cut.png", "there.png", "missing.png"])
    records = [{"image": next(names), "caption": f"sample {number}"} for number in range(40)]
    documents = read_json([write_lines(tmp_path / "pairs.jsonl", records)], tmp_path, "pair", seed=0)

    def read(first: int, stride: int) -> list[Batch]:
        return take(batches(encoder, documents=documents, batch_size=batch_size), 12, first, stride)

    found = read(0, 1)
    assert all(len(batch.input_ids) == batch_size for batch in found)
    assert all(same(*pair) for pair in zip(read(0, 2), read(0, 1)[::2], strict=False))
    assert "cut.png" in caplog.text
    assert "missing.png" in caplog.text


def test_a_window_of_broken_pictures_is_an_error(encoder: Encoder, tmp_path: Path) -> None:
    records = [{"image": "missing.png", "caption": f"sample {number}"} for number in range(40)]
    documents = read_json([write_lines(tmp_path / "pairs.jsonl", records)], tmp_path, "pair", seed=0)
    with pytest.raises(ValueError, match="broken or longer"):
        take(batches(encoder, documents=documents), 1)


def test_little_of_a_batch_is_padding(encoder: Encoder) -> None:
    pad = encoder.tokenizer.pad_token_id
    found = take(batches(encoder, batch_size=16), WINDOW)
    filled = sum(int((batch.input_ids != pad).sum()) for batch in found)
    assert filled > 0.8 * sum(batch.input_ids.numel() for batch in found)


def test_pictures_are_denoised_in_the_batches_whose_turn_it_is(encoder: Encoder) -> None:
    for number, batch in enumerate(take(batches(encoder), 12)):
        if number % 3 or not batch.wishes:
            assert batch.pictures is None
        else:
            assert batch.pictures is not None
            assert len(batch.pictures) == min(2, len(batch.wishes))


def test_documents_that_are_too_long_are_left_out(encoder: Encoder) -> None:
    found = take(batches(encoder, max_length=240, batch_size=32), WINDOW)
    assert all(batch.input_ids.shape[1] <= 240 for batch in found)
    assert any(len(batch.input_ids) < 32 for batch in found)
    with pytest.raises(ValueError, match="longer than max_length"):
        take(batches(encoder, max_length=3), 1)


def test_sources_are_mixed_by_their_shares_and_can_be_entered_anywhere() -> None:
    sources = [
        World(reader="world", mixture="pairs", share=3),
        World(reader="world", mixture="instructions", share=1),
    ]
    documents = mixed(sources, 5, Path())
    straight = list(islice(documents(0), 250))
    assert sum(document.prompt is not None for document in straight[:100]) == 25
    assert list(islice(documents(137), 20)) == straight[137:157]


def test_even_the_smallest_share_has_its_turn() -> None:
    assert turns([1000, 1]).count(1) == 1
    assert turns([2, 1, 1]).count(0) == 50
