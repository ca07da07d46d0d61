"""`limner sample`: new pictures from an autoencoder or Glow alone, on one sheet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from limner.cli.places import place, try_writing
from limner.pipelines.settings import TokenSettings, commissions

HELP = """Draw new pictures from an autoencoder or Glow, of nothing in particular.
  limner sample
  limner sample --model vqvae --count 32 --temperature 0.9 --out codes.png"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The options of `limner sample`."""

    model: Literal["vae", "vqvae", "vqvae2", "glow"] = "vqvae2"
    """Which model; dvae is not among them, whose words dalle1 draws."""
    count: Annotated[int, arg(metavar="N")] = 16
    """Pictures; the next one has the next seed."""
    seed: int = 0
    """All chance comes from it: the same seed, the same picture."""
    temperature: Annotated[float | None, arg(metavar="T", help_behavior_hint="(default: 1.0, glow 0.7)")] = (
        None
    )
    """Not vae: below 1 for likelier codes, or less noise; 0 for the likeliest."""
    out: Annotated[Path, arg(metavar="PATH")] = Path("paintings")
    """A folder, or a .png file."""
    weights: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: what ships)")] = None
    """Weights of your own: the model's folder."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes the fastest that is there."""

    def run(self) -> None:
        """Draw, save one sheet, print its path."""
        seeds = [wanted.seed for wanted in commissions("a picture", count=self.count, seed=self.seed)]
        if self.temperature is not None:
            TokenSettings(temperature=self.temperature)
            if self.model == "vae":
                raise ValueError(
                    f"temperature is {self.temperature}, but the vae has none: leave it out, "
                    "or choose vqvae, vqvae2 or glow"
                )
        where = place(self.out, files=1)
        try_writing(where.folder)

        from PIL import Image

        from limner import __version__
        from limner.draws import Draws
        from limner.pipelines import load_generator
        from limner.pipelines.generators import TEMPERATURES
        from limner.pipelines.png import contact_sheet, encode_png
        from limner.pipelines.stages import to_images

        model = load_generator(self.model, weights=self.weights, device=self.device)
        place_of = next(model.network.parameters()).device
        pictures = (
            model.sample(Draws(seeds, device=place_of), temperature=self.temperature).clamp(-1, 1).cpu()
        )
        images = [image.resize((128, 128), Image.Resampling.NEAREST) for image in to_images(pictures)]
        metadata = {
            "model": model.name,
            "weights": model.digest,
            "seed": str(self.seed),
            "count": str(self.count),
            "limner": __version__,
        }
        if self.model in TEMPERATURES:
            chosen = TEMPERATURES[self.model] if self.temperature is None else self.temperature
            metadata["temperature"] = str(chosen)
        sheet = contact_sheet(images, [f"seed {seed}" for seed in seeds])
        print(where.save(encode_png(sheet, metadata), f"{model.name}-seed{self.seed}"))
