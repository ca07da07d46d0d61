"""How to paint, and the door where requests that cannot be painted are turned away. Needs no torch."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

Sampler: TypeAlias = Literal["dpm++", "ddim", "heun", "ancestral"]
Precision: TypeAlias = Literal["fp32", "bf16"]
Prior: TypeAlias = Literal["diffusion", "autoregressive", "none"]
Condition: TypeAlias = Literal["both", "clip", "text", "neither"]
BlendNoise: TypeAlias = Literal["inverted", "shared"]
GuidanceKind: TypeAlias = Literal["classifier-free", "clip", "both"]
# A number of steps, or GLIDE's own choice of noise levels to enlarge at; see `diffusion.schedule.spaced`.
Spacing: TypeAlias = int | Literal["fast27"]

# What is painted with unless somebody says otherwise. Tuned on the weights that ship.
PRIOR: Prior = "diffusion"
PRIOR_SAMPLER: Sampler = "ddim"
PRIOR_STEPS = 4
PRIOR_GUIDANCE = 1.5
PRIOR_CANDIDATES = 2
SAMPLER: Sampler = "dpm++"
STEPS = 12
CONDITION: Condition = "both"
GUIDANCE = 1.5
TEXT_GUIDANCE: float | None = None
NEGATIVE_PROMPT = ""
UPSAMPLER_SAMPLER: Sampler = "ddim"
UPSAMPLER_STEPS = 6
UPSAMPLER_1024_SAMPLER: Sampler = UPSAMPLER_SAMPLER
UPSAMPLER_1024_STEPS = 4

# The same for DALL-E 1, which writes tokens. Guided, two of three hundred names are recognised at once and
# eight among five guesses; unguided one and six.
TOKEN_GUIDANCE = 3.0
TEMPERATURE = 1.0
TOP_K: int | None = None
TOP_P: float | None = None
CANDIDATES: int | None = None

# The same for GLIDE, by `limner evaluate --study guidance`: beyond these scales less is recognised.
GLIDE_STEPS = 20
GLIDE_GUIDANCE = 2.0
CLIP_GUIDANCE = 1.0
GLIDE_UPSAMPLER_STEPS = 8
STRENGTH = 0.6

# The same for DF-GAN: noise as it was trained with.
TRUNCATION: float | None = None

# How far a text diff turns a picture, and how much of its noise a variation draws anew.
EDIT_STRENGTH = 0.5
VARY_STRENGTH = 1.0

MODELS = ("dalle1", "dalle2", "dfgan", "glide")
# Painters whose weights are others': they are asked for by the path of these.
OTHERS = ("dalle_mini",)
# What a name on the hub begins with, as in `limner.formats.hub`, which needs torch.
HUB = "hub:"
SIZES = (64, 256, 1024)
GLIDE_SIZES = (64, 256)
TOKEN_SIZES = (64,)
DFGAN_SIZES = (64,)
# Painters without a U-Net, which is what is compiled and multiplies in half precision.
NO_UNET = ("dalle1", "dalle_mini", "dfgan")
LONGEST_PROMPT = 1000
MOST_PICTURES = 64
MOST_STEPS = 1000
MOST_CANDIDATES = 16
MOST_RANKED = 1024
MOST_FOUND = 10_000
LARGEST_TILE = 2**16
MOST_TOP_K = 2**31 - 1
# A hundred times the difference between with and without words is no guidance any more.
MOST_GUIDANCE = 100.0
# Noise that is stretched so far is none that a generator ever met.
MOST_TRUNCATION = 2.0
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class PaintSettings:
    """The knobs of a painting; the defaults are the constants of this module.

    The `prior` imagines `prior_candidates` embeddings for each picture and keeps the one nearest to the words
    (2 in the paper); sampler and steps are the diffusion prior's. With none, the decoder gets the words'
    embedding in its place. `steps`, `condition` and `guidance` are the decoder's. It is told the embedding
    ("clip"), the words ("text"), both or neither; a guidance of 1 follows what it is told as trained, 0
    ignores it. A `text_guidance` leads from the embedding alone to both of them, and `guidance` to the
    embedding; None for one guidance to both. The upsamplers are unguided. A `negative_prompt` is what prior
    and decoder are led away from, in place of the empty caption. `tile`: the second upsampler enlarges in
    tiles of so many pixels a side, for less memory and with the same result; None for the whole picture.
    """

    prior: Prior = PRIOR
    prior_sampler: Sampler = PRIOR_SAMPLER
    prior_steps: int = PRIOR_STEPS
    prior_guidance: float = PRIOR_GUIDANCE
    prior_candidates: int = PRIOR_CANDIDATES
    sampler: Sampler = SAMPLER
    steps: int = STEPS
    condition: Condition = CONDITION
    guidance: float = GUIDANCE
    text_guidance: float | None = TEXT_GUIDANCE
    negative_prompt: str = NEGATIVE_PROMPT
    upsampler_sampler: Sampler = UPSAMPLER_SAMPLER
    upsampler_steps: int = UPSAMPLER_STEPS
    upsampler_1024_sampler: Sampler = UPSAMPLER_1024_SAMPLER
    upsampler_1024_steps: int = UPSAMPLER_1024_STEPS
    tile: int | None = None

    def __post_init__(self) -> None:
        """Refuse what no sampler could do."""
        if self.prior not in get_args(Prior):
            raise ValueError(f"prior is {self.prior!r}: choose {_listed(get_args(Prior))}")
        for name in ("prior_sampler", "sampler", "upsampler_sampler", "upsampler_1024_sampler"):
            if (given := getattr(self, name)) not in get_args(Sampler):
                raise ValueError(f"{name} is {given!r}: choose {_listed(get_args(Sampler))}")
        if self.tile is not None:
            checked_whole("tile", self.tile, 1, LARGEST_TILE)
        for name in ("prior_steps", "steps", "upsampler_steps", "upsampler_1024_steps"):
            checked_whole(name, getattr(self, name), 1, MOST_STEPS)
        checked_whole("prior_candidates", self.prior_candidates, 1, MOST_CANDIDATES)
        for name in ("prior_guidance", "guidance"):
            _not_negative(name, getattr(self, name), MOST_GUIDANCE)
        if self.condition not in get_args(Condition):
            raise ValueError(f"condition is {self.condition!r}: choose {_listed(get_args(Condition))}")
        if self.text_guidance is not None:
            _not_negative("text_guidance", self.text_guidance, MOST_GUIDANCE)
            if self.condition != "both":
                raise ValueError(
                    f"text_guidance is {self.text_guidance}, but the decoder is told {self.condition}: leave "
                    "it out, or choose condition both"
                )
        if self.negative_prompt != "":
            self._check_negative()

    def _check_negative(self) -> None:
        """Refuse words to be led away from where nothing leads away."""
        if self.condition == "neither":
            raise ValueError(
                f"negative_prompt is {_few(self.negative_prompt)}, but the decoder is told neither: leave it "
                "out, or choose another condition"
            )
        asked = {"guidance": self.guidance}
        if self.imagining != "none":
            asked["prior_guidance"] = self.prior_guidance
        checked_negative(self.negative_prompt, asked)

    @property
    def imagining(self) -> Prior:
        """The prior that is asked: none where the decoder is not told what it imagines."""
        return self.prior if self.condition in ("both", "clip") else "none"

    def described(self) -> dict[str, int | float | str | None]:
        """Every knob that a picture depends on, by name, for its metadata."""
        knobs = dataclasses.asdict(self)
        del knobs["tile"]
        return _said(knobs)


@dataclass(frozen=True, kw_only=True)
class TokenSettings:
    """The knobs of a picture that is written token by token; the defaults are constants of this module.

    A `guidance` of 1 follows the words as trained, 0 ignores them. Logits are divided by `temperature`, and 0
    takes the likeliest token; `top_k` and `top_p` cut the tail (`limner.autoregression.Sampling`), None does
    not. `candidates` are painted for each prompt, and the best of them kept; None: as many as are wanted.
    """

    guidance: float = TOKEN_GUIDANCE
    temperature: float = TEMPERATURE
    top_k: int | None = TOP_K
    top_p: float | None = TOP_P
    candidates: int | None = CANDIDATES

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn from."""
        _not_negative("guidance", self.guidance, MOST_GUIDANCE)
        _not_negative("temperature", self.temperature)
        if self.top_k is not None:
            checked_whole("top_k", self.top_k, 1, MOST_TOP_K)
        if self.top_p is not None and not (_number(self.top_p) and 0 < self.top_p <= 1):
            raise ValueError(f"top_p is {self.top_p!r}: give a share above 0 and at most 1")
        if self.candidates is not None:
            checked_whole("candidates", self.candidates, 1, MOST_RANKED)

    def described(self) -> dict[str, int | float | None]:
        """Every knob that a single picture depends on, by name: all but the number of candidates."""
        knobs = dataclasses.asdict(self)
        del knobs["candidates"]
        return knobs


