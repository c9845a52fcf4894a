"""Seeds of the steps of an answer."""

from hypothesis import given
from hypothesis import strategies as st

from server.interleave.seeds import derived_seed, random_seed
from tests.untimed import untimed


def test_derived_seeds_never_change() -> None:
    assert [derived_seed(7, index) for index in range(3)] == [7, 2905889783, 2133560917]


@given(seed=st.integers(0, 2**63 - 1), index=st.integers(1, 100))
@untimed
def test_derived_seeds_fit_into_32_bits(seed: int, index: int) -> None:
    assert 0 <= derived_seed(seed, index) < 2**32


def test_the_seeds_of_an_answer_differ() -> None:
    assert len({derived_seed(seed, index) for seed in range(20) for index in range(20)}) == 400


def test_random_seeds_fit_into_32_bits_and_differ() -> None:
    seeds = {random_seed() for _ in range(10)}
    assert len(seeds) > 1
    assert all(0 <= seed < 2**32 for seed in seeds)
