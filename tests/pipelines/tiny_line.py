"""A line of the smallest networks with random weights: it paints noise, by all the rules of a trained one."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from limner import checkpoint
from limner.clip import (
    Clip,
    ClipConfig,
    TextConfig,
    TextWithProjection,
    TextWithProjectionConfig,
    VisionConfig,
)
from limner.dalle1 import Dalle1, Dalle1Config
from limner.dalle2.decoder import ClipTextConfig, Decoder, DecoderConfig
from limner.dalle2.prior_autoregressive import AutoregressivePrior, AutoregressivePriorConfig
from limner.dalle2.prior_diffusion import Prior, PriorConfig
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig
from limner.dalle_mini import DalleMini, DalleMiniConfig
from limner.dfgan import DfGanConfig, Generator
from limner.diffusion.spec import DiffusionSpec
from limner.dvae import DVae, DVaeConfig
from limner.formats import dalle_mini as formats_dalle_mini
from limner.formats import glide as formats_glide
from limner.formats import glide_clip, taming
from limner.formats.places import give
from limner.glide import Glide, GlideConfig, TextEncoderConfig
from limner.layers.unet import UNetConfig
from limner.text import CaptionTokenizer
from limner.vqgan import VqGan, VqGanConfig

WIDTH = 32
EMBEDDING = 16
CONTEXT = 32


def unet(*, in_channels: int, patch: int, attention: tuple[int, ...], context: int | None) -> UNetConfig:
    return UNetConfig(
        in_channels=in_channels,
        out_channels=3,
        channels=WIDTH,
        depth=1,
        multipliers=(1,),
        attention=attention,
        head_width=16,
        context_width=context,
        scale_shift=True,
        dropout=0.0,
        patch=patch,
        canvas=0,
    )


def configs() -> dict[str, tuple[type[nn.Module], object]]:
    spec = DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False)
    clip = ClipConfig(
        vision=VisionConfig(resolution=16, patch=8, width=WIDTH, layers=1, heads=2),
        text=TextConfig(context=CONTEXT, vocabulary=600, width=WIDTH, layers=1, heads=2),
        embedding=EMBEDDING,
        activation="quick_gelu",
    )
    prior = PriorConfig(
        embedding=EMBEDDING,
        text_width=WIDTH,
        context=CONTEXT,
        width=WIDTH,
        layers=1,
        heads=2,
        scale=2.15,
        diffusion=spec,
    )
    decoder = DecoderConfig(
        resolution=64,
        embedding=EMBEDDING,
        picture_tokens=2,
        learned_null=False,
        text=ClipTextConfig(width=WIDTH, embedding=EMBEDDING),
        unet=unet(in_channels=3, patch=8, attention=(1,), context=WIDTH),
        diffusion=spec,
    )
    upsampler = UpsamplerConfig(
        low=64, high=256, unet=unet(in_channels=6, patch=16, attention=(), context=None), diffusion=spec
    )
    return {
        "clip": (Clip, clip),
        "prior": (Prior, prior),
        "decoder": (Decoder, decoder),
        "upsampler": (Upsampler, upsampler),
    }


def write(folder: Path, *, seed: int = 0) -> Path:
    """All four parts, stored as those that ship are: in bfloat16."""
    save(folder, configs(), seed=seed)
    return folder


def write_second(folder: Path, *, seed: int = 1) -> Path:
    """A second upsampler beside them, 256 → 1024, whose tiles fit together."""
    network, config = configs()["upsampler"]
    second = replace(config, low=256, high=1024, unet=replace(config.unet, patch=32, norm="pixel"))
    save(folder, {"upsampler_1024": (network, second)}, seed=seed)
    return folder


def save(folder: Path, parts: dict[str, tuple[type[nn.Module], object]], *, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part, (network, config) in parts.items():
            module = network(config)
            for parameter in module.parameters():
                # Fresh networks end in zeros, and would paint the same grey whatever they are asked for.
                parameter.data += 0.05 * torch.randn_like(parameter)
            if isinstance(module, Dalle1):
                # Or every token would be as likely as any other, whatever the words.
                module.head.weight.data *= 20
            checkpoint.save(folder / part, module.state_dict(), config, dtype=torch.bfloat16)


def write_other(folder: Path, *, seed: int = 2) -> Path:
    """An autoregressive prior beside them."""
    config = AutoregressivePriorConfig(
        embedding=EMBEDDING,
        text_width=WIDTH,
        context=CONTEXT,
        components=6,
        buckets=8,
        dots=4,
        width=WIDTH,
        layers=1,
        heads=2,
    )
    save(folder, {"prior_autoregressive": (AutoregressivePrior, config)}, seed=seed)
    return folder


def write_dfgan(folder: Path, *, seed: int = 0) -> Path:
    """DF-GAN: 32×32 pixels, and a text tower of its own."""
    tower = TextWithProjectionConfig(
        text=TextConfig(context=CONTEXT, vocabulary=600, width=WIDTH, layers=1, heads=2),
        embedding=EMBEDDING,
        activation="quick_gelu",
    )
    generator = DfGanConfig(resolution=32, width=4, noise=8, sentence=EMBEDDING, squashed=False)
    save(
        folder,
        {"generator": (Generator, generator), "text": (TextWithProjection, tower)},
        seed=seed,
    )
    return folder


def write_dalle1(folder: Path, *, seed: int = 0) -> Path:
    """A line of DALL-E 1: 32×32 pixels, 4×4 tokens, and a CLIP that sees 16×16."""
    dvae = DVaeConfig(
        resolution=32,
        vocabulary=32,
        codebook=8,
        widths=(8, 16),
        blocks=1,
        poolings=1,
        stem=3,
        gain=1.0,
        patch=4,
    )
    transformer = Dalle1Config(
        text_context=24,
        text_vocabulary=300,
        image_vocabulary=32,
        grid=4,
        width=WIDTH,
        heads=2,
        pattern=("row", "column", "convolution"),
        kernel=3,
        activation="gelu",
    )
    parts = {"transformer": (Dalle1, transformer), "dvae": (DVae, dvae), "clip": configs()["clip"]}
    save(folder, parts, seed=seed)
    captions = ["a pear", "two fish", "a large green fish", "a red apple"] * 4
    CaptionTokenizer.train(captions, 300).save(folder / "transformer" / "bpe.json")
    return folder


def write_glide(folder: Path, *, seed: int = 0, inpaint: bool = True) -> Path:
    """A line of GLIDE: 16 → 64 pixels, and a noised CLIP that sees 16×16."""
    spec = DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=True)
    text = TextEncoderConfig(
        context=40, vocabulary=300, width=WIDTH, layers=1, heads=2, condition_width=4 * WIDTH
    )
    more = 4 if inpaint else 0

    def network(*, resolution: int, low: int | None, in_channels: int, patch: int) -> GlideConfig:
        backbone = unet(in_channels=in_channels + more, patch=patch, attention=(1,), context=WIDTH)
        return GlideConfig(
            resolution=resolution,
            low=low,
            inpaint=inpaint,
            text=text,
            backbone=replace(backbone, out_channels=6),
            diffusion=spec,
        )

    _, clip = configs()["clip"]
    parts = {
        "base": (Glide, network(resolution=16, low=None, in_channels=3, patch=2)),
        "upsampler": (Glide, network(resolution=64, low=16, in_channels=6, patch=8)),
        "clip": (Clip, replace(clip, vision=replace(clip.vision, times=1000))),
    }
    save(folder, parts, seed=seed)
    captions = ["a pear", "two fish", "a large green fish", "a red apple"] * 4
    for part in ("base", "upsampler"):
        CaptionTokenizer.train(captions, 300).save(folder / part / "bpe.json")
    return folder


def write_dalle_mini(folder: Path, *, seed: int = 0) -> Path:
    """A DALL-E mini in the files of min-dalle: letters for words, 4×4 codes of 2×2 pixels."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *"abcdefghijklmnopqrstuvwxyz"]
    config = DalleMiniConfig(
        text_context=24,
        text_vocabulary=40,
        padding=1,
        image_vocabulary=13,
        codes=12,
        start=12,
        grid=4,
        width=64,
        hidden=20,
        heads=1,
        encoder_layers=1,
        decoder_layers=1,
    )
    codes = VqGanConfig(
        resolution=256,
        stem=32,
        widths=(32, 64),
        depth=1,
        attention=(2,),
        latent=8,
        codes=12,
        width=6,
        choice="nearest",
        pixels="unit",
    )
    torch.manual_seed(seed)
    transformer, vqgan = DalleMini(config), VqGan(codes)
    for name, tensor in transformer.state_dict().items():
        if "norm" not in name:
            tensor.normal_(std=0.3)
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    named = give(formats_dalle_mini.places(config), transformer.state_dict())
    for half in ("encoder", "decoder"):
        inside = {name.partition(":")[2]: one for name, one in named.items() if name.startswith(f"{half}:")}
        torch.save(inside, folder / f"{half}.pt")
    torch.save(give(taming.detoker_places(codes), vqgan.decoder.state_dict()), folder / "detoker.pt")
    return folder