@dataclass(frozen=True, kw_only=True)
class GlideSettings:
    """The knobs of GLIDE; the defaults are the constants of this module.

    `guidance_kind` says which of the two scales counts: `guidance`, with the words over without, of which 1
    follows them as trained and 0 ignores them; `clip_guidance`, toward what noised CLIP takes them to mean,
    of which 0 is none; or both. A `negative_prompt` is what `guidance` leads away from, in place of no words.
    The upsampler reads the words and is not guided, as in the paper; the noise that it begins with is
    multiplied by `upsampler_temperature`.
    """

    sampler: Sampler = SAMPLER
    steps: int = GLIDE_STEPS
    guidance_kind: GuidanceKind = "classifier-free"
    guidance: float = GLIDE_GUIDANCE
    clip_guidance: float = CLIP_GUIDANCE
    negative_prompt: str = NEGATIVE_PROMPT
    upsampler_sampler: Sampler = SAMPLER
    upsampler_steps: Spacing = GLIDE_UPSAMPLER_STEPS
    upsampler_temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no sampler could do."""
        for name, allowed in (
            ("sampler", Sampler),
            ("upsampler_sampler", Sampler),
            ("guidance_kind", GuidanceKind),
        ):
            if (given := getattr(self, name)) not in get_args(allowed):
                raise ValueError(f"{name} is {given!r}: choose {_listed(get_args(allowed))}")
        checked_whole("steps", self.steps, 1, MOST_STEPS)
        if self.upsampler_steps != "fast27":
            checked_whole("upsampler_steps", self.upsampler_steps, 1, MOST_STEPS)
        for name in ("guidance", "clip_guidance"):
            _not_negative(name, getattr(self, name), MOST_GUIDANCE)
        _not_negative("upsampler_temperature", self.upsampler_temperature)
        if self.negative_prompt != "":
            if self.guidance_kind == "clip":
                raise ValueError(
                    f"negative_prompt is {_few(self.negative_prompt)}, but CLIP alone guides: leave it out, "
                    "or choose kind both"
                )
            checked_negative(self.negative_prompt, {"guidance": self.guidance})

    @property
    def upsampler_evaluations(self) -> int:
        """How many levels the upsampler is asked at."""
        return 27 if self.upsampler_steps == "fast27" else self.upsampler_steps

    @property
    def scales(self) -> tuple[float, float]:
        """How far to go from without words to with them, and how far toward CLIP's meaning of them."""
        away = 1.0 if self.guidance_kind == "clip" else self.guidance
        return away, 0.0 if self.guidance_kind == "classifier-free" else self.clip_guidance

    def described(self) -> dict[str, int | float | str]:
        """Every knob by name, for a picture's metadata."""
        return _said(dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class DfGanSettings:
    """The one knob of DF-GAN: noise is as in training, or cut at ±2 and multiplied by `truncation`.

    Below 1 for pictures nearer to the middle, less varied and cleaner.
    """

    truncation: float | None = TRUNCATION

    def __post_init__(self) -> None:
        """Refuse what is no stretch of the noise."""
        if self.truncation is not None:
            _not_negative("truncation", self.truncation, MOST_TRUNCATION)

    def described(self) -> dict[str, float | None]:
        """The knob by its name, for a picture's metadata."""
        return dataclasses.asdict(self)


def _said(knobs: dict[str, Any]) -> dict[str, Any]:
    """Knobs as metadata has them: a picture that is led away from nothing says nothing of it."""
    if knobs["negative_prompt"] == "":
        del knobs["negative_prompt"]
    return knobs


@dataclass(frozen=True)
class Commission:
    """One picture that is wanted: what of, and the seed that all its chance comes from."""

    prompt: str
    seed: int


def commissions(prompts: str | Sequence[str], *, count: int, seed: int) -> tuple[Commission, ...]:
    """One commission for each picture: `count` for every prompt, in order, with seeds `seed`, `seed` + 1, …

    Raises ValueError for a prompt that is empty or too long and for a count or seed out of range.
    """
    named = [prompts] if isinstance(prompts, str) else list(prompts)
    if not named:
        raise ValueError('prompts is empty: say what to paint, such as "a red apple"')
    for prompt in named:
        checked_prompt(prompt)
    checked_whole("count", count, 1, MOST_PICTURES)
    checked_seed(seed, count)
    return tuple(Commission(prompt, seed + number) for prompt in named for number in range(count))


def candidates_for(
    prompts: str | Sequence[str], *, count: int, seed: int, of: int | None
) -> tuple[Commission, ...]:
    """As `commissions`, but one for each of the `of` candidates that `count` pictures are chosen from.

    None: as many as are wanted. Raises ValueError where there are fewer.
    """
    firsts = commissions(prompts, count=1, seed=seed)
    checked_whole("count", count, 1, MOST_PICTURES)
    each = count if of is None else of
    if each < count:
        raise ValueError(
            f"candidates is {each}, fewer than the {count} pictures wanted: give at least {count}"
        )
    checked_seed(seed, each)
    return tuple(Commission(first.prompt, seed + number) for first in firsts for number in range(each))


def checked_prompt(prompt: object, name: str = "prompt") -> None:
    """Raise ValueError, calling it `name`, unless `prompt` is words, and not too many."""
    if not isinstance(prompt, str):
        raise ValueError(f"{name} is {prompt!r}: give words, as a string")
    if not prompt.strip():
        raise ValueError(f'{name} is {prompt[:20]!r}, without a word: give some, such as "a red apple"')
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} holds {prompt[error.start : error.end]!r}, which is no text: give words in UTF-8"
        ) from error
    if len(prompt) > LONGEST_PROMPT:
        raise ValueError(
            f"{name} is {len(prompt)} characters long, {prompt[:30]!r}…: give at most {LONGEST_PROMPT}"
        )


