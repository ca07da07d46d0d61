"""`limner sample`: new pictures from an autoencoder alone, on one sheet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from limner.cli.places import place, try_writing
from limner.pipelines.settings import TokenSettings, commissions

HELP = """Draw new pictures from an autoencoder, of nothing in particular.
  limner sample
  limner sample --model vqvae --count 32 --temperature 0.9 --out codes.png"""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The options of `limner sample`."""

    model: Literal["vae", "vqvae", "vqvae2"] = "vqvae2"
    """Which autoencoder; dvae is not among them, whose words dalle1 draws."""
    count: Annotated[int, arg(metavar="N")] = 16
    """Pictures; the next one has the next seed."""
    seed: int = 0
    """All chance comes from it: the same seed, the same picture."""
    temperature: Annotated[float | None, arg(metavar="T", help_behavior_hint="(default: 1.0)")] = None
    """vqvae, vqvae2: below 1 for likelier codes, 0 for the likeliest."""
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
                    f"temperature is {self.temperature}, but the vae draws no codes: leave it out, "
                    "or choose vqvae or vqvae2"
                )
        where = place(self.out, files=1)
        try_writing(where.folder)

        from PIL import Image

        from limner import __version__
        from limner.autoregression import Sampling
        from limner.draws import Draws
        from limner.pipelines import load_generator
        from limner.pipelines.png import contact_sheet, encode_png
        from limner.pipelines.stages import to_images

        model = load_generator(self.model, weights=self.weights, device=self.device)
        sampling = None if self.temperature is None else Sampling(temperature=self.temperature)
        place_of = next(model.network.parameters()).device
        pictures = model.sample(Draws(seeds, device=place_of), sampling=sampling).clamp(-1, 1).cpu()
        images = [image.resize((128, 128), Image.Resampling.NEAREST) for image in to_images(pictures)]
        metadata = {
            "model": model.name,
            "weights": model.digest,
            "seed": str(self.seed),
            "count": str(self.count),
            "limner": __version__,
        }
        if self.model != "vae":
            metadata["temperature"] = str((sampling or Sampling()).temperature)
        sheet = contact_sheet(images, [f"seed {seed}" for seed in seeds])
        print(where.save(encode_png(sheet, metadata), f"{model.name}-seed{self.seed}"))
