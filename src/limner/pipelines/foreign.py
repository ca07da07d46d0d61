"""Painters from other people's checkpoints."""

import torch

from limner.clip import Clip, TextWithProjection
from limner.dalle2.decoder import Decoder
from limner.dalle2.prior_diffusion import Prior
from limner.dalle2.upsampler import Upsampler
from limner.errors import LimnerError
from limner.formats import Opened, network, usable
from limner.pipelines.dalle2 import Dalle2
from limner.pipelines.embedding import clip_words
from limner.pipelines.settings import Precision


def unclip(found: Opened, device: torch.device, *, precision: Precision, compile: bool) -> Dalle2:
    """The painter of an unCLIP that was opened, Karlo's own or one that diffusers keeps.

    Its pictures name the first digits of its weights' SHA-256. Raises LimnerError for a checkpoint that is
    not whole, or lacks a part without which nothing is painted.
    """
    networks = {part.name: network(part).to(device) for part in usable(found).parts}
    for name, network_ in networks.items():
        # torch's own types know nothing of memory_format here.
        networks[name] = network_.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    reader = networks.get("clip", networks.get("text_encoder"))
    prior, decoder, upsampler = (networks.get(name) for name in ("prior", "decoder", "upsampler"))
    if not isinstance(reader, Clip | TextWithProjection):
        raise LimnerError(
            f"{found.contents.path} holds no CLIP that reads words, without which it paints none"
        )
    if not isinstance(decoder, Decoder) or not isinstance(upsampler, Upsampler):
        lacks = "decoder" if not isinstance(decoder, Decoder) else "upsampler"
        raise LimnerError(f"{found.contents.path} holds no {lacks}, without which nothing is painted")
    assert prior is None or isinstance(prior, Prior)
    painter = Dalle2(
        clip=reader,
        prior=prior,
        decoder=decoder,
        upsampler=upsampler,
        tokenizer=clip_words(reader.config.text.vocabulary, found.contents.path),
        digest=found.contents.digest()[:12],
        precision=precision,
        compiled=compile,
    )
    if compile:
        painter.compile()
    return painter