def checked_negative(negative_prompt: str, scales: Mapping[str, float]) -> None:
    """Raise ValueError unless this is words, and guidance at one of these `scales`, by name, avoids them.

    Below 1 it would lead toward them instead, and at 1 it does not read them.
    """
    checked_prompt(negative_prompt, "negative_prompt")
    told = " and ".join(f"{name} is {scale:g}" for name, scale in scales.items())
    if min(scales.values()) < 1:
        raise ValueError(
            f"negative_prompt is {_few(negative_prompt)} and {told}, which below 1 leads toward it: leave it "
            "out, or give more guidance"
        )
    if max(scales.values()) == 1:
        raise ValueError(
            f"negative_prompt is {_few(negative_prompt)} and {told}, which at 1 leads away from nothing: "
            "leave it out, or give more guidance"
        )


def checked_labels(labels: Sequence[str]) -> None:
    """Raise ValueError unless these are names of classes, each once, and there is something to choose."""
    known: dict[str, str] = {}
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise ValueError(f"labels holds {label!r}: give each class a name")
        checked_prompt(label, "label")
        # Readers see neither capitals nor how many spaces there are.
        alike = " ".join(label.lower().split())
        if alike in known:
            raise ValueError(
                f"labels holds '{known[alike]}' and '{label}', which CLIP reads alike: name each class once"
            )
        known[alike] = label
    if len(known) < 2:
        only = f"'{labels[0]}' alone" if labels else "empty"
        raise ValueError(f"labels is {only}: give at least two to choose from, such as cat,dog")


