"""DALL-E mini and mega: min-dalle's `encoder.pt` and `decoder.pt` for torch, or Flax's one file; their VQGAN.

What paints the codes lies among the files, or in a folder `vqgan` within theirs or beside it, as min-dalle
has it: min-dalle's half of a VQGAN, or a whole one as Flax or taming-transformers keep it.

Flax stacks all layers of a half along a first dimension, keeps weights of projections turned, and numbers its
parts in the order of their making. Norms that a projection follows were trained without a scale, so in either
way of keeping them it may be left out: it is one.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.dalle_mini import WORDS, DalleMini, DalleMiniConfig
from limner.errors import LimnerError
from limner.formats import taming
from limner.formats.contents import Contents, look
from limner.formats.format import Assumptions, Format, Opened, Part, part
from limner.formats.places import Place, both

SETTINGS = "config.json"
HEAD_WIDTH, CODES, START, PADDING = 64, 2**14, 2**14, 1
SIGNS = {"embed_tokens.weight", "layernorm_embedding.weight", "layers.0.glu.fc0.weight"}
HALVES = ("encoder", "decoder")
VQGAN = "vqgan"
FLAX = "model.{half}.layers.FlaxBart{Half}Layers."
# What Flax calls the parts of a layer → what min-dalle calls them; the decoder has all of these.
NUMBERED = {
    "LayerNorm_0.": "pre_self_attn_layer_norm.",
    "LayerNorm_1.": "self_attn_layer_norm.",
    "LayerNorm_2.": "pre_encoder_attn_layer_norm.",
    "LayerNorm_3.": "encoder_attn_layer_norm.",
    "FlaxBartAttention_0.": "self_attn.",
    "FlaxBartAttention_1.": "encoder_attn.",
    "GLU_0.LayerNorm_0.": "glu.ln0.",
    "GLU_0.LayerNorm_1.": "glu.ln1.",
    "GLU_0.Dense_0.": "glu.fc0.",
    "GLU_0.Dense_1.": "glu.fc1.",
    "GLU_0.Dense_2.": "glu.fc2.",
}
SCALELESS = ("pre_self_attn_layer_norm", "pre_encoder_attn_layer_norm", "glu.ln0", "glu.ln1")
# Variants of the architecture that a configuration may ask for, and what these two are.
VARIANTS = {
    "activation_function": "gelu",
    "ln_positions": "normformer",
    "ln_type": "layernorm",
    "scale_embedding": False,
    "sinkhorn_iters": 1,
    "use_absolute_position_embeddings": True,
    "use_bias": False,
    "use_cosine_attention": False,
    "use_deepnet_scaling": False,
    "use_final_ln_decoder": True,
    "use_final_ln_encoder": True,
    "use_glu": True,
    "use_head_scale": False,
}


def fits(contents: Contents) -> bool:
    """A BART whose feed-forward unit is gated, or both halves in one file as Flax stacks them."""
    return any(_is_ours(one) for one in _files(contents))


def read(contents: Contents, _assumptions: Assumptions) -> Opened:
    """dalle_mini, with its words beside it, and the VQGAN; of a lone half, the other half is missing.

    LimnerError for settings that ask for another architecture than these two have, and for two of anything.
    """
    files = _files(contents)
    ours = [one for one in files if _is_ours(one)]
    network, assumed = _transformer(contents, ours)
    folder = ours[0].path.parent
    beside = [one for one in files if not _is_ours(one)]
    vqgans = [one for one in beside if _paints(one)] or _in_a_folder(folder)
    if len(vqgans) > 1:
        names = " and ".join(one.path.name for one in vqgans)
        raise LimnerError(f"{contents.path} holds two VQGANs, {names}: leave one")
    assumed += [f"{one.path}: pixels from 0 to 1, as DALL-E mini shows them to its VQGAN" for one in vqgans]
    if strange := [one.path.name for one in beside if not _paints(one)]:
        assumed.append(f"{', '.join(strange)} is none of it: open it by its own path")
    size = "mega" if network.config.decoder_layers > 12 else "mini"
    return Opened(
        format=f"DALL-E {size}",
        contents=contents,
        parts=(network, *(_painter(one) for one in vqgans)),
        assumed=tuple(assumed),
    )


def _transformer(contents: Contents, files: Sequence[Contents]) -> tuple[Part, list[str]]:
    """Both halves as one network, and what was assumed of it."""
    told = files[0].told(SETTINGS)
    for name, ours in VARIANTS.items():
        if told.get(name, ours) != ours:
            raise LimnerError(f"its {name} is {told[name]!r}, and DALL-E mini's here {ours!r}")
    tensors: dict[str, Tensor] = {}
    for one in files:
        found = _from_flax(one.tensors) if _is_flax(one) else _from_torch(one.tensors)
        if doubled := tensors.keys() & found.keys():
            half = min(doubled).partition(":")[0]
            raise LimnerError(f"{contents.path} holds two {half}s: give a folder with one of each")
        tensors |= found
    config, assumed = _config(tensors, told)
    scales = _scales(config, tensors)
    if scales:
        assumed.append(f"scales of 1 in {len(scales)} norms before projections, which were trained without")
    words = tuple(path for name in WORDS if (path := files[0].path.parent / name).is_file())
    network = part(
        "dalle_mini",
        DalleMini,
        config,
        list(places(config)),
        scales | tensors,
        tried=tried,
        beside=words,
    )
    return network, assumed


def _painter(one: Contents) -> Part:
    """What paints the codes, of either kind."""
    return taming.painting(one) if taming.detoker_fits(one) else taming.whole(one, pixels="unit")


def _in_a_folder(folder: Path) -> list[Contents]:
    """The VQGAN that lies in a folder of that name, within the transformer's or beside it."""
    for one in (folder / VQGAN, folder.parent / VQGAN):
        if one.is_dir():
            return [file for file in look(one).each() if _paints(file)]
    return []


