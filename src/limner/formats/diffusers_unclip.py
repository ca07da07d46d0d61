"""unCLIP as diffusers keeps it: a folder for each part, named as in its `model_index.json`; in and out.

Karlo's pipeline that paints words, its pipeline that varies pictures (which has CLIP's picture tower, and no
prior), and Kandinsky's prior pipelines, whose decoders paint in a latent space and are not limner's. A lone
`PriorTransformer` is one as well.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from limner.dalle2.decoder import ClipTextConfig, ClipTokens, Decoder, DecoderConfig
from limner.dalle2.prior_diffusion import Prior, PriorConfig
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig
from limner.diffusion.process import Prediction
from limner.diffusion.spec import DiffusionSpec
from limner.errors import LimnerError
from limner.formats import diffusers_unet, huggingface_clip
from limner.formats.contents import Contents, agree, whole
from limner.formats.format import Assumptions, Format, Opened, Part, part
from limner.formats.openai_clip import checked_pixels
from limner.formats.places import Place, both

DECODING = {"decoder", "text_proj", "super_res_first", "super_res_last", "text_encoder"}
# Of these, those that nobody else has: limner's own line has a decoder too.
SIGNS = {"text_proj", "super_res_first", "super_res_last"}
SETTINGS, SCHEDULER, PIXELS = "config.json", "scheduler_config.json", "preprocessor_config.json"
# As Karlo and Kandinsky were released.
DRAWN, ENLARGED, STEPS, BOUND = 64, 256, 1000, 10.0
HEAD_WIDTH = 64
MOST_STEPS, MOST_PIXELS = 100_000, 4096
# What every such prior has.
PLAIN: dict[str, Any] = {
    "time_embed_act_fn": "silu",
    "norm_in_type": None,
    "embedding_proj_norm_type": None,
    "encoder_hid_proj_type": "linear",
    "added_emb_type": "prd",
}
PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
COLOURS = 3
# Pixels a side of what U-Nets are tried with.
TRIED = 32


def fits(contents: Contents) -> bool:
    """The folders of a decoder's words and its upsamplers, or some of them."""
    return bool(contents.folders.keys() & SIGNS)


def fits_prior(contents: Contents) -> bool:
    """A prior transformer by its names, alone or in a folder beside the tower that it reads words with."""
    wanted = {"positional_embedding", "proj_in.weight", "proj_to_clip_embeddings.weight"}
    if contents.folders.keys() >= {"prior", "text_encoder"} and not fits(contents):
        contents = contents.folders["prior"]
    return wanted <= contents.tensors.keys()


def read(contents: Contents, assumptions: Assumptions) -> Opened:
    """The parts clip or text_encoder, prior where there is one, decoder and upsampler.

    LimnerError for a folder that lacks another part, and for settings that limner's networks do not have.
    """
    folders, assumed = contents.folders, list[str]()
    if lacks := sorted(DECODING - {name for name, one in folders.items() if one.tensors}):
        raise LimnerError(f"{contents.path} is an unCLIP without {' and '.join(lacks)}: give a whole one")
    parts = [_reader(folders, assumptions, assumed)]
    if "prior" in folders:
        parts.append(prior(folders["prior"], folders.get("prior_scheduler"), assumed))
    parts.append(_decoder(folders, assumed))
    parts.append(_upsampler(folders, assumed))
    title = "unCLIP of diffusers" + ("" if "prior" in folders else ", to vary pictures")
    return Opened(format=title, contents=contents, parts=tuple(parts), assumed=tuple(assumed))


def read_prior(contents: Contents, assumptions: Assumptions) -> Opened:
    """The part prior, and beside it, in a pipeline's folder, the towers that it comes with."""
    assumed: list[str] = []
    parts: tuple[Part, ...]
    if not contents.folders:
        parts = (prior(contents, None, assumed),)
    else:
        folders = contents.folders
        parts = (
            _reader(folders, assumptions, assumed),
            prior(folders["prior"], folders.get("scheduler"), assumed),
        )
    return Opened(format=PRIOR.name, contents=contents, parts=parts, assumed=tuple(assumed))