def checked_templates(templates: Sequence[str]) -> None:
    """Raise ValueError unless there is a sentence, and each has a place for the label."""
    if not templates:
        raise ValueError("templates is empty: give at least one, such as 'a picture of a {}'")
    for template in templates:
        checked_prompt(template, "template")
        if "{}" not in template:
            raise ValueError(
                f"templates holds '{template}', without a {{}} where the label goes: write it in, as in "
                "'a picture of a {}'"
            )


def checked_diff(target: str, source: str | None) -> None:
    """Raise ValueError unless there are words for what a picture shall be, and others for what it is."""
    checked_prompt(target)
    if source is not None:
        checked_prompt(source)
        if source == target:
            raise ValueError(f"source and target are both '{target}': say what is to change")


def checked_dimensions(dimensions: Sequence[int]) -> None:
    """Raise ValueError unless these are numbers of components, as many as there may be pictures."""
    if not 1 <= len(dimensions) <= MOST_PICTURES:
        raise ValueError(f"dimensions are {len(dimensions)} numbers: give from 1 to {MOST_PICTURES} of them")
    for number in dimensions:
        if number < 1:
            raise ValueError(f"dimensions has {number}: give whole numbers from 1")


def checked_keep(keep: float) -> None:
    """Raise ValueError unless `keep` is a share of a picture that leaves something on either side."""
    if not _number(keep) or not 0 < keep < 1:
        raise ValueError(f"keep is {keep!r}: give a share of the picture above 0 and below 1, such as 0.5")


