"""What shards and files of lines hold."""

import json
import random
from pathlib import Path

import pytest
from webdataset import TarWriter, WebDataset  # type: ignore[import-untyped]

from models.training.readers.json_lines import JsonLines
from models.training.readers.layouts import conversation, interleaved, pair
from models.training.readers.tar_shard import TarShard
from tests.training.readers.examples import png, shade, texts, write_lines, write_pairs

RNG = random.Random(0)


def test_a_shard_has_the_samples_that_webdataset_finds_in_it(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    with TarWriter(str(path)) as shard:
        shard.write({"__key__": "a.b/05", "png": png(1), "txt": "one"})
        shard.write({"__key__": "b", "JPG": png(2), "json": {"caption": "two"}, "extra.npy": b"no"})
        shard.write({"__key__": "c", "webp": png(3), "txt": "three"})
    known = {"one", "two", "three"}
    theirs = [sample["__key__"] for sample in WebDataset(str(path), shardshuffle=False)]
    mine = TarShard(path, pair)
    documents = [mine.read(index, RNG) for index in range(len(mine))]
    assert len(theirs) == len(documents)
    assert {text for document in documents for text in texts(document)} == known


def test_pictures_of_a_sample_are_read_in_any_order(tmp_path: Path) -> None:
    shard = TarShard(write_pairs(tmp_path / "shard.tar", range(50)), pair)
    for index in (49, 0, 17):
        document = shard.read(index, RNG)
        assert texts(document) == [f"shade {index}"]
        assert [shade(piece) for piece in document.pieces if not isinstance(piece, str)] == [index]


def test_a_document_of_a_shard_finds_its_pictures_by_name(tmp_path: Path) -> None:
    images = [{"image_name": f"{name}.png", "matched_text_index": index} for index, name in enumerate((1, 0))]
    record = {"text_list": ["One.", "Two."], "image_info": images}
    with TarWriter(str(tmp_path / "shard.tar")) as shard:
        shard.write({"__key__": "doc", "json": json.dumps(record).encode(), "0.png": png(10), "1.png": png(11)})
    document = TarShard(tmp_path / "shard.tar", interleaved).read(0, RNG)
    assert [piece if isinstance(piece, str) else shade(piece) for piece in document.pieces] == ["One.", 11, "Two.", 10]


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"txt": b"no picture"}, "image"),
        ({"png": png(1)}, "caption"),
        ({"png": b"no picture", "txt": b"text"}, "no picture"),
        ({"png": png(1), "json": b"{"}, "Expecting"),
        ({"png": png(1), "txt": b"\xff"}, "utf-8"),
    ],
)
def test_a_sample_with_something_missing_or_broken_is_an_error(
    tmp_path: Path, sample: dict[str, bytes], message: str
) -> None:
    with TarWriter(str(tmp_path / "shard.tar"), encoder=False) as shard:
        shard.write({"__key__": "0", **sample})
    with pytest.raises(ValueError, match=message):
        TarShard(tmp_path / "shard.tar", pair).read(0, RNG)


def test_what_is_no_tar_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_text("x" * 2000)
    with pytest.raises(ValueError, match="no tar file"):
        len(TarShard(tmp_path / "shard.tar", pair))


def test_blank_lines_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(png(1))
    path = tmp_path / "lines.jsonl"
    path.write_text('\n{"image": "1.png", "caption": "né"}\n  \n{"image": "1.png", "caption": "two"}')
    lines = JsonLines(path, tmp_path / "pictures", pair)
    assert [texts(lines.read(index, RNG)) for index in range(len(lines))] == [["né"], ["two"]]


def test_a_line_of_llava_is_read(tmp_path: Path) -> None:
    (tmp_path / "5.png").write_bytes(png(5))
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "Gray."}]
    path = write_lines(tmp_path / "llava.jsonl", [{"id": "0", "image": "5.png", "conversations": turns}])
    document = JsonLines(path, tmp_path, conversation).read(0, RNG)
    assert document.answer == ("Gray.",)
    assert document.prompt is not None
    assert shade(document.prompt[0]) == 5


@pytest.mark.parametrize("line", ["{", "[1]", "3"])
def test_a_line_that_is_no_object_is_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "lines.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"Expecting|object"):
        JsonLines(tmp_path / "lines.jsonl", tmp_path, pair).read(0, RNG)