# --- what is read ----------------------------------------------------------------------------------


def _reader(folders: Mapping[str, Contents], assumptions: Assumptions, assumed: list[str]) -> Part:
    if "image_encoder" in folders:
        for one in ("feature_extractor", "image_processor"):
            if one in folders:
                checked_pixels(folders[one].told(PIXELS), "image_mean", "image_std")
        return huggingface_clip.towers_together(
            folders["image_encoder"], folders["text_encoder"], assumptions, assumed
        )
    return huggingface_clip.text_alone(folders["text_encoder"], assumptions, assumed)


def prior(contents: Contents, scheduler: Contents | None, assumed: list[str]) -> Part:
    """The prior, by its shapes and its settings."""
    told = contents.told(SETTINGS)
    rows, width = contents.shape("positional_embedding")[-2:]
    config = PriorConfig(
        embedding=contents.shape("proj_to_clip_embeddings.weight")[0],
        text_width=contents.shape("encoder_hidden_states_proj.weight")[1],
        context=rows - 4,
        width=width,
        layers=contents.numbered("transformer_blocks."),
        heads=whole(
            told,
            "num_attention_heads",
            usual=max(1, width // HEAD_WIDTH),
            most=width,
            where=str(contents.path),
        ),
        scale=1.0,
        diffusion=_diffusion("prior", scheduler, "x0", learned=False, assumed=assumed),
        whitened=True,
        bound=_bound(scheduler, assumed),
    )
    agree(told, PLAIN | prior_settings(config), str(contents.path))
    return part("prior", Prior, config, list(prior_places(config)), contents.tensors, tried=tried_prior)


def prior_settings(config: PriorConfig) -> dict[str, Any]:
    """What theirs says of its sizes."""
    return {
        "num_attention_heads": config.heads,
        "attention_head_dim": config.width // config.heads,
        "num_layers": config.layers,
        "embedding_dim": config.text_width,
        "num_embeddings": config.context,
        "additional_embeddings": 4,
    }


def words_settings(config: DecoderConfig) -> dict[str, Any]:
    """The same of `text_proj`."""
    return {
        "clip_extra_context_tokens": config.picture_tokens,
        "clip_embeddings_dim": config.embedding,
        "time_embed_dim": config.unet.embedding_width,
        "cross_attention_dim": config.unet.context_width,
    }


def _decoder(folders: Mapping[str, Contents], assumed: list[str]) -> Part:
    drawing, words = folders["decoder"], folders["text_proj"]
    told = drawing.told(SETTINGS)
    unet = diffusers_unet.unet(drawing, told)
    embedding = words.shape("embedding_proj.weight")[1]
    if unet.context_width is None:
        raise LimnerError(f"{drawing.path} reads no text (add_k_proj), and unCLIP's decoder does")
    config = DecoderConfig(
        resolution=_pixels("decoder", told, DRAWN, assumed),
        embedding=embedding,
        picture_tokens=words.shape("clip_extra_context_tokens_proj.weight")[0] // unet.context_width,
        learned_null=True,
        text=ClipTextConfig(width=words.shape("encoder_hidden_states_proj.weight")[1], embedding=embedding),
        unet=unet,
        diffusion=_diffusion(
            "decoder",
            folders.get("decoder_scheduler"),
            "eps",
            learned=unet.out_channels == 2 * COLOURS,
            assumed=assumed,
        ),
        raw=True,
    )
    agree(words.told(SETTINGS), words_settings(config), str(words.path))
    tensors = prefixed(drawing.tensors, "decoder.") | prefixed(words.tensors, "text_proj.")
    return part("decoder", Decoder, config, list(decoder_places(config)), tensors, tried=tried_decoder)


def _upsampler(folders: Mapping[str, Contents], assumed: list[str]) -> Part:
    first, last = folders["super_res_first"], folders["super_res_last"]
    told = first.told(SETTINGS)
    unet = diffusers_unet.unet(first, told)
    if diffusers_unet.unet(last, last.told(SETTINGS)) != unet:
        raise LimnerError(f"{last.path} has other sizes than {first.path.name}, and they are to be alike")
    config = UpsamplerConfig(
        low=_pixels("decoder", folders["decoder"].told(SETTINGS), DRAWN, []),
        high=_pixels("super_res_first", told, ENLARGED, assumed),
        unet=unet,
        diffusion=_diffusion(
            "super_res", folders.get("super_res_scheduler"), "eps", learned=False, assumed=assumed
        ),
        enlarging="antialiased",
        rounded=False,
        finisher=True,
    )
    tensors = prefixed(first.tensors, "super_res_first.") | prefixed(last.tensors, "super_res_last.")
    places = list(upsampler_places(config))
    return part("upsampler", Upsampler, config, places, tensors, tried=tried_upsampler)


def _diffusion(
    name: str, scheduler: Contents | None, prediction: Prediction, *, learned: bool, assumed: list[str]
) -> DiffusionSpec:
    """What a network was trained for, by its scheduler's settings; as Karlo's where there are none."""
    told = {} if scheduler is None else scheduler.told(SCHEDULER)
    if not told:
        assumed.append(f"{name}: a cosine schedule of {STEPS} steps, {prediction} predicted, as in Karlo")
    schedule = told.get("beta_schedule", "squaredcos_cap_v2")
    if schedule != "squaredcos_cap_v2":
        raise LimnerError(f"{name}'s schedule is {schedule!r}, and unCLIP's squaredcos_cap_v2 (cosine)")
    said = told.get("prediction_type")
    if said is not None and said not in PREDICTIONS:
        raise LimnerError(f"{name} predicts {said!r}: limner knows {', '.join(PREDICTIONS)}")
    return DiffusionSpec(
        schedule="cosine",
        steps=whole(told, "num_train_timesteps", usual=STEPS, most=MOST_STEPS, where=f"{name}'s scheduler"),
        prediction=prediction if said is None else PREDICTIONS[said],
        learned_variance=learned,
    )


def _bound(scheduler: Contents | None, assumed: list[str]) -> float | None:
    """How large a number of the prior's guess may be."""
    told = {} if scheduler is None else scheduler.told(SCHEDULER)
    if not told.get("clip_sample", True):
        return None
    if "clip_sample_range" not in told:
        assumed.append(f"prior: guesses kept within ±{BOUND:g}, as in Karlo")
    bound = told.get("clip_sample_range", BOUND)
    if not isinstance(bound, int | float) or isinstance(bound, bool) or not 0 < bound < math.inf:
        raise LimnerError(f"prior's scheduler has {str(bound)[:40]} for clip_sample_range, which is no bound")
    return float(bound)


def _pixels(name: str, told: Mapping[str, Any], usual: int, assumed: list[str]) -> int:
    if told.get("sample_size") is None:
        assumed.append(f"{name}: {usual} pixels a side, as in Karlo")
    return whole(told, "sample_size", usual=usual, most=MOST_PIXELS, where=name)


def prefixed(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same under longer names."""
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


# --- where it stands -------------------------------------------------------------------------------


def prior_places(config: PriorConfig) -> Iterator[Place]:
    """Where their tensors stand in a `Prior`."""
    yield Place("positions", ("positional_embedding",), ones=1)
    yield Place("query", ("prd_embedding",), ones=2)
    yield Place("mean", ("clip_mean",), ones=1)
    yield Place("deviation", ("clip_std",), ones=1)
    for ours, theirs in (
        ("time.net.0", "time_embedding.linear_1"),
        ("time.net.2", "time_embedding.linear_2"),
        ("from_picture", "proj_in"),
        ("from_caption", "embedding_proj"),
        ("from_tokens", "encoder_hidden_states_proj"),
        ("norm", "norm_out"),
        ("to_picture", "proj_to_clip_embeddings"),
    ):
        yield from both(ours, theirs)
    for number in range(config.layers):
        ours, theirs = f"transformer.blocks.{number}", f"transformer_blocks.{number}"
        yield from both(f"{ours}.attention.qkv", *[f"{theirs}.attn1.to_{one}" for one in "qkv"])
        for mine, yours in (
            ("norm_attention", "norm1"),
            ("attention.out", "attn1.to_out.0"),
            ("norm_mlp", "norm3"),
            ("widen", "ff.net.0.proj"),
            ("narrow", "ff.net.2"),
        ):
            yield from both(f"{ours}.{mine}", f"{theirs}.{yours}")


def decoder_places(config: DecoderConfig) -> Iterator[Place]:
    """Where their tensors stand in a `Decoder`: those of its U-Net and those of `text_proj`."""
    yield from diffusers_unet.places(config.unet, "unet.", "decoder.")
    words = "text_proj."
    yield Place("null", (f"{words}learned_classifier_free_guidance_embeddings",))
    for ours, theirs in (
        ("text.pool", "embedding_proj"),
        ("to_condition", "clip_image_embeddings_project_to_time_embeddings"),
        ("text.rows.0", "encoder_hidden_states_proj"),
        ("text.rows.1", "text_encoder_hidden_states_norm"),
    ):
        yield from both(ours, f"{words}{theirs}")
    yield from picture_tokens(config, f"{words}clip_extra_context_tokens_proj")


def picture_tokens(config: DecoderConfig, theirs: str) -> Iterator[Place]:
    """The projection of z_i to tokens, whose rows they keep [number][token] and limner [token][number]."""
    assert config.unet.context_width is not None
    for end in ("weight", "bias"):
        packed = (config.unet.context_width, config.picture_tokens)
        yield Place(f"to_tokens.{end}", (f"{theirs}.{end}",), packed=packed)


def upsampler_places(config: UpsamplerConfig) -> Iterator[Place]:
    """Where those of both networks stand in an `Upsampler`."""
    yield from diffusers_unet.places(config.unet, "unet.", "super_res_first.")
    yield from diffusers_unet.places(config.unet, "finisher.", "super_res_last.")


# --- whether it runs -------------------------------------------------------------------------------


def tried_prior(network: Prior) -> dict[str, Tensor]:
    """The embedding that it imagines from nothing."""
    config = network.config
    found = network(
        torch.zeros(1, config.embedding),
        torch.tensor([500.0]),
        tokens=torch.zeros(1, 2, config.text_width),
        caption=torch.zeros(1, config.embedding),
        mask=torch.ones(1, 2, dtype=torch.bool),
    )
    return {"caption": network.embeddings(found)}


def tried_decoder(network: Decoder) -> dict[str, Tensor]:
    """The noise that it sees in a grey picture."""
    config = network.config
    assert isinstance(config.text, ClipTextConfig)
    caption = ClipTokens(
        tokens=torch.zeros(1, 2, config.text.width),
        embedding=torch.zeros(1, config.text.embedding),
        mask=torch.ones(1, 2, dtype=torch.bool),
    )
    found = network(
        torch.zeros(1, COLOURS, TRIED, TRIED),
        torch.tensor([500.0]),
        picture=torch.zeros(1, config.embedding),
        keep_picture=torch.zeros(1, dtype=torch.bool),
        caption=caption,
    )
    return {"noise": found}


def tried_upsampler(network: Upsampler) -> dict[str, Tensor]:
    """The noise that both of its networks see in a grey picture."""
    grey, low = torch.zeros(1, COLOURS, TRIED, TRIED), torch.zeros(1, COLOURS, TRIED // 4, TRIED // 4)
    steps = (500.0, 0.0) if network.config.finisher else (500.0,)
    found = [network(grey, torch.tensor([t]), low=low) for t in steps]
    return {"noise": torch.cat(found)}


FORMAT = Format("unCLIP of diffusers", fits, read)
PRIOR = Format("PriorTransformer of diffusers", fits_prior, read_prior)
