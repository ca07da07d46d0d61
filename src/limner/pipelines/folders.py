"""Which painter the weights at a path are for, by what lies there and never by its name."""

from pathlib import Path

from limner import checkpoint
from limner.dalle2.decoder import DecoderConfig
from limner.dalle_mini import DalleMiniConfig
from limner.errors import LimnerError
from limner.formats import opened
from limner.glide import GlideConfig

# A line of limner's own, by a folder that no other has.
OWN = {
    "base": "glide",
    "base_inpaint": "glide",
    "decoder": "dalle2",
    "transformer": "dalle1",
    "dalle_mini": "dalle_mini",
    "generator": "dfgan",
}
# Somebody else's, by a network of it.
THEIRS = {GlideConfig: "glide", DecoderConfig: "dalle2", DalleMiniConfig: "dalle_mini"}


def model_of(path: Path) -> str:
    """The painter's name. LimnerError for weights that are missing or damaged, or paint nothing."""
    for part, model in OWN.items():
        if checkpoint.is_ours(path / part):
            return model
    found = opened(path)
    for network in found.parts:
        if (model := THEIRS.get(type(network.config), "")) != "":
            return model
    raise LimnerError(f"{path} is {found.format}, which paints nothing: give the weights of a painter")
