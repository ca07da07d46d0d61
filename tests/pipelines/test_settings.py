"""The door: what cannot be painted is named, with its value and what is allowed, before torch is needed."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.pipelines import settings
from limner.pipelines.settings import (
    LONGEST_PROMPT,
    MOST_RANKED,
    Commission,
    GlideSettings,
    PaintSettings,
    TokenSettings,
    checked_model,
    checked_noise,
    checked_size,
    commissions,
)


def test_every_default_is_a_constant_of_the_module():
    for name, value in PaintSettings().described().items():
        assert value == getattr(settings, name.upper())
    assert TokenSettings() == TokenSettings(
        guidance=settings.TOKEN_GUIDANCE,
        temperature=settings.TEMPERATURE,
        top_k=settings.TOP_K,
        top_p=settings.TOP_P,
        candidates=settings.CANDIDATES,
    )


@pytest.mark.parametrize(
    ("name", "given_", "message"),
    [
        ("guidance", -0.1, "^guidance is -0.1: give a number from 0 to 100"),
        ("guidance", float("nan"), "^guidance is nan"),
        ("temperature", -1.0, "^temperature is -1.0: give a finite number from 0"),
        ("temperature", float("inf"), "^temperature is inf"),
        ("top_k", 0, "^top_k is 0: give a whole number from 1"),
        ("top_k", True, "^top_k is True"),
        ("top_p", 0.0, "^top_p is 0.0: give a share above 0 and at most 1"),
        ("top_p", 1.5, "^top_p is 1.5"),
        ("top_p", float("nan"), "^top_p is nan"),
        ("candidates", 0, f"^candidates is 0: give a whole number from 1 to {MOST_RANKED}"),
        ("candidates", MOST_RANKED + 1, "^candidates is 1025"),
    ],
)
def test_tokens_are_drawn_within_reason(name, given_, message):
    with pytest.raises(ValueError, match=message):
        replace(TokenSettings(), **{name: given_})


@given(
    st.lists(st.text(min_size=1, max_size=20).filter(str.strip), min_size=1, max_size=5),
    st.integers(1, 64),
    st.integers(0, 2**62),
)
def test_commissions_count_through_seeds_prompt_by_prompt(prompts, count, seed):
    wanted = commissions(prompts, count=count, seed=seed)
    assert [c.prompt for c in wanted] == [prompt for prompt in prompts for _ in range(count)]
    assert [c.seed - seed for c in wanted] == [*range(count)] * len(prompts)


def test_one_prompt_may_stand_alone():
    assert commissions("a pear", count=1, seed=3) == (Commission("a pear", 3),)


@pytest.mark.parametrize(
    ("prompts", "count", "seed", "message"),
    [
        ([], 1, 0, "^prompts is empty"),
        ("", 1, 0, "^prompt is ''"),
        (["a pear", " \t\n"], 1, 0, r"^prompt is ' \\t\\n'"),
        ("a\udcff\udcfepear", 1, 0, r"^prompt holds '\\udcff\\udcfe', which is no text: give words in UTF-8"),
        ("x" * (LONGEST_PROMPT + 1), 1, 0, "^prompt is 1001 characters long, .*give at most 1000"),
        ("a pear", 0, 0, "^count is 0: give a whole number from 1 to 64"),
        ("a pear", 65, 0, "^count is 65"),
        ("a pear", True, 0, "^count is True"),
        ("a pear", 1, -1, "^seed is -1"),
        ("a pear", 1, 2**63, "^seed is 9223372036854775808"),
        ("a pear", 2, 2**63 - 1, "^seed is 9223372036854775807: 2 pictures would go beyond .*806$"),
    ],
)
def test_a_commission_that_cannot_be_met_is_refused(prompts, count, seed, message):
    with pytest.raises(ValueError, match=message) as caught:
        commissions(prompts, count=count, seed=seed)
    assert len(str(caught.value)) < 150


def test_the_longest_prompt_is_still_taken():
    assert commissions("x" * LONGEST_PROMPT, count=1, seed=0)


@pytest.mark.parametrize("name", ["prior_steps", "steps", "upsampler_steps", "prior_candidates"])
@pytest.mark.parametrize("given_", [0, -1, 1001, True])
def test_steps_are_whole_numbers_from_one(name, given_):
    with pytest.raises(ValueError, match=f"^{name} is {given_!r}: give a whole number from 1 to"):
        replace(PaintSettings(), **{name: given_})


@pytest.mark.parametrize("name", ["prior_guidance", "guidance", "text_guidance"])
@pytest.mark.parametrize("given_", [-0.1, 100.5, 1e30, float("inf"), float("nan")])
def test_guidance_is_a_number_in_bounds(name, given_):
    with pytest.raises(
        ValueError, match=f"^{name} is {re.escape(repr(given_))}: give a number from 0 to 100"
    ):
        replace(PaintSettings(), **{name: given_})


@pytest.mark.parametrize(
    ("painter", "given_", "message"),
    [
        (PaintSettings, {"negative_prompt": " "}, "^negative_prompt is ' ', without a word"),
        (PaintSettings, {"negative_prompt": "a" * 1001}, "^negative_prompt is 1001 characters long"),
        (
            PaintSettings,
            {"condition": "neither"},
            "^negative_prompt is 'blue', but the decoder is told neither",
        ),
        (PaintSettings, {"guidance": 0.5}, r"guidance is 0\.5 and .* below 1 leads toward it"),
        (PaintSettings, {"prior_guidance": 0.0}, "prior_guidance is 0, which below 1"),
        (PaintSettings, {"prior_guidance": 1.0, "guidance": 1.0}, "at 1 leads away from nothing"),
        (PaintSettings, {"prior": "none", "guidance": 1.0}, "'blue' and guidance is 1, which at 1"),
        (GlideSettings, {"guidance_kind": "clip"}, "^negative_prompt is 'blue', but CLIP alone guides"),
        (GlideSettings, {"guidance": 1.0}, "at 1 leads away from nothing"),
        (GlideSettings, {"guidance": 0.9}, "below 1 leads toward it"),
    ],
)
def test_a_negative_prompt_is_words_that_something_leads_away_from(painter, given_, message):
    with pytest.raises(ValueError, match=message) as caught:
        painter(**{"negative_prompt": "blue", **given_})
    assert len(str(caught.value)) < 180
    assert painter(negative_prompt="blue", guidance=3.0).described()["negative_prompt"] == "blue"
    # One of the two is enough.
    assert PaintSettings(negative_prompt="blue", guidance=1.0).negative_prompt == "blue"


def test_words_are_guided_apart_only_from_what_is_told_beside_them():
    with pytest.raises(ValueError, match=r"^text_guidance is 2\.0, but the decoder is told clip"):
        PaintSettings(condition="clip", text_guidance=2.0)


def test_ways_to_blend_are_offered_by_name():
    checked_noise("shared")
    with pytest.raises(ValueError, match=r"^noise is 'other': choose inverted or shared"):
        checked_noise("other")


def test_sizes_and_models_are_offered_by_name():
    checked_size(64)
    checked_size(32, (32, 64))
    checked_model("dalle2")
    with pytest.raises(ValueError, match=r"^size is 100: choose 64, 256 or 1024 \(pixels a side\)"):
        checked_size(100)
    with pytest.raises(ValueError, match=r"^model is 'dalle9': choose dalle1, dalle2, dfgan or glide"):
        checked_model("dalle9")


def without_checked_types(code):
    """Run code as users do: in these tests a wrong type would never reach the door."""
    path = f"import sys; sys.path[:0] = {sys.path!r}\n"
    return subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=False)


def test_wrong_types_are_refused_in_the_same_words():
    done = without_checked_types(
        """
