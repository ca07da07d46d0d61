"""DALLE-pytorch's checkpoints: `{hparams, vae_params, weights}`, a transformer and its autoencoder in one.

How deep a part lies within wrappers depends on the version and on choices; the wrappers' names are taken off
here. An autoencoder of somebody else that lies within is told of, and opened where it is OpenAI's.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor

from limner.dalle_pytorch import (
    ConvolutionalVae,
    ConvolutionalVaeConfig,
    DallePytorch,
    DallePytorchConfig,
)
from limner.dalle_pytorch.layers import Kind
from limner.dvae import DVae
from limner.errors import LimnerError
from limner.formats import openai_dvae
from limner.formats.contents import Contents
from limner.formats.format import LARGEST_SIDE, LONGEST_SEQUENCE, Assumptions, Format, Opened, Part, part
from limner.formats.places import Place, both

WEIGHTS, VAE = "weights.", "vae."
KINDS: dict[str, Kind] = {"full": "dense", "axial_row": "row", "axial_col": "column"}
# Its window lay around each position before this version, and ends at it since.
CONVOLUTION, MOVED = "conv_like", (1, 5)
SIGNS = {"to_logits.0.weight", "to_logits.1.weight"}
VAE_SIGNS = {"codebook.weight", "encoder.0.0.weight"}
OPENAI = {"enc.": "encoder:", "dec.": "decoder:"}
# A layer's branch in a plain or in a reversible stack, the wrappers around its part, and what is in it.
BRANCH = re.compile(
    r"transformer\.layers\.(?:layers|blocks)\.(\d+)\.(0|1|[fg]\.net)\.((?:fn\.)*)(scale|norm|to_|net\.)(.*)"
)
# Wrappers around a unit whose rows are not shifted: of its scale, and of its norm.
UNSHIFTED = 2


def fits(contents: Contents) -> bool:
    """A head that norms first above layers that are numbered twice; or the autoencoder alone."""
    tensors = contents.under(WEIGHTS).tensors
    stacked = any(map(BRANCH.fullmatch, tensors))
    return (tensors.keys() >= SIGNS and stacked) or tensors.keys() >= VAE_SIGNS


def read(contents: Contents, _assumptions: Assumptions) -> Opened:
    """Parts dalle and vae, as far as they are there. LimnerError for attention that is not computed here."""
    tensors = contents.under(WEIGHTS).tensors
    hparams = _told(contents, "hparams")
    version = contents.said.get("version")
    of = f", version {version}" if version else ""
    if tensors.keys() >= VAE_SIGNS:
        parts = (_vae(tensors, hparams),)
        return Opened(format=f"DALLE-pytorch autoencoder{of}", contents=contents, parts=parts, assumed=())
    assumed = [] if hparams else ["heads of 64 numbers, captions of 256 tokens, full attention: the defaults"]
    names, shift = _unwrapped({n: t for n, t in tensors.items() if not n.startswith(VAE)}, hparams)
    kinds = KINDS | {CONVOLUTION: _convolution(hparams, version, assumed)}
    config = _config(names, hparams, kinds, shifted=shift, reversible=_reversible(tensors))
    found: list[Part] = [part("dalle", DallePytorch, config, list(places(config)), names, tried=tried)]
    inside = {n.removeprefix(VAE): t for n, t in tensors.items() if n.startswith(VAE)}
    if inside.keys() >= VAE_SIGNS:
        found.append(_vae(inside, _told(contents, "vae_params")))
    elif any(name.startswith("enc.blocks.") for name in inside):
        renamed = {_openai(name): tensor for name, tensor in inside.items()}
        sizes = openai_dvae.config_of(renamed)
        where = list(openai_dvae.places(sizes))
        found.append(part("vae", DVae, sizes, where, renamed, tried=openai_dvae.tried))
    elif inside:
        kind = contents.said.get("vae_class_name", "taming's")
        assumed.append(f"its autoencoder, {kind} with {len(inside)} tensors, is left out")
    return Opened(format=f"DALLE-pytorch{of}", contents=contents, parts=tuple(found), assumed=tuple(assumed))


def tried(model: DallePytorch) -> dict[str, Tensor]:
    """The first tokens of a picture without a caption."""
    if model.config.text_context + model.config.grid**2 > LONGEST_SEQUENCE:
        return {}
    text = torch.zeros(1, model.config.text_context, dtype=torch.int64)
    return {"caption": model(text, torch.zeros(1, 3, dtype=torch.int64)).image}


def tried_vae(vae: ConvolutionalVae) -> dict[str, Tensor]:
    """A grey picture, there and back."""
    side = 2 * 2**vae.config.halvings
    if side > LARGEST_SIDE:
        return {}
    return {"picture": vae.decode(vae.encode(torch.zeros(1, 3, side, side)))}


def places(config: DallePytorchConfig) -> Iterator[Place]:
    """Where tensors stand in a `DallePytorch`, by their names without wrappers."""
    for mine, yours in (("embed_text.weight", "text_emb.weight"), ("embed_image.weight", "image_emb.weight")):
        yield Place(mine, (yours,))
    yield from both("norm", "to_logits.0")
    yield from both("head", "to_logits.1")
    if config.rotary:
        yield Place("angles", ("transformer.pos_emb",))
    else:
        yield Place("places.text", ("text_pos_emb.weight",))
        yield Place("places.rows", ("image_pos_emb.weights.0",))
        yield Place("places.columns", ("image_pos_emb.weights.1",))
    for number in range(len(config.pattern)):
        for mine, yours in (("attentions", "attention"), ("units", "unit")):
            ours, theirs = f"{mine}.{number}", f"{number}.{yours}"
            yield Place(f"{ours}.scale", (f"{theirs}.scale",))
            yield from both(f"{ours}.norm", f"{theirs}.norm")
            if config.sandwich:
                yield from both(f"{ours}.norm_out", f"{theirs}.norm_out")
        yield Place(f"attentions.{number}.part.qkv.weight", (f"{number}.attention.to_qkv.weight",))
        yield from both(f"attentions.{number}.part.out", f"{number}.attention.to_out.0")
        yield from both(f"units.{number}.part.widen", f"{number}.unit.net.0")
        yield from both(f"units.{number}.part.narrow", f"{number}.unit.net.3")


def vae_places(config: ConvolutionalVaeConfig) -> Iterator[Place]:
    """Where their tensors stand in a `ConvolutionalVae`."""
    halvings, blocks = config.halvings, config.blocks
    yield Place("codebook.weight", ("codebook.weight",))
    for step in range(halvings):
        yield from both(f"halvings.{step}", f"encoder.{step}.0")
        yield from both(f"doublings.{step}", f"decoder.{step + (blocks + 1 if blocks else 0)}.0")
    for block in range(blocks):
        for layer in (0, 2, 4):
            yield from both(f"encoder_blocks.{block}.net.{layer}", f"encoder.{halvings + block}.net.{layer}")
            yield from both(f"decoder_blocks.{block}.net.{layer}", f"decoder.{1 + block}.net.{layer}")
    if blocks:
        yield from both("from_codes", "decoder.0")
    yield from both("to_logits", f"encoder.{halvings + blocks}")
    yield from both("to_pixels", f"decoder.{halvings + (blocks + 1 if blocks else 0)}")


def _vae(tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> Part:
    halvings = sum(re.fullmatch(r"encoder\.\d+\.0\.weight", n) is not None for n in tensors)
    vocabulary, codebook = tensors["codebook.weight"].shape
    size = told.get("image_size", 256)
    if not isinstance(size, int) or size % 2**halvings or size < 1:
        raise LimnerError(f"its pictures would be {size!r} pixels wide, and are halved {halvings} times")
    config = ConvolutionalVaeConfig(
        resolution=size,
        vocabulary=vocabulary,
        codebook=codebook,
        hidden=tensors["encoder.0.0.weight"].shape[0],
        halvings=halvings,
        blocks=sum(re.fullmatch(r"encoder\.\d+\.net\.0\.weight", n) is not None for n in tensors),
    )
    return part("vae", ConvolutionalVae, config, list(vae_places(config)), tensors, tried=tried_vae)


def _convolution(told: Mapping[str, Any], version: object, assumed: list[str]) -> Kind:
    """Where the window of convolutional attention lies, by the version."""
    numbers = re.match(r"(\d+)\.(\d+)", str(version))
    if numbers is None and CONVOLUTION in (told.get("attn_types") or ()):
        assumed.append("windows around each position, as before 1.5, for no version is said")
    return "window" if numbers and tuple(map(int, numbers.groups())) >= MOVED else "centred"


def _told(contents: Contents, name: str) -> dict[str, Any]:
    found = contents.said.get(name)
    return found if isinstance(found, dict) else {}


def _reversible(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("transformer.layers.blocks.") for name in tensors)


def _openai(name: str) -> str:
    return f"{OPENAI.get(name[:4], '')}{name[4:]}"


def _unwrapped(tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> tuple[dict[str, Tensor], bool]:
    """By names without wrappers, and whether rows are shifted, which how many there were tells."""
    found: dict[str, Tensor] = {}
    shift = False
    for name, tensor in tensors.items():
        if name == "logits_mask":  # older versions keep it
            continue
        inside = BRANCH.fullmatch(name)
        if inside is None:
            found[name.replace("weights_", "weights.")] = tensor
            continue
        number, branch, wrappers, begin, end = inside.groups()
        of = "attention" if branch in ("0", "f.net") else "unit"
        found[f"{number}.{of}.{begin}{end}"] = tensor
        shift |= begin == "net." and wrappers.count("fn.") > UNSHIFTED
    if "text_emb.linear.weight" in found:
        # One table for ids and logits; both say that they have it.
        table = found["to_logits.1.weight"]
        ids = int(told.get("num_text_tokens", 10_000)) + int(told.get("text_seq_len", 256))
        for kind, rows in (("text", table[:ids]), ("image", table[ids:])):
            for end in ("weight", "bias"):
                if not torch.equal(found.pop(f"{kind}_emb.linear.{end}"), found[f"to_logits.1.{end}"]):
                    raise LimnerError(f"its {kind}'s table is not that of its logits, and should be")
            found[f"{kind}_emb.weight"] = rows
    return found, shift


def _config(
    tensors: Mapping[str, Tensor],
    told: Mapping[str, Any],
    known: Mapping[str, Kind],
    *,
    shifted: bool,
    reversible: bool,
) -> DallePytorchConfig:
    context = told.get("text_seq_len", 256)
    texts, width = tensors["text_emb.weight"].shape
    layers = len({name.split(".")[0] for name in tensors if name.endswith(".attention.to_qkv.weight")})
    rotary = "transformer.pos_emb" in tensors
    if rotary:
        image = tensors["transformer.pos_emb"].shape[-2] - context - 1
    else:
        image = tensors["image_pos_emb.weights.0"].numel() // width
        image = image**2
    grid = round(max(image, 0) ** 0.5)
    # The first versions had no paddings of their own, and hid them instead.
    words = told.get("num_text_tokens", texts - context)
    if grid**2 != image or texts != words + context or words < 1:
        raise LimnerError(
            f"with captions of {context} tokens, {words} words and their paddings it has {texts} text ids, "
            f"and {image} image positions, which none of theirs since 0.10 has"
        )
    kinds = told.get("attn_types") or ["full"]
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if unknown := sorted({str(kind) for kind in kinds} - known.keys()):
        raise LimnerError(
            f"it has layers of {', '.join(unknown)} attention, which limner does not compute: "
            "sparse ones look at random blocks, which are in no file"
        )
    head_width = told.get("dim_head", 64)
    inside = tensors["0.attention.to_qkv.weight"].shape[0] // 3
    if not isinstance(head_width, int) or head_width < 1 or inside % head_width:
        raise LimnerError(f"its attention is {inside} wide, and its heads would be {head_width!r}")
    return DallePytorchConfig(
        text_context=context,
        text_vocabulary=words,
        image_vocabulary=tensors["image_emb.weight"].shape[0],
        grid=grid,
        width=width,
        hidden=tensors["0.unit.net.3.weight"].shape[1],
        heads=inside // head_width,
        head_width=head_width,
        pattern=tuple(known[str(kind)] for kind in islice(cycle(kinds), layers)),
        rotary=rotary,
        shifted=shifted,
        sandwich="0.unit.norm_out.weight" in tensors,
        divided=bool(told.get("stable", False)),
        reversible=reversible,
    )


FORMAT = Format("DALLE-pytorch", fits, read)
