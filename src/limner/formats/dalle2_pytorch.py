"""DALLE2-pytorch's prior: the trainer's file, `{model, config, version}`, or a state dict alone.

Its names changed with its versions: the scale of a norm is `g`, and was `gamma` beside a `beta` of zeros;
what pads a caption was `null_text_embed`. So did what attention computes, at 1.4.3, which no name tells.
Noise levels are kept beside the network; here they are only looked at. What weights cannot tell, the
configuration in the file says, or `prior_config.json` beside it.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from limner.dalle2.prior_relative import RelativePrior, RelativePriorConfig
from limner.diffusion.process import Prediction
from limner.diffusion.spec import DiffusionSpec
from limner.errors import LimnerError
from limner.formats.contents import Contents
from limner.formats.format import Assumptions, Format, Opened, part
from limner.formats.places import Place, both

SETTINGS = "prior_config.json"
NET, NOISE, LAYERS = "net.", "noise_scheduler.", "causal_transformer.layers."
SIGNS = {"net.learned_query", "net.causal_transformer.rel_pos_bias.relative_attention_bias.weight"}
# The averaged network is what a training of theirs samples with.
PREFIXES = ("ema_model.", "model.")
# What stands for a caption that is not told, since 1.9; and since when attention compares directions.
GUIDED, DIRECTIONS = "null_text_embeds", (1, 4, 3)


def fits(contents: Contents) -> bool:
    """A causal transformer with one bias a distance, below a learned query."""
    return contents.under(*PREFIXES).tensors.keys() >= SIGNS


def read(contents: Contents, _assumptions: Assumptions) -> Opened:
    """One part, prior. LimnerError for noise levels that are neither linear nor cosine."""
    inside = contents.under(*PREFIXES)
    assumed: list[str] = []
    if inside is not contents:
        of = "averaged network" if "ema_model.net.learned_query" in contents.tensors else "network"
        assumed.append(f"the {of} of a training; what it kept for going on is left out")
    told = contents.said.get("config", {}) or contents.settings.get(SETTINGS, {})
    told = told.get("prior", told)
    if not told:
        assumed.append(
            "the clean embedding is predicted and no guess is told to the next step, for there is neither a "
            f"config in it nor a {SETTINGS} that says so"
        )
    tensors, ignored = _now(inside.tensors)
    if clip := [name for name in ignored if name.startswith("clip.")]:
        assumed.append(f"a CLIP of {len(clip)} tensors that lies beside it is left out")
    version = contents.said.get("version")
    config = _config(tensors, told, _spec(inside, told), _compares_directions(tensors, version, assumed))
    network = part("prior", RelativePrior, config, list(places(config)), tensors, tried=tried)
    title = f"DALLE2-pytorch prior{f', version {version}' if version else ''}"
    return Opened(format=title, contents=contents, parts=(network,), assumed=tuple(assumed))


def tried(prior: RelativePrior) -> dict[str, Tensor]:
    """What it makes of noise, without a caption."""
    d = prior.config.embedding
    found = prior(
        torch.zeros(1, d),
        torch.tensor([1.0]),
        tokens=torch.zeros(1, 1, d),
        caption=torch.zeros(1, d),
        mask=torch.zeros(1, 1, dtype=torch.bool),
    )
    return {"caption": found}


def places(config: RelativePriorConfig) -> Iterator[Place]:
    """Where their tensors stand in a `RelativePrior`."""
    for mine, yours in (
        ("query", "learned_query"),
        ("no_tokens", "null_text_encodings"),
        *((("no_caption", GUIDED), ("no_picture", "null_image_embed")) if config.guided else ()),
        ("distances.weight", "causal_transformer.rel_pos_bias.relative_attention_bias.weight"),
    ):
        yield Place(mine, (yours,))
    if config.times is not None:
        yield Place("time.weight", ("to_time_embeds.0.weight",))
    else:
        for mine, yours in ((0, "0.0"), (2, "1.0"), (4, "2")):
            yield from both(f"time.net.{mine}", f"to_time_embeds.0.1.net.{yours}")
    if config.text_rows > 1:
        yield from both("from_caption", "to_text_embeds.0")
    if config.picture_rows > 1:
        yield from both("from_picture", "to_image_embeds.0")
    if config.norm_in:
        yield Place("norm_in.weight", ("causal_transformer.init_norm.g",))
    if config.norm_out:
        yield Place("norm_out.weight", ("causal_transformer.norm.g",))
    if config.project:
        yield Place("to_picture.weight", ("causal_transformer.project_out.weight",))
    if config.rotary:
        # One for all layers, though each layer names it.
        yield Place("frequencies", (f"{LAYERS}0.0.rotary_emb.freqs",))
    for number in range(config.layers):
        ours, theirs = f"blocks.{number}", f"{LAYERS}{number}"
        for mine, yours in (
            ("attention.nothing", "0.null_kv"),
            ("attention.norm.weight", "0.norm.g"),
            ("attention.query.weight", "0.to_q.weight"),
            ("attention.key_value.weight", "0.to_kv.weight"),
            ("attention.out.weight", "0.to_out.0.weight"),
            ("attention.norm_out.weight", "0.to_out.1.g"),
            ("norm.weight", "1.0.g"),
            ("widen.weight", "1.1.weight"),
            ("narrow.weight", "1.5.weight"),
            *((("norm_hidden.weight", "1.3.g"),) if config.norm_hidden else ()),
        ):
            yield Place(f"{ours}.{mine}", (f"{theirs}.{yours}",))


def _now(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The network's tensors by their newest names, and the names of what is none of it.

    LimnerError where a norm has a shift, or layers are turned by frequencies of their own.
    """
    found: dict[str, Tensor] = {}
    ignored = []
    first = tensors.get(f"{NET}{LAYERS}0.0.rotary_emb.freqs")
    for name, tensor in tensors.items():
        if name.startswith((NOISE, "clip.")) or name == "_dummy":
            ignored.append(name)
            continue
        inside = name.removeprefix(NET)
        if inside.endswith(".rotary_emb.freqs") and inside != f"{LAYERS}0.0.rotary_emb.freqs":
            if first is None or not torch.equal(first, tensor):
                raise LimnerError(f"'{name}' turns its layer by other frequencies than the first's")
            continue
        if inside.endswith(".beta"):
            if bool(tensor.any()):
                raise LimnerError(f"'{name}' shifts a norm, which none of theirs does")
            continue
        inside = "null_text_encodings" if inside == "null_text_embed" else inside
        found[f"{inside.removesuffix('.gamma')}.g" if inside.endswith(".gamma") else inside] = tensor
    return found, ignored


