"""GLIDE's noised CLIP as it was released: `clip_image_enc.pt` and `clip_text_enc.pt`, an encoder each.

It is limner's `Clip` with noise levels. Queries, keys and values lie apart, and keys have no bias: one that
all keys shared would move no softmax, so ours is zero. Nichol et al. 2021, section 2.3.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.clip.model import MAX_SCALE
from limner.errors import LimnerError
from limner.formats.contents import Contents
from limner.formats.format import Assumptions, Format, Opened, Part, part
from limner.formats.places import Place

HEAD_WIDTH = 64
# By what only one of them has.
SIGNS = {
    "image": {"blocks.input.w_t", "blocks.input.patch_proj", "blocks.output.f.w"},
    "text": {"blocks.input.w_voc", "blocks.input.w_pos", "blocks.output.f.w"},
}
# Sizes of the half that is not there, as released.
VISION = VisionConfig(resolution=64, patch=4, width=768, layers=12, heads=12, times=1000)
TEXT = TextConfig(context=77, vocabulary=65_536, width=512, layers=12, heads=8)
NEEDED = {
    "image": "the image encoder (clip_image_enc.pt) is not here, and without it no picture is looked at",
    "text": "the text encoder (clip_text_enc.pt) is not here, and without it no caption is read",
}


def half(contents: Contents) -> str | None:
    """Which encoder a file holds; None for something else."""
    return next((name for name, signs in SIGNS.items() if contents.tensors.keys() >= signs), None)


def fits(contents: Contents) -> bool:
    """One encoder, or both and nothing else."""
    return all(half(one) is not None for one in contents.each())


def read(contents: Contents, _assumptions: Assumptions) -> Opened:
    """One part, clip; of a lone encoder, the other one is missing."""
    network, wanted, assumed = clip(contents, contents.each())
    return Opened(
        format="GLIDE noised CLIP", contents=contents, parts=(network,), assumed=assumed, wanted=wanted
    )


def clip(contents: Contents, halves: tuple[Contents, ...]) -> tuple[Part, tuple[str, ...], tuple[str, ...]]:
    """The part clip of these files, what is wanted besides, and what was assumed."""
    tensors: dict[str, Tensor] = {}
    found: dict[str, Contents] = {}
    for one in halves:
        name = half(one)
        assert name is not None
        if name in found:
            raise LimnerError(f"{contents.path} holds two {name} encoders: give a folder with one of each")
        found[name] = one
        tensors |= {f"{name}:{key}": tensor for key, tensor in one.tensors.items()}
    config = _config(found)
    wanted = tuple(
        f"{says}; give a folder that holds both" for name, says in NEEDED.items() if name not in found
    )
    assumed = (
        f"cosines count {MAX_SCALE:.0f}-fold, heads have {HEAD_WIDTH} numbers, GELU is exact, as released",
    )
    network = part("clip", Clip, config, list(places(config)), tensors, tried=tried)
    return network, wanted, assumed


def tried(clip: Clip) -> Mapping[str, Tensor]:
    """A grey picture in the middle of the noise, and the empty caption."""
    vision, text = clip.config.vision, clip.config.text
    assert isinstance(vision, VisionConfig)
    assert vision.times is not None
    side = vision.resolution
    return {
        "picture": clip.encode_image(torch.zeros(1, 3, side, side), torch.tensor([vision.times / 2])).pooled,
        "caption": clip.encode_text(torch.zeros(1, text.context, dtype=torch.int64)).pooled,
    }


def places(config: ClipConfig) -> Iterator[Place]:
    """Where their tensors stand in a `Clip` that reads noised pictures."""
    yield Place("log_scale", (None,), filled=math.log(MAX_SCALE))
    yield Place("vision.class_token", ("image:blocks.input.w_t",))
    yield Place("vision.patches.weight", ("image:blocks.input.patch_proj",))
    yield Place("vision.positions", ("image:blocks.input.w_pos",))
    yield from _norm("vision.norm_in", "image:blocks.input.ln")
    yield Place("text.embed.weight", ("text:blocks.input.w_voc",))
    yield Place("text.positions", ("text:blocks.input.w_pos",))
    assert isinstance(config.vision, VisionConfig)
    for tower, theirs, layers in (
        ("vision", "image:blocks", config.vision.layers),
        ("text", "text:blocks", config.text.layers),
    ):
        yield from _norm(f"{tower}.norm_out", f"{theirs}.output.ln")
        yield Place(f"{tower}.projection", (f"{theirs}.output.f.w",), turned=True)
        for number in range(layers):
            yield from _block(f"{tower}.transformer.blocks.{number}", f"{theirs}.block_{number}")


def _block(ours: str, theirs: str) -> Iterator[Place]:
    attention, mlp = f"{theirs}.f_attn", f"{theirs}.f_mlp"
    yield from _norm(f"{ours}.norm_attention", f"{attention}.ln")
    yield Place(f"{ours}.attention.qkv.weight", tuple(f"{attention}.f_{one}.w" for one in "qkv"))
    yield Place(f"{ours}.attention.qkv.bias", (f"{attention}.f_q.b", None, f"{attention}.f_v.b"))
    yield from _layer(f"{ours}.attention.out", f"{attention}.f_c")
    yield from _norm(f"{ours}.norm_mlp", f"{mlp}.ln")
    yield from _layer(f"{ours}.widen", f"{mlp}.f_1")
    yield from _layer(f"{ours}.narrow", f"{mlp}.f_2")


def _norm(ours: str, theirs: str) -> Iterator[Place]:
    yield Place(f"{ours}.weight", (f"{theirs}.g",))
    yield Place(f"{ours}.bias", (f"{theirs}.b",))


def _layer(ours: str, theirs: str) -> Iterator[Place]:
    yield Place(f"{ours}.weight", (f"{theirs}.w",))
    yield Place(f"{ours}.bias", (f"{theirs}.b",))


def _config(found: Mapping[str, Contents]) -> ClipConfig:
    """Sizes by shapes; those of a half that is not there as released."""
    vision, text = VISION, TEXT
    if "image" in found:
        image = found["image"]
        width, _, _, patch = image.shape("blocks.input.patch_proj")
        grid = math.isqrt(image.shape("blocks.input.w_pos")[0] - 1)
        vision = VisionConfig(
            resolution=grid * patch,
            patch=patch,
            width=width,
            layers=image.numbered("blocks.block_"),
            heads=width // HEAD_WIDTH,
            times=image.shape("blocks.input.w_t")[0],
        )
    if "text" in found:
        words = found["text"]
        vocabulary, width = words.shape("blocks.input.w_voc")
        text = TextConfig(
            context=words.shape("blocks.input.w_pos")[0],
            vocabulary=vocabulary,
            width=width,
            layers=words.numbered("blocks.block_"),
            heads=width // HEAD_WIDTH,
        )
    one = next(iter(found.values()))
    return ClipConfig(
        vision=vision, text=text, embedding=one.shape("blocks.output.f.w")[0], activation="gelu"
    )


FORMAT = Format("GLIDE noised CLIP", fits, read)