def checked_strength(strength: float) -> None:
    """Raise ValueError unless `strength` is a share of the noise that leaves something to paint."""
    if not _number(strength) or not 0 < strength <= 1:
        raise ValueError(f"strength is {strength!r}: give a number above 0 and at most 1, such as {STRENGTH}")


def checked_share(name: str, share: float) -> None:
    """Raise ValueError unless `share` lies between 0 and 1, both of them allowed."""
    if not _number(share) or not 0 <= share <= 1:
        raise ValueError(f"{name} is {share!r}: give a number from 0 to 1")


def checked_noise(noise: str) -> None:
    """Raise ValueError unless this is a way to blend."""
    if noise not in get_args(BlendNoise):
        raise ValueError(f"noise is {noise!r}: choose {_listed(get_args(BlendNoise))}")


def checked_size(size: int, sizes: Sequence[int] = SIZES) -> None:
    """Raise ValueError unless pictures of `size` pixels a side are offered."""
    if size not in sizes:
        raise ValueError(f"size is {size!r}: choose {_listed(sizes)} (pixels a side)")


def checked_model(model: str, *, weights: object = None) -> None:
    """Raise ValueError unless `model` is one of those that paint, with `weights` or with those that ship."""
    if model in OTHERS and weights is None:
        raise ValueError(
            f"model is {model!r}, whose weights do not ship: give the path of theirs as the model"
        )
    if model not in MODELS + OTHERS:
        raise ValueError(
            f"model is {model!r}: choose {_listed(MODELS)}, or give the path of weights that paint"
        )


def is_place(model: str | Path) -> bool:
    """Whether a painter is told by where its weights lie: a path that is there, or a name on the hub."""
    return model not in MODELS and (str(model).startswith(HUB) or Path(model).exists())


