"""What ships: weights trained by the recipes in this repository, one folder for each model.

`weights/dalle2/` holds `clip`, `prior`, `decoder` and `upsampler`, each a checkpoint folder.
"""

from importlib import resources
from pathlib import Path

from limner.errors import LimnerError


def shipped(name: str) -> Path:
    """The folder of the weights that ship for `name`; LimnerError where this copy has none."""
    folder = Path(str(resources.files("limner.weights").joinpath(name)))
    if not folder.is_dir():
        raise LimnerError(
            f"no weights for {name} in this copy of limner: train them "
            "(limner train line --size small --data DIR --out OUT) and give --weights OUT/line"
        )
    return folder
