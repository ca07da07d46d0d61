"""limner's unCLIP as diffusers keeps it, where its parts are those that Karlo has; see `diffusers_unclip`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limner.diffusion.spec import DiffusionSpec
from limner.errors import LimnerError
from limner.formats import diffusers_unet, huggingface_clip
from limner.formats.diffusers_unclip import (
    SCHEDULER,
    SETTINGS,
    decoder_places,
    prior_places,
    prior_settings,
    upsampler_places,
    words_settings,
)
from limner.formats.places import give

# Where diffusers, since it calls its unCLIP deprecated, finds this class again; "unclip", as in the published
# folder, and "diffusers", as it writes itself, it does not.
TEXT_PROJ = "diffusers.pipelines.deprecated.unclip.text_proj"


@dataclass(frozen=True, kw_only=True)
class Written:
    """One folder of a pipeline: its tensors, if it has any, and its settings under the name of their file."""

    library: str
    kind: str
    file: str
    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def written(parts: Mapping[str, tuple[Any, Mapping[str, Tensor]]]) -> dict[str, Written]:
    """The folders of an `UnCLIPPipeline` but for its tokenizer, from the config and state of limner's parts.

    `parts`: text_encoder or clip, prior, decoder and upsampler. LimnerError for what theirs cannot be: an
    unCLIP on unit embeddings, as all that limner trains, or networks with parts of limner's own.
    """
    prior, decoder, upsampler = (parts[name][0] for name in ("prior", "decoder", "upsampler"))
    if not decoder.raw or not prior.whitened:
        raise LimnerError(
            "this unCLIP takes unit embeddings, and diffusers' takes them as CLIP has them: it would be told "
            "something else there, so only what came from Karlo's kind is written for it"
        )
    if prior.text_width != prior.embedding:
        raise LimnerError(
            f"its words' tokens have {prior.text_width} numbers and its embeddings {prior.embedding}: "
            "diffusers' prior has one width for both"
        )
    if upsampler.enlarging != "antialiased" or upsampler.rounded or not upsampler.finisher:
        raise LimnerError("this upsampler is not Karlo's kind (antialiased, not rounded, with a finisher)")
    reader, tower = next(parts[name] for name in ("text_encoder", "clip") if name in parts)
    drawn = give(decoder_places(decoder), parts["decoder"][1])
    enlarged = give(upsampler_places(upsampler), parts["upsampler"][1])
    unets = {
        "decoder": diffusers_unet.settings(decoder.unet, pixels=decoder.resolution, conditional=True),
        "super_res_first": diffusers_unet.settings(upsampler.unet, pixels=upsampler.high, conditional=False),
        "super_res_last": diffusers_unet.settings(upsampler.unet, pixels=upsampler.high, conditional=False),
    }
    found = {
        name: _diffusers(settings, under(drawn | enlarged, f"{name}.")) for name, settings in unets.items()
    }
    found["text_proj"] = Written(
        library=TEXT_PROJ,
        kind="UnCLIPTextProjModel",
        file=SETTINGS,
        settings={"_class_name": "UnCLIPTextProjModel"} | words_settings(decoder),
        tensors=under(drawn, "text_proj."),
    )
    found["prior"] = _diffusers(
        {"_class_name": "PriorTransformer"} | prior_settings(prior),
        give(prior_places(prior), parts["prior"][1]),
    )
    text = {name: tensor for name, tensor in tower.items() if name.startswith("text.")}
    found["text_encoder"] = Written(
        library="transformers",
        kind="CLIPTextModelWithProjection",
        file=SETTINGS,
        settings=huggingface_clip.text_settings(reader.text, reader.embedding, reader.activation)
        | {"architectures": ["CLIPTextModelWithProjection"]},
        tensors=give(huggingface_clip.text_places(reader.text), text),
    )
    for name, network, variance in (
        ("prior", prior, "fixed_small_log"),
        ("decoder", decoder, "learned_range" if decoder.diffusion.learned_variance else "fixed_small_log"),
        ("super_res", upsampler, "fixed_small_log"),
    ):
        found[f"{name}_scheduler"] = _scheduler(
            name, network.diffusion, variance, getattr(network, "bound", 1.0)
        )
    return found


def _scheduler(name: str, spec: DiffusionSpec, variance: str, bound: float | None) -> Written:
    if spec.schedule != "cosine" or spec.prediction == "v":
        raise LimnerError(
            f"{name}'s schedule is {spec.schedule} and it predicts {spec.prediction}: theirs is cosine, and "
            "predicts eps or x0"
        )
    return Written(
        library="diffusers",
        kind="UnCLIPScheduler",
        file=SCHEDULER,
        settings={
            "_class_name": "UnCLIPScheduler",
            "num_train_timesteps": spec.steps,
            "beta_schedule": "squaredcos_cap_v2",
            "prediction_type": "sample" if spec.prediction == "x0" else "epsilon",
            "variance_type": variance,
            "clip_sample": bound is not None,
            "clip_sample_range": 1.0 if bound is None else bound,
        },
        tensors={},
    )


def _diffusers(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Written:
    return Written(
        library="diffusers",
        kind=str(settings["_class_name"]),
        file=SETTINGS,
        settings=settings,
        tensors=tensors,
    )


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