def checked_arithmetic(model: str, *, precision: str, compile: bool) -> None:
    """Raise ValueError unless `model` multiplies in this `precision`, and can be compiled if it is to be."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision is {precision!r}: choose {_listed(get_args(Precision))}")
    if model in NO_UNET and precision != "fp32":
        raise ValueError(f"precision is {precision!r}: {model} has no U-Net, so leave it out")
    if model in NO_UNET and compile:
        raise ValueError(f"compile is for U-Nets, and {model} has none: leave it out")


def _few(words: object) -> str:
    """Words to be quoted in a message, or their beginning."""
    return repr(words) if len(repr(words)) <= 30 else f"{repr(words)[:30]}…"


def _number(given: object) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool) and math.isfinite(given)


def _not_negative(name: str, given: float, most: float | None = None) -> None:
    if not _number(given) or given < 0 or (most is not None and given > most):
        allowed = "a finite number from 0" if most is None else f"a number from 0 to {most:g}"
        raise ValueError(f"{name} is {given!r}: give {allowed}")


def checked_seed(seed: int, count: int) -> None:
    """Raise ValueError unless picture k may have the seed `seed` + k, for each of `count`."""
    checked_whole("seed", seed, 0, LARGEST_SEED)
    if seed + count - 1 > LARGEST_SEED:
        raise ValueError(
            f"seed is {seed}: {count} pictures would go beyond the largest, {LARGEST_SEED}; give at most "
            f"{LARGEST_SEED - count + 1}"
        )


def checked_whole(name: str, given: object, low: int, high: int) -> None:
    """Raise ValueError unless `given` is a whole number in this range."""
    if not isinstance(given, int) or isinstance(given, bool) or not low <= given <= high:
        raise ValueError(f"{name} is {given!r}: give a whole number from {low} to {high}")


def _listed(allowed: Sequence[object]) -> str:
    *first, last = map(str, allowed)
    return f"{', '.join(first)} or {last}" if first else last


UNCLIP = PaintSettings()
TOKENS = TokenSettings()
DFGAN = DfGanSettings()
# As Karlo was released: DDPM's steps, unlike those above not tuned here.
UNCLIP_AS_RELEASED = PaintSettings(
    prior_sampler="ancestral",
    prior_steps=25,
    prior_guidance=4.0,
    prior_candidates=1,
    sampler="ancestral",
    steps=25,
    guidance=8.0,
    upsampler_sampler="ancestral",
    upsampler_steps=7,
)

GLIDE = GlideSettings()
# As the authors' own examples paint with what they released.
GLIDE_AS_RELEASED = GlideSettings(
    sampler="ancestral",
    steps=100,
    guidance=3.0,
    clip_guidance=3.0,
    upsampler_sampler="ddim",
    upsampler_steps="fast27",
    upsampler_temperature=0.997,
)


# As min-dalle paints unless it is told otherwise. DALL-E mini's own example has a guidance of 10 and no cut.
DALLE_MINI_AS_RELEASED = TokenSettings(guidance=16.0, temperature=1.0, top_k=256)


def glide_settings(
    *,
    steps: int | None = None,
    guidance_kind: GuidanceKind = "classifier-free",
    guidance: float | None = None,
    clip_guidance: float | None = None,
    negative_prompt: str = NEGATIVE_PROMPT,
    usual: GlideSettings = GLIDE,
) -> GlideSettings:
    """Settings of what is asked for; None is as `usual`. ValueError for a scale that does not count."""
    if guidance is not None and guidance_kind == "clip":
        raise ValueError(f"guidance is {guidance}, but CLIP alone guides: leave it out, or choose kind both")
    if clip_guidance is not None and guidance_kind == "classifier-free":
        raise ValueError(
            f"clip_guidance is {clip_guidance}, but CLIP does not guide: choose guidance kind clip or both"
        )
    return dataclasses.replace(
        usual,
        steps=usual.steps if steps is None else steps,
        guidance_kind=guidance_kind,
        guidance=usual.guidance if guidance is None else guidance,
        clip_guidance=usual.clip_guidance if clip_guidance is None else clip_guidance,
        negative_prompt=negative_prompt,
    )
