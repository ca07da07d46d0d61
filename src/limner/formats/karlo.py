"""Karlo as it was released: a file each for prior, decoder and upsampler, and CLIP and its statistics beside.

`prior-ckpt-….ckpt`, `decoder-ckpt-….ckpt`, `improved-sr-ckpt-….ckpt`, `ViT-L-14.pt` and `ViT-L-14_stats.th`,
though names of files count for nothing here. Each opens alone as well, but a prior wants the statistics.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor

from limner.dalle2.decoder import ClipTextConfig, Decoder, DecoderConfig
from limner.dalle2.prior_diffusion import Prior, PriorConfig
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig
from limner.diffusion.spec import DiffusionSpec
from limner.errors import LimnerError
from limner.formats import adm, openai_clip
from limner.formats.contents import Contents
from limner.formats.diffusers_unclip import (
    BOUND,
    COLOURS,
    DRAWN,
    ENLARGED,
    STEPS,
    picture_tokens,
    prefixed,
    tried_decoder,
    tried_prior,
    tried_upsampler,
)
from limner.formats.format import Assumptions, Format, Opened, Part, part
from limner.formats.places import Place, both

INSIDE = "model."
FIRST, LAST = "model_first_steps.", "model_last_step."
MEAN, DEVIATION = "statistics.0", "statistics.1"
SIGNS = {
    "prior": {"prd_emb", "text_enc_proj.weight", "clip_img_proj.weight"},
    "decoder": {"cf_param", "clip_tok_proj.weight", "input_blocks.0.0.weight"},
    "upsampler": {f"{FIRST}input_blocks.0.0.weight", f"{LAST}input_blocks.0.0.weight"},
}
# What belongs to CLIP, and is Karlo's only beside one of these.
STATISTICS = {"0", "1"}


def fits(contents: Contents) -> bool:
    """One of its three networks, at least."""
    return bool(SIGNS.keys() & {_kind(one) for one in contents.each()})


def read(contents: Contents, assumptions: Assumptions) -> Opened:
    """A part for each of clip, prior, decoder and upsampler that is there.

    Raises LimnerError for a folder that holds something else, or one of them twice.
    """
    files: dict[str, Contents] = {}
    for one in contents.each():
        kind = _kind(one)
        if kind is None:
            raise LimnerError(f"{one.path} is no part of Karlo: give a folder with nothing else in it")
        if kind in files:
            raise LimnerError(f"{contents.path} holds two of Karlo's {kind}: leave one of them out")
        files[kind] = _plain(one)
    assumed: list[str] = []
    parts: list[Part] = []
    if "clip" in files:
        found = openai_clip.read(files["clip"], assumptions)
        parts += found.parts
        assumed += found.assumed
    if "prior" in files:
        parts.append(_prior(files["prior"], files.get("statistics")))
    if "decoder" in files:
        parts.append(_decoder(files["decoder"]))
    if "upsampler" in files:
        parts.append(_upsampler(files["upsampler"]))
    wanted: tuple[str, ...] = ()
    if "prior" in files and "statistics" not in files:
        wanted = (
            "the prior speaks of embeddings whitened by CLIP's statistics: put ViT-L-14_stats.th beside it",
        )
    assumed.append(f"cosine schedules of {STEPS} steps, {DRAWN} and {ENLARGED} pixels, as released")
    assumed.append(f"heads of {adm.HEAD_WIDTH} numbers, as released")
    return Opened(
        format="Karlo", contents=contents, parts=tuple(parts), assumed=tuple(assumed), wanted=wanted
    )


def _kind(contents: Contents) -> str | None:
    names = _plain(contents).tensors.keys()
    for kind, signs in SIGNS.items():
        if signs <= names:
            return kind
    if names == STATISTICS:
        return "statistics"
    return "clip" if openai_clip.fits(contents) else None


def _plain(contents: Contents) -> Contents:
    """Without what training put around it."""
    return contents.under("state_dict.").under(INSIDE)


def _prior(contents: Contents, statistics: Contents | None) -> Part:
    rows, width = contents.shape("positional_embedding")[-2:]
    config = PriorConfig(
        embedding=contents.shape("out_proj.weight")[0],
        text_width=contents.shape("text_enc_proj.weight")[1],
        context=rows - 4,
        width=width,
        layers=contents.numbered("transformer.resblocks."),
        heads=width // adm.HEAD_WIDTH,
        scale=1.0,
        diffusion=DiffusionSpec(schedule="cosine", steps=STEPS, prediction="x0", learned_variance=False),
        whitened=True,
        bound=BOUND,
    )
    beside: Mapping[str, Tensor] = {} if statistics is None else statistics.tensors
    tensors = {**contents.tensors, **prefixed(beside, "statistics.")}
    return part("prior", Prior, config, list(prior_places(config)), tensors, tried=tried_prior)


def _decoder(contents: Contents) -> Part:
    unet = adm.unet(contents)
    embedding = contents.shape("clip_emb.weight")[1]
    config = DecoderConfig(
        resolution=DRAWN,
        embedding=embedding,
        picture_tokens=contents.shape("clip_tok_proj.weight")[0]
        // contents.shape("text_seq_proj.0.weight")[0],
        learned_null=True,
        text=ClipTextConfig(
            width=contents.shape("text_seq_proj.0.weight")[1],
            embedding=contents.shape("text_feat_proj.weight")[1],
        ),
        unet=unet,
        diffusion=DiffusionSpec(
            schedule="cosine",
            steps=STEPS,
            prediction="eps",
            learned_variance=unet.out_channels == 2 * COLOURS,
        ),
        raw=True,
    )
    places = list(decoder_places(config))
    return part("decoder", Decoder, config, places, contents.tensors, tried=tried_decoder)


def _upsampler(contents: Contents) -> Part:
    config = UpsamplerConfig(
        low=DRAWN,
        high=ENLARGED,
        unet=adm.unet(contents.under(FIRST)),
        diffusion=DiffusionSpec(schedule="cosine", steps=STEPS, prediction="eps", learned_variance=False),
        enlarging="antialiased",
        rounded=False,
        finisher=True,
    )
    places = list(upsampler_places(config))
    return part("upsampler", Upsampler, config, places, contents.tensors, tried=tried_upsampler)


def prior_places(config: PriorConfig) -> Iterator[Place]:
    """Where their tensors stand in a `Prior`; the statistics are CLIP's own file's."""
    yield Place("positions", ("positional_embedding",), ones=1)
    yield Place("query", ("prd_emb",), ones=2)
    yield Place("mean", (MEAN,))
    yield Place("deviation", (DEVIATION,))
    for ours, theirs in (
        ("time.net.0", "time_embed.0"),
        ("time.net.2", "time_embed.2"),
        ("from_picture", "clip_img_proj"),
        ("from_caption", "text_emb_proj"),
        ("from_tokens", "text_enc_proj"),
        ("norm", "final_ln"),
        ("to_picture", "out_proj"),
    ):
        yield from both(ours, theirs)
    yield from adm.transformer_places(config.layers, config.heads, "transformer", "transformer")


def decoder_places(config: DecoderConfig) -> Iterator[Place]:
    """Where their tensors stand in a `Decoder`."""
    yield from adm.places(config.unet, "unet.")
    yield Place("null", ("cf_param",))
    for ours, theirs in (
        ("text.pool", "text_feat_proj"),
        ("to_condition", "clip_emb"),
        ("text.rows.0", "text_seq_proj.0"),
        ("text.rows.1", "text_seq_proj.1"),
    ):
        yield from both(ours, theirs)
    yield from picture_tokens(config, "clip_tok_proj")


def upsampler_places(config: UpsamplerConfig) -> Iterator[Place]:
    """Where those of both networks stand in an `Upsampler`."""
    yield from adm.places(config.unet, "unet.", FIRST)
    yield from adm.places(config.unet, "finisher.", LAST)


FORMAT = Format("Karlo", fits, read)