from limner.pipelines.settings import GlideSettings, PaintSettings, checked_arithmetic, commissions
for wrong in (
    lambda: commissions([3], count=1, seed=0),
    lambda: commissions("a pear", count=2.0, seed=0),
    lambda: commissions("a pear", count=1, seed="7"),
    lambda: PaintSettings(steps=2.5),
    lambda: PaintSettings(prior_candidates=None),
    lambda: PaintSettings(guidance="3"),
    lambda: PaintSettings(sampler="euler"),
    lambda: PaintSettings(prior_sampler="euler"),
    lambda: PaintSettings(condition="words"),
    lambda: GlideSettings(guidance_kind="words"),
    lambda: GlideSettings(upsampler_sampler="euler"),
    lambda: checked_arithmetic("glide", precision="fp16", compile=False),
    lambda: checked_arithmetic("dalle1", precision="bf16", compile=False),
    lambda: checked_arithmetic("dalle1", precision="fp32", compile=True),
):
    try:
        print(wrong())
    except ValueError as error:
        print(error)
"""
    )
    assert done.stdout.splitlines() == [
        "prompt is 3: give words, as a string",
        "count is 2.0: give a whole number from 1 to 64",
        "seed is '7': give a whole number from 0 to 9223372036854775807",
        "steps is 2.5: give a whole number from 1 to 1000",
        "prior_candidates is None: give a whole number from 1 to 16",
        "guidance is '3': give a number from 0 to 100",
        "sampler is 'euler': choose dpm++, ddim, heun or ancestral",
        "prior_sampler is 'euler': choose dpm++, ddim, heun or ancestral",
        "condition is 'words': choose both, clip, text or neither",
        "guidance_kind is 'words': choose classifier-free, clip or both",
        "upsampler_sampler is 'euler': choose dpm++, ddim, heun or ancestral",
        "precision is 'fp16': choose fp32 or bf16",
        "precision is 'bf16': dalle1 has no U-Net, so leave it out",
        "compile is for U-Nets, and dalle1 has none: leave it out",
    ], done.stderr


def test_the_door_needs_no_torch():
    done = without_checked_types(
        """
import sys, limner.pipelines.settings
assert not {"torch", "numpy", "PIL"} & sys.modules.keys()
import limner
try:
    limner.load("dalle9")
except ValueError as error:
    print(error)
assert "torch" not in sys.modules
"""
    )
    assert done.stdout.startswith(
        "model is 'dalle9': choose dalle1, dalle2, dfgan or glide, or give the path"
    ), done
