"""Documents by number: the same number always gives the same document, whatever is broken and whoever asks."""

import itertools
import logging
from collections import Counter
from pathlib import Path

import pytest

from models.training.documents import INSTRUCTIONS, Document
from models.training.readers import Documents, Reader, WorldReader, read_json, read_webdataset
from tests.training.readers.examples import texts, write_lines, write_pairs


def taken(documents: Documents, start: int, count: int) -> list[str]:
    """The captions of documents from a number on."""
    return [texts(document)[0] for document in itertools.islice(documents(start), count)]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Three shards of ten samples."""
    for shard in range(3):
        write_pairs(tmp_path / f"pairs-{shard}.tar", range(10 * shard, 10 * shard + 10))
    return read_webdataset(str(tmp_path / "pairs-{0..2}.tar"), "pair", seed=5)


def test_every_sample_comes_once_in_an_epoch_and_in_another_order_in_the_next(reader: Reader) -> None:
    first, second = taken(reader, 0, 30), taken(reader, 30, 30)
    assert set(first) == set(second) == {f"shade {value}" for value in range(30)}
    assert first != second
    assert first != sorted(first)


@pytest.mark.parametrize("start", [1, 9, 10, 29, 30, 74])
def test_a_run_that_goes_on_gets_what_it_would_have_got(reader: Reader, start: int) -> None:
    assert taken(reader, start, 12) == taken(reader, 0, start + 12)[start:]


def test_the_way_round_of_a_pair_belongs_to_its_number(reader: Reader) -> None:
    def ways() -> list[bool]:
        return [document.learned for document in itertools.islice(reader(0), 60)]

    assert ways() == ways()
    assert Counter(ways()).keys() == {True, False}


def test_seeds_give_other_orders(tmp_path: Path, reader: Reader) -> None:
    other = read_webdataset(str(tmp_path / "pairs-{0..2}.tar"), "pair", seed=6)
    assert taken(reader, 0, 30) != taken(other, 0, 30)


def test_the_order_is_the_same_wherever_the_files_lie(tmp_path: Path, reader: Reader) -> None:
    here = taken(reader, 0, 60)
    moved = tmp_path / "moved"
    moved.mkdir()
    for shard in range(3):
        (tmp_path / f"pairs-{shard}.tar").rename(moved / f"pairs-{shard}.tar")
    elsewhere = read_webdataset(str(moved / "pairs-{0..2}.tar"), "pair", seed=5)
    assert taken(elsewhere, 0, 60) == here


def with_broken(folder: Path) -> Reader:
    """Twenty records, of which every third names no picture."""
    records = [
        {"caption": f"sample {number}"} | ({} if number % 3 == 2 else {"image": "there.png"}) for number in range(20)
    ]
    return read_json([write_lines(folder / "pairs.jsonl", records)], folder, "pair", seed=0)


def test_the_sample_after_a_broken_one_takes_its_place(tmp_path: Path) -> None:
    reader = with_broken(tmp_path)
    captions = taken(reader, 0, 20)
    assert reader.broken == 6
    assert not {f"sample {number}" for number in range(2, 20, 3)} & set(captions)
    assert all(taken(with_broken(tmp_path), start, 3) == captions[start : start + 3] for start in range(17))


def test_what_is_left_out_is_logged_with_its_count(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        taken(with_broken(tmp_path), 0, 20)
    told = [record.getMessage() for record in caplog.records if record.name == "models.training.readers.reader"]
    assert len(told) == 6
    assert "pairs.jsonl, the 6th:" in told[-1]


def test_a_shard_that_cannot_be_read_is_left_out_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = write_pairs(tmp_path / "good.tar", range(8))
    cut = write_pairs(tmp_path / "cut.tar", range(8, 16))
    cut.write_bytes(cut.read_bytes()[:3000])
    reader = read_webdataset(f"{good}::{cut}", "pair", seed=0)
    assert set(taken(reader, 0, 8)) == {f"shade {value}" for value in range(8)}
    assert "cut.tar" in caplog.text


def test_data_without_any_sample_is_an_error(tmp_path: Path) -> None:
    empty = write_lines(tmp_path / "empty.jsonl", [])
    with pytest.raises(ValueError, match=r"no samples in .*empty\.jsonl"):
        next(read_json([empty], tmp_path, "pair", seed=0)(0))


def test_data_of_broken_samples_only_is_an_error(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "pairs.jsonl", [{"caption": "nothing"}] * 300)
    with pytest.raises(ValueError, match="1000 broken samples in a row"):
        next(read_json([path], tmp_path, "pair", seed=0)(0))


def test_a_missing_file_is_found_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"pairs-1\.tar"):
        read_webdataset(str(tmp_path / "pairs-{1..2}.tar"), "pair", seed=0)


def test_the_world_gives_the_same_document_for_a_number() -> None:
    def documents(start: int, count: int) -> list[Document]:
        return list(itertools.islice(WorldReader(INSTRUCTIONS, seed=3)(start), count))

    assert documents(7, 5) == documents(0, 12)[7:]
    assert documents(0, 5) != list(itertools.islice(WorldReader(INSTRUCTIONS, seed=4)(0), 5))