def _compares_directions(tensors: Mapping[str, Tensor], version: object, assumed: list[str]) -> bool:
    """Whether attention is one of directions: what is guided is, and of the others the version decides."""
    if GUIDED in tensors:
        return True
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", str(version))
    if numbers is None:
        assumed.append("attention of before 1.4.3, for no version is said; after it, it compares directions")
        return False
    return tuple(map(int, numbers.groups())) >= DIRECTIONS


def _config(
    tensors: Mapping[str, Tensor], told: Mapping[str, Any], spec: DiffusionSpec, cosine: bool
) -> RelativePriorConfig:
    net = told.get("net") or {}
    (embedding,) = tensors["learned_query"].shape
    heads = tensors["causal_transformer.rel_pos_bias.relative_attention_bias.weight"].shape[1]
    table = tensors.get("to_time_embeds.0.weight")
    times = table if table is not None else tensors["to_time_embeds.0.1.net.2.weight"]
    width = times.shape[1] if table is not None else times.shape[0]
    captions, pictures = (tensors.get(f"to_{kind}_embeds.0.weight") for kind in ("text", "image"))
    hidden = tensors[f"{LAYERS}0.1.5.weight"].shape[1]
    layers = {name.split(".")[2] for name in tensors if name.startswith(LAYERS)}
    return RelativePriorConfig(
        embedding=embedding,
        context=math.prod(tensors["null_text_encodings"].shape[:-1]),
        layers=len(layers),
        heads=heads,
        head_width=tensors[f"{LAYERS}0.0.null_kv"].shape[1],
        hidden=hidden,
        text_rows=1 if captions is None else captions.shape[0] // embedding,
        time_rows=width // embedding,
        picture_rows=1 if pictures is None else pictures.shape[0] // embedding,
        times=None if table is None else table.shape[0],
        self_conditioning=bool(net.get("self_cond", False)),
        cosine=cosine,
        guided=GUIDED in tensors,
        norm_in="causal_transformer.init_norm.g" in tensors,
        norm_out="causal_transformer.norm.g" in tensors,
        norm_hidden=f"{LAYERS}0.1.3.g" in tensors,
        project="causal_transformer.project_out.weight" in tensors,
        rotary=f"{LAYERS}0.0.rotary_emb.freqs" in tensors,
        scale=float(told.get("image_embed_scale") or embedding**0.5),
        diffusion=spec,
    )


def _spec(contents: Contents, told: Mapping[str, Any]) -> DiffusionSpec:
    """Which noise levels they are, by their numbers."""
    name = f"{NOISE}alphas_cumprod"
    (steps,) = contents.shape(name)
    prediction: Prediction = "x0" if told.get("predict_x_start", True) else "eps"
    if told.get("predict_v", False):
        prediction = "v"
    there = contents.tensors[name]
    for schedule in ("cosine", "linear"):
        spec = DiffusionSpec(schedule=schedule, steps=steps, prediction=prediction, learned_variance=False)
        levels = spec.levels().alpha_bar.to(there.dtype)
        if torch.allclose(there, levels, rtol=1e-4, atol=1e-7):
            return spec
    raise LimnerError(f"its {steps} noise levels are neither cosine nor linear, which limner has")


FORMAT = Format("DALLE2-pytorch prior", fits, read)
