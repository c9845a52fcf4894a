"""Real picture files with something wrong: a picture or a reason comes out, and never much memory goes in."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.guard.images import ImageInputError, ImageInputLimits, decode_image
from tests.guard.picture_files import FILES, PNG_SIGNATURE, with_right_checksums
from tests.peak_memory import peak_memory
from tests.untimed import untimed

MIB = 2**20
LIMITS = ImageInputLimits(max_bytes=100_000, max_pixels=10_000)
CODES = {"image_too_large", "image_too_narrow", "invalid_image", "unsupported_image_format"}

# What numbers in headers are tempting to be.
FIELDS = [b"\x00", b"\xff", b"\x00\x00", b"\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x00\x01\x00\x00"]

position = st.floats(0, 1, exclude_max=True)
"""A place in a file, as a share of its length."""


@dataclass(frozen=True)
class Overwrite:
    at: float
    content: bytes

    def apply(self, file: bytes) -> bytes:
        at = int(self.at * len(file))
        return file[:at] + self.content + file[at + len(self.content) :]


@dataclass(frozen=True)
class Insert:
    at: float
    content: bytes

    def apply(self, file: bytes) -> bytes:
        at = int(self.at * len(file))
        return file[:at] + self.content + file[at:]


@dataclass(frozen=True)
class Delete:
    at: float
    length: int

    def apply(self, file: bytes) -> bytes:
        at = int(self.at * len(file))
        return file[:at] + file[at + self.length :]


@dataclass(frozen=True)
class Repeat:
    at: float
    length: int
    times: int

    def apply(self, file: bytes) -> bytes:
        at = int(self.at * len(file))
        return file[:at] + file[at : at + self.length] * self.times + file[at:]


@dataclass(frozen=True)
class Splice:
    at: float
    other: bytes
    begin: float

    def apply(self, file: bytes) -> bytes:
        return file[: int(self.at * len(file))] + self.other[int(self.begin * len(self.other)) :]


content = st.one_of(st.sampled_from(FIELDS), st.binary(min_size=1, max_size=8))
# Half of them near the beginning, where the headers are.
somewhere = st.one_of(position, position.map(lambda share: share * 0.1))
mutations = st.lists(
    st.one_of(
        st.builds(Overwrite, somewhere, content),
        st.builds(Insert, somewhere, content),
        st.builds(Delete, somewhere, st.integers(1, 200)),
        st.builds(Repeat, somewhere, st.integers(1, 200), st.integers(1, 50)),
        st.builds(Splice, position, st.sampled_from(list(FILES.values())), position),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore::UserWarning")
def test_whatever_is_broken_it_is_a_picture_or_a_reason_and_takes_little_memory(name: str) -> None:
    @given(changes=mutations, checksums=st.booleans())
    @settings(untimed, max_examples=200)
    def decode(changes: list[Overwrite | Insert | Delete | Repeat | Splice], checksums: bool) -> None:
        data = FILES[name]
        for change in changes:
            data = change.apply(data)
        if checksums and data.startswith(PNG_SIGNATURE):
            data = with_right_checksums(data)
        try:
            image = decode_image(data, LIMITS).pixels
        except ImageInputError as error:
            assert error.code in CODES  # noqa: PT017 - either outcome is right
        else:
            assert image.mode == "RGB"
            assert image.width * image.height <= LIMITS.max_pixels

    # 10,000 pixels take 40 kB. But Pillow fills the background of a GIF before it tells how large it is, a byte for
    # each of 179 million pixels at most; and hypothesis remembers much.
    with peak_memory() as peak:
        decode()
    assert peak.growth < 256 * MIB


@given(data=st.binary(max_size=300), beginning=st.sampled_from([file[:16] for file in FILES.values()]))
@settings(untimed, max_examples=300)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore::UserWarning")
def test_noise_behind_a_true_beginning_is_a_picture_or_a_reason(data: bytes, beginning: bytes) -> None:
    try:
        assert decode_image(beginning + data, LIMITS).pixels.mode == "RGB"
    except ImageInputError as error:
        assert error.code in CODES  # noqa: PT017 - either outcome is right
