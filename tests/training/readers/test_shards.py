"""What shards and files of lines hold."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from webdataset import TarWriter, WebDataset  # type: ignore[import-untyped]

from models.training.documents import render
from models.training.documents.stored import BrokenPictureError
from models.training.readers import json_records, read_json
from models.training.readers.json_records import JsonRecords
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


def test_a_broken_picture_is_found_when_it_is_loaded(tmp_path: Path) -> None:
    with TarWriter(str(tmp_path / "shard.tar"), encoder=False) as shard:
        shard.write({"__key__": "0", "png": png(1)[:40], "txt": b"text"})
    document = TarShard(tmp_path / "shard.tar", pair).read(0, RNG)
    with pytest.raises(BrokenPictureError, match=r"no picture at byte \d+ of .*shard\.tar"):
        render(document, RNG)


def test_what_is_no_tar_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_text("x" * 2000)
    with pytest.raises(ValueError, match="no tar file"):
        len(TarShard(tmp_path / "shard.tar", pair))


def test_blank_lines_are_no_records(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "1.png").write_bytes(png(1))
    path = tmp_path / "lines.jsonl"
    path.write_text('\n{"image": "1.png", "caption": "né"}\n  \n{"image": "1.png", "caption": "two"}')
    lines = JsonRecords(path, tmp_path / "pictures", pair)
    assert [texts(lines.read(index, RNG)) for index in range(len(lines))] == [["né"], ["two"]]


def llava(folder: Path) -> list[dict[str, Any]]:
    """Records as LLaVA has them, with a picture each, and signs in them that could be taken for those around them."""
    for value in range(5):
        (folder / f"{value}.png").write_bytes(png(value))
    answers = ("Gray.", 'A "[{" in\nquotes, \\', "né 猫 🐈", "]", "")
    return [
        {
            "id": [[number], {}],
            "image": f"{number}.png",
            "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": answer}],
        }
        for number, answer in enumerate(answers)
    ]


@pytest.mark.parametrize("chunk", [1, 7, 100, 1 << 20])
@pytest.mark.parametrize("layout", [{"ensure_ascii": False}, {"indent": 4}, {"separators": (",", ":")}])
def test_a_list_of_records_is_read_as_lines_are(
    tmp_path: Path, layout: dict[str, Any], chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_records, "CHUNK", chunk)
    records = llava(tmp_path)
    lines = JsonRecords(write_lines(tmp_path / "llava.jsonl", records), tmp_path, conversation)
    (tmp_path / "llava.json").write_text(f"\n {json.dumps(records, **layout)} \n")
    together = JsonRecords(tmp_path / "llava.json", tmp_path, conversation)
    assert len(together) == len(lines) == len(records)
    for index in (4, 0, 3, 1, 2):
        document = together.read(index, RNG)
        assert document == lines.read(index, RNG)
        assert document.prompt is not None
        assert shade(document.prompt[0]) == index


@pytest.mark.parametrize("empty", ["[]", "\n[ \n]\n", ""])
def test_an_empty_file_or_list_has_no_records(tmp_path: Path, empty: str) -> None:
    (tmp_path / "empty.json").write_text(empty)
    assert len(JsonRecords(tmp_path / "empty.json", tmp_path, pair)) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"a": 1}, {"b": 2}, {"c" 3}]', r"record 2 at byte 20: Expecting ':'"),
        ('[{"a": 1}, {"b": 2}', r"record 1 at byte 10: the list has no end"),
        ('[{"a": 1}, {"b', r"record 1 at byte 10: Unterminated string"),
        ('[{"a": 1} {"b": 2}]', r"record 0 at byte 1 is followed by '{'"),
        ('[{"a": 1},]', r"record 1 at byte 10: Expecting value"),
        ('[{"a": 1}]\n{"b": 2}', r"something follows the list, at byte 10"),
        ("[", r"record 0 at byte 1: the list has no end"),
    ],
)
def test_a_broken_list_is_an_error_that_names_the_record(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        len(JsonRecords(tmp_path / "broken.json", tmp_path, pair))


def test_a_record_of_a_list_that_never_ends_is_not_read_to_the_end_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_records, "CHUNK", 16)
    monkeypatch.setattr(json_records, "LONGEST", 64)
    (tmp_path / "long.json").write_text(json.dumps([{"a": 1}, {"b": "x" * 1000}]))
    with pytest.raises(ValueError, match="record 1 at byte 10"):
        len(JsonRecords(tmp_path / "long.json", tmp_path, pair))


def test_what_is_broken_is_logged_with_file_and_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "1.png").write_bytes(png(1))
    records = [{"image": "1.png", "caption": "one"}, {"image": "1.png"}]
    (tmp_path / "pairs.json").write_text(json.dumps(records))
    (tmp_path / "cut.json").write_text(json.dumps(records)[:-3])
    documents = read_json([tmp_path / "pairs.json", tmp_path / "cut.json"], tmp_path, "pair", seed=0)(0)
    assert {text for _ in range(4) for text in texts(next(documents))} == {"one"}
    assert "sample 1 of " in caplog.text
    assert "pairs.json" in caplog.text
    assert f"left out {tmp_path}/cut.json" in caplog.text
    assert "record 1 at byte 38" in caplog.text


@pytest.mark.parametrize("line", ["{", "[1]", "3"])
def test_a_line_that_is_no_object_is_an_error(tmp_path: Path, line: str) -> None:
    (tmp_path / "lines.jsonl").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=r"Expecting|object"):
        JsonRecords(tmp_path / "lines.jsonl", tmp_path, pair).read(0, RNG)