def tried(model: DalleMini) -> dict[str, Tensor]:
    """The first tokens of a picture of nothing."""
    config = model.config
    text = torch.full((1, config.text_context), config.padding)
    text[0, 0] = 0
    return {"caption": model(text, torch.zeros(1, 4, dtype=torch.int64))[..., : config.codes]}


def places(config: DalleMiniConfig) -> Iterator[Place]:
    """Where tensors stand in a `DalleMini`, by min-dalle's names behind their half's."""
    yield Place("decoder.head.weight", ("decoder:lm_head.weight",))
    for half, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        yield Place(f"{half}.embed.weight", (f"{half}:embed_tokens.weight",))
        yield Place(f"{half}.positions", (f"{half}:embed_positions.weight",))
        yield from both(f"{half}.norm_in", f"{half}:layernorm_embedding")
        yield from both(f"{half}.norm_out", f"{half}:final_ln")
        for number in range(layers):
            ours, theirs = f"{half}.blocks.{number}", f"{half}:layers.{number}"
            yield from _attention(ours, theirs, ("norm_attention", "attention", "norm_attended"), "self")
            if half == "decoder":
                yield from _attention(ours, theirs, ("norm_reading", "reading", "norm_read"), "encoder")
            yield from both(f"{ours}.unit.norm_in", f"{theirs}.glu.ln0")
            yield from both(f"{ours}.unit.norm_hidden", f"{theirs}.glu.ln1")
            for mine, yours in (("gate", "fc0"), ("widen", "fc1"), ("narrow", "fc2")):
                yield Place(f"{ours}.unit.{mine}.weight", (f"{theirs}.glu.{yours}.weight",))


def _attention(ours: str, theirs: str, names: tuple[str, str, str], kind: str) -> Iterator[Place]:
    before, attention, after = names
    yield from both(f"{ours}.{before}", f"{theirs}.pre_{kind}_attn_layer_norm")
    for mine, yours in (("query", "q"), ("key", "k"), ("value", "v"), ("out", "out")):
        yield Place(f"{ours}.{attention}.{mine}.weight", (f"{theirs}.{kind}_attn.{yours}_proj.weight",))
    yield from both(f"{ours}.{after}", f"{theirs}.{kind}_attn_layer_norm")


def _files(contents: Contents) -> list[Contents]:
    """One by one, of a folder's folders as well."""
    return [file for one in contents.each() for file in one.each() if file.tensors]


def _paints(one: Contents) -> bool:
    return taming.fits(one) or taming.detoker_fits(one)


def _is_ours(one: Contents) -> bool:
    return _is_half(one) or _is_flax(one)


def _is_half(one: Contents) -> bool:
    return one.tensors.keys() >= SIGNS


def _is_flax(one: Contents) -> bool:
    return any(
        name.startswith(FLAX.format(half=half, Half=half.title())) for half in HALVES for name in one.tensors
    )


