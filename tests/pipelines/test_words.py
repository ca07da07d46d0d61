"""Prompts that say nothing are refused, and characters that a reader cannot know are named."""

import warnings

import pytest

from limner.pipelines.words import checked_words, told_of_unknown
from limner.text import CaptionTokenizer, ClipTokenizer, UnknownCharacterWarning

CAPTIONS = ["ein grüner Apfel", "ein grüner Baum", "ein großer grüner Baum", "a red apple", "a red pear"] * 3
READERS = [CaptionTokenizer.train(CAPTIONS, 320), ClipTokenizer(), ClipTokenizer(520)]


@pytest.mark.parametrize("prompt", ["&nbsp;", "\ufeff", "\x01", " \n"])
def test_a_prompt_that_cleaning_empties_is_refused(prompt):
    with pytest.raises(ValueError, match=r"without a word: give some"):
        checked_words(["a pear", prompt])


def test_what_was_met_in_captions_is_known_and_other_letters_are_named_once():
    learned, whole, bytes_alone = READERS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told_of_unknown(learned, ["a grüner apple!?", "A RED APPLE 123"])
        told_of_unknown(whole, ["grüner Apfel, café", "\N{RED APPLE}"])
        told_of_unknown(bytes_alone, ["plain words"])
    with pytest.warns(
        UnknownCharacterWarning, match="^no word of this model holds \N{UNICORN FACE} é:"
    ) as heard:
        told_of_unknown(learned, ["a \N{UNICORN FACE}", "café \N{UNICORN FACE}"])
    assert len(heard) == 1
    # Two of the unicorn's four bytes are joined in CLIP's vocabulary, as in every emoji's: that names none.
    with pytest.warns(UnknownCharacterWarning, match="\N{UNICORN FACE}"):
        told_of_unknown(ClipTokenizer(2048), ["a \N{UNICORN FACE}"])
    with pytest.warns(UnknownCharacterWarning, match="ü"):
        told_of_unknown(bytes_alone, ["grün"])