RELEASED_FILES = {
    "base": "base.pt",
    "upsampler": "upsample.pt",
    "base_inpaint": "base_inpaint.pt",
    "upsampler_inpaint": "upsample_inpaint.pt",
}


def write_released_glide(folder: Path, *, base: int, large: int, seed: int = 0) -> Path:
    """All six files of GLIDE in the layout of those that were released, of `base` and `large` pixels.

    Heads of 64 numbers and GPT-2's 50,257 words are given; all else is as small as they allow.
    """
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, file in RELEASED_FILES.items():
            config = released_config(name, base=base, large=large)
            module = Glide(config)
            for parameter in module.parameters():
                parameter.data += 0.03 * torch.randn_like(parameter)
            torch.save(give(formats_glide.places(config), module.state_dict()), folder / file)
        clip = ClipConfig(
            vision=VisionConfig(resolution=base, patch=8, width=64, layers=1, heads=1, times=1000),
            text=TextConfig(context=20, vocabulary=49_500, width=64, layers=1, heads=1),
            embedding=EMBEDDING,
            activation="gelu",
        )
        theirs = give(glide_clip.places(clip), Clip(clip).state_dict())
    for half, file in (("image", "clip_image_enc.pt"), ("text", "clip_text_enc.pt")):
        mine = {name.partition(":")[2]: t for name, t in theirs.items() if name.startswith(half)}
        torch.save(mine, folder / file)
    return folder


def released_config(name: str, *, base: int, large: int) -> GlideConfig:
    upsampler, inpaint = "upsampler" in name, "inpaint" in name
    seen = 3 + (3 if upsampler else 0) + (4 if inpaint else 0)
    backbone = replace(unet(in_channels=seen, patch=1, attention=(2,), context=64), multipliers=(1, 2))
    return GlideConfig(
        resolution=large if upsampler else base,
        low=base if upsampler else None,
        inpaint=inpaint,
        text=TextEncoderConfig(
            context=16, vocabulary=50_257, width=64, layers=1, heads=1, condition_width=4 * WIDTH
        ),
        backbone=replace(backbone, out_channels=6, head_width=64),
        diffusion=DiffusionSpec(
            schedule="linear" if upsampler else "cosine", steps=1000, prediction="eps", learned_variance=True
        ),
    )
