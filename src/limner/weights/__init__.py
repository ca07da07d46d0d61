"""What ships: weights trained by the recipes in this repository, one folder for each model.

`weights/dalle2/` holds `clip`, `prior`, `decoder` and `upsampler`, each a checkpoint folder;
`weights/dalle1/` holds `transformer` and `dvae`, `weights/glide/` `base`, `upsampler` and `clip`,
`weights/dfgan/` `generator` and `text`.
`weights/vae/` is one, `weights/vqvae/` holds `autoencoder` and `prior`, `weights/vqvae2/` holds
`autoencoder`, `top` and `bottom`.
"""

from importlib import resources
from pathlib import Path

from limner.errors import LimnerError

# Painters: what `limner train` calls them, and what it needs besides pictures. They are left in OUT/line, all
# else in OUT/model.
PAINTERS = {
    "dalle1": ("dalle1", " --dvae DVAE"),
    "dalle2": ("line", ""),
    "dfgan": ("dfgan", " --clip CLIP"),
    "glide": ("glide", ""),
}
# What does not lie under its own name.
PLACES = {"dvae": "dalle1/dvae"}


def shipped(name: str) -> Path:
    """The folder of the weights that ship for `name`; LimnerError where this copy has none."""
    folder = Path(str(resources.files("limner.weights").joinpath(PLACES.get(name, name))))
    if not folder.is_dir():
        what, more = PAINTERS.get(name, (name, ""))
        left = "line" if name in PAINTERS else "model"
        raise LimnerError(
            f"no weights for {name} in this copy of limner: train them (limner train {what} --size small "
            f"--data DIR{more} --out OUT) and give --weights OUT/{left}"
        )
    return folder
