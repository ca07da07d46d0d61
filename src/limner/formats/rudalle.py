"""ruDALL-E: Malevich and what was tuned from it, a plain state dict with the masks beside the weights.

The masks are computed here; those in the file say which release it is, v2 or v3, and are held to ours.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from limner.dalle1.masks import Kind
from limner.dalle1.rudalle import (
    END,
    PADDING,
    START,
    Release,
    RuDalle,
    RuDalleConfig,
    RuDalleReader,
    mask_of,
)
from limner.errors import LimnerError
from limner.formats.contents import Contents
from limner.formats.format import LONGEST_SEQUENCE, Assumptions, Format, Opened, part
from limner.formats.places import Place, both

SIGNS = {
    "text_embeddings.weight",
    "image_row_embeddings.weight",
    "to_logits.1.weight",
    "transformer.layers.0.attention.query_key_value.weight",
}
# Heads by width, in what was published: Malevich, Kandinsky of twelve billion, and the size for trying.
HEADS = {2048: 16, 3840: 60, 768: 12}
HEAD_WIDTH = 64
KERNEL = 11
MASKS: dict[str, Kind] = {"row_mask": "row", "col_mask": "column", "conv_mask": "convolution"}


def fits(contents: Contents) -> bool:
    """Text and image embeddings beside a transformer whose queries, keys and values are one layer."""
    return contents.under("module.").tensors.keys() >= SIGNS


def read(contents: Contents, assumptions: Assumptions) -> Opened:
    """One part, rudalle. LimnerError for masks that are of neither release, or not of what is told."""
    found = contents.under("module.")
    vocabulary, width = found.shape("text_embeddings.weight")
    text = found.shape("text_pos_embeddings.weight")[0] - 1
    told = assumptions.heads or (assumptions.head_width and width // assumptions.head_width)
    heads = told or HEADS.get(width, width // HEAD_WIDTH)
    if not heads or width % heads:
        raise LimnerError(f"{contents.path} is {width} wide, which {heads} heads do not divide: give --heads")
    config = RuDalleConfig(
        text=text,
        text_vocabulary=vocabulary,
        image_vocabulary=found.shape("image_embeddings.weight")[0],
        grid=found.shape("image_row_embeddings.weight")[0],
        width=width,
        layers=found.numbered("transformer.layers."),
        heads=heads,
        kernel=KERNEL,
        release="v3",
    )
    masks = [name for name in found.tensors if name.removeprefix("transformer.") in MASKS]
    releases: list[Release] = [
        release
        for release in ("v3", "v2")
        if all(_is_ours(found.tensors[name], name, replace(config, release=release)) for name in masks)
        and assumptions.release in (None, release)
    ]
    if not releases:
        wanted = assumptions.release or "v2's nor v3's"
        raise LimnerError(
            f"{contents.path} has other masks than {wanted}, so it is not ruDALL-E as published"
        )
    config = replace(config, release=releases[0])
    network = part(
        "rudalle", RuDalle, config, list(places(config)), found.tensors, tried=tried, ignored=masks
    )
    assumed = [] if told else [f"{heads} heads, by its width"]
    if len(releases) > 1:
        assumed.append("release v3, for there are no masks that tell it from v2")
    return Opened(format="ruDALL-E", contents=contents, parts=(network,), assumed=tuple(assumed))


def tried(network: RuDalle) -> dict[str, Tensor]:
    """The next token of an image of which nothing is there, for an empty caption."""
    if network.config.text + network.config.image > LONGEST_SEQUENCE:
        return {}
    text = torch.full((1, network.config.text), PADDING)
    text[:, :2] = torch.tensor([START, END])
    nothing = torch.zeros(1, 0, dtype=torch.int64)
    return {"caption": RuDalleReader(network, text).read(nothing)}


def places(config: RuDalleConfig) -> Iterator[Place]:
    """Where their tensors stand in a `RuDalle`."""
    for ours, theirs in (
        ("embed_text.weight", "text_embeddings"),
        ("embed_image.weight", "image_embeddings"),
        ("positions", "text_pos_embeddings"),
        ("rows", "image_row_embeddings"),
        ("columns", "image_col_embeddings"),
    ):
        yield Place(ours, (f"{theirs}.weight",))
    yield from both("norm", "transformer.final_layernorm")
    yield from both("norm_head", "to_logits.0")
    yield from both("head", "to_logits.1")
    for number in range(config.layers):
        for mine, yours in (
            ("norm_attention", "input_layernorm"),
            ("attention.qkv", "attention.query_key_value"),
            ("attention.out", "attention.dense"),
            ("norm_attended", "before_first_addition_layernorm"),
            ("norm_mlp", "post_attention_layernorm"),
            ("widen", "mlp.dense_h_to_4h"),
            ("narrow", "mlp.dense_4h_to_h"),
            ("norm_narrowed", "before_second_addition_layernorm"),
        ):
            yield from both(f"blocks.{number}.{mine}", f"transformer.layers.{number}.{yours}")


def _is_ours(found: Tensor, name: str, config: RuDalleConfig) -> bool:
    """Whether a mask in the file, of truths or of ones and zeros, is the one that is computed here."""
    n = config.text + config.image
    if found.shape != (n, n):
        return False
    # Shapes alone, without numbers, contradict nothing.
    return found.is_meta or torch.equal(
        found.bool(), mask_of(config, MASKS[name.removeprefix("transformer.")])
    )


FORMAT = Format("ruDALL-E", fits, read)
