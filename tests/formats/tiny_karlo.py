"""An unCLIP of Karlo's kind, as small as its layout allows, random, and its files as they are released."""

from pathlib import Path

import torch

from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.dalle2.decoder import ClipTextConfig, Decoder, DecoderConfig
from limner.dalle2.prior_diffusion import Prior, PriorConfig
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig
from limner.diffusion.spec import DiffusionSpec
from limner.formats import karlo
from limner.formats.places import give
from limner.layers.unet import UNetConfig

EMBEDDING, CONTEXT, WORDS = 12, 77, 49_408


def random_network(kind, config):
    module = kind(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return module.eval().requires_grad_(False)


def unet(inside: int, outside: int, *, context: int | None) -> UNetConfig:
    return UNetConfig(
        in_channels=inside,
        out_channels=outside,
        channels=64,
        depth=1,
        multipliers=(1, 2),
        attention=() if context is None else (2,),
        head_width=64,
        context_width=context,
        scale_shift=context is not None,
        dropout=0.0,
        patch=1,
        canvas=0,
    )


def prior(embedding: int = EMBEDDING) -> Prior:
    config = PriorConfig(
        embedding=embedding,
        text_width=64,
        context=CONTEXT,
        width=128,
        layers=2,
        heads=2,
        scale=1.0,
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
        whitened=True,
        bound=10.0,
    )
    made = random_network(Prior, config)
    made.mean.uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
    made.deviation.uniform_(0.5, 2, generator=torch.Generator().manual_seed(2))
    return made


def decoder(embedding: int = EMBEDDING) -> Decoder:
    config = DecoderConfig(
        resolution=64,
        embedding=embedding,
        picture_tokens=4,
        learned_null=True,
        text=ClipTextConfig(width=64, embedding=embedding),
        unet=unet(3, 6, context=20),
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="eps", learned_variance=True),
        raw=True,
    )
    return random_network(Decoder, config)


def upsampler() -> Upsampler:
    config = UpsamplerConfig(
        low=64,
        high=256,
        unet=unet(6, 3, context=None),
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="eps", learned_variance=False),
        enlarging="antialiased",
        rounded=False,
        finisher=True,
    )
    return random_network(Upsampler, config)


def clip(embedding: int = EMBEDDING) -> Clip:
    config = ClipConfig(
        vision=VisionConfig(resolution=16, patch=8, width=64, layers=1, heads=1),
        text=TextConfig(context=CONTEXT, vocabulary=WORDS, width=64, layers=1, heads=1),
        embedding=embedding,
        activation="quick_gelu",
    )
    return random_network(Clip, config)


def saved(folder: Path, *, prior, decoder, upsampler, clip) -> Path:
    """As they are released: Lightning's checkpoints, and a pair of tensors."""
    priors = give(karlo.prior_places(prior.config), prior.state_dict())
    statistics = tuple(priors.pop(name) for name in (karlo.MEAN, karlo.DEVIATION))
    decoders = give(karlo.decoder_places(decoder.config), decoder.state_dict())
    for name, tensors in (("prior", priors), ("decoder", decoders)):
        inside = {f"model.{key}": tensor for key, tensor in tensors.items()}
        torch.save({"epoch": 1, "state_dict": inside}, folder / f"{name}.ckpt")
    larger = give(karlo.upsampler_places(upsampler.config), upsampler.state_dict())
    torch.save({"state_dict": larger}, folder / "sr.ckpt")
    torch.save(give(karlo.openai_clip.places(clip.config), clip.state_dict()), folder / "ViT-L-14.pt")
    torch.save(statistics, folder / "ViT-L-14_stats.th")
    return folder
