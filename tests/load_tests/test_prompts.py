"""The prompts of the benchmarks: nothing is asked for that an earlier slice has left in a cache."""

from load_tests.answers.prompts import prompts


def test_no_prompt_of_a_slice_comes_twice() -> None:
    assert len(set(prompts(200, seed=0))) == 200


def test_a_seed_gives_the_same_prompts_again_and_another_hardly_any_of_them() -> None:
    first = prompts(64, seed=1)
    assert prompts(64, seed=1) == first
    assert len(set(first) & set(prompts(64, seed=2))) < 8


def test_prompts_are_in_the_words_of_the_embedded_world() -> None:
    words = {word.rstrip(".,:") for prompt in prompts(500, seed=0) for word in prompt.split()}
    assert words - {"Draw", "two", "pictures", "a", "then"} == {
        *("small", "big"),
        *("red", "blue", "green", "yellow", "purple"),
        *("circle", "star", "square", "triangle"),
    }