def _from_torch(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    half = "decoder" if "lm_head.weight" in tensors else "encoder"
    return {f"{half}:{name}": tensor for name, tensor in tensors.items()}


def _from_flax(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By min-dalle's names, each layer a view of the stack; what has no such name keeps its own."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        theirs, turned = _plain(name)
        half = next((half for half in HALVES if name.startswith(f"model.{half}.")), None)
        if name.startswith("lm_head."):
            found[f"decoder:{theirs}"] = tensor.mT if turned and tensor.ndim == 2 else tensor
            continue
        if half is None:
            found[name] = tensor
            continue
        inside = theirs.removeprefix(f"model.{half}.")
        stacked = FLAX.format(half=half, Half=half.title()).removeprefix(f"model.{half}.")
        if not inside.startswith(stacked) or not tensor.ndim:
            found[f"{half}:{inside}"] = tensor
            continue
        inside = inside.removeprefix(stacked)
        known = next((one for one in NUMBERED if inside.startswith(one)), None)
        inside = inside if known is None else NUMBERED[known] + inside.removeprefix(known)
        for number, layer in enumerate(tensor):
            found[f"{half}:layers.{number}.{inside}"] = layer.mT if turned and layer.ndim == 2 else layer
    return found


def _plain(name: str) -> tuple[str, bool]:
    """Flax's last word of a name as torch's, and whether the tensor is turned."""
    inside, _, end = name.rpartition(".")
    ends = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
    return f"{inside}.{ends.get(end, end)}", end == "kernel"


def _scales(config: DalleMiniConfig, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ones for the norms that may have no scale, and have none; of halves that are there."""
    found = {}
    for half, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers)):
        names = [f"{half}:final_ln"]
        names += [f"{half}:layers.{number}.{norm}" for number in range(layers) for norm in SCALELESS]
        for name in names:
            bias = tensors.get(f"{name}.bias")
            if bias is not None and f"{name}.weight" not in tensors:
                found[f"{name}.weight"] = torch.ones_like(bias)
    return found


def _config(tensors: Mapping[str, Tensor], told: dict[str, Any]) -> tuple[DalleMiniConfig, list[str]]:
    """Sizes by shapes; a missing half has those that were published."""
    assumed = []

    def size(name: str, dimension: int, otherwise: int) -> int:
        found = [tensors[f"{half}:{name}"] for half in HALVES if f"{half}:{name}" in tensors]
        return otherwise if not found or found[0].ndim != 2 else int(found[0].shape[dimension])

    def rows(name: str, otherwise: int) -> int:
        return otherwise if name not in tensors else int(tensors[name].shape[0])

    def layers(half: str) -> int:
        return len({name.split(".")[1] for name in tensors if name.startswith(f"{half}:layers.")})

    width = size("embed_tokens.weight", 1, 0)
    positions = rows("decoder:embed_positions.weight", 256)
    grid = round(positions**0.5)
    if grid**2 != positions:
        raise LimnerError(f"its {positions} positions of an image are no square")
    heads = told.get("decoder_attention_heads")
    if heads is None:
        assumed.append(f"heads of {HEAD_WIDTH} numbers, as in both that were published")
        heads = width // HEAD_WIDTH
    if (
        not isinstance(heads, int)
        or heads < 1
        or width % heads
        or told.get("encoder_attention_heads", heads) != heads
    ):
        raise LimnerError(f"it is {width} wide and would have {heads} heads, in both halves")
    vocabulary = rows("decoder:embed_tokens.weight", START + 1)
    start = told.get("decoder_start_token_id")
    if start is None:
        # Both that were published; in mega, rows behind it only make the number even.
        start = min(START, vocabulary - 1)
        assumed.append(f"images begin with the token {start}, as in both that were published")
    if not isinstance(start, int) or not 0 <= start < vocabulary:
        raise LimnerError(f"images would begin with the token {start!r} of {vocabulary}")
    config = DalleMiniConfig(
        text_context=rows("encoder:embed_positions.weight", 64),
        text_vocabulary=rows("encoder:embed_tokens.weight", 50_264),
        padding=PADDING,
        image_vocabulary=vocabulary,
        codes=min(CODES, vocabulary - 1),
        start=start,
        grid=grid,
        width=width,
        hidden=size("layers.0.glu.fc0.weight", 0, 0),
        heads=heads,
        encoder_layers=layers("encoder") or layers("decoder"),
        decoder_layers=layers("decoder") or layers("encoder"),
    )
    return config, assumed


FORMAT = Format("DALL-E mini", fits, read)
