"""What painters hand to the commands: pictures with a name for their file and what it says of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from limner.cli.places import named
from limner.pipelines.settings import Commission, TokenSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from PIL import Image

    from limner.pipelines.dalle1 import Dalle1
    from limner.pipelines.dalle_mini import DalleMini
    from limner.pipelines.dfgan import DfGanStage
    from limner.pipelines.glide import GlideStage
    from limner.pipelines.stages import Ranked, Stage, TokenStage


@dataclass(frozen=True)
class Painting:
    """A picture, its place among those of its prompt (from 1), and what its file says."""

    commission: Commission
    number: int
    image: "Image.Image"
    metadata: dict[str, str]

    @property
    def name(self) -> str:
        """Its file's name, without .png."""
        return named(self.commission, self.number)

    def png(self) -> bytes:
        """Its file's bytes."""
        from limner.pipelines.png import encode_png

        return encode_png(self.image, self.metadata)


def of_tokens(
    painter: "Dalle1 | DalleMini", stages: "Iterable[TokenStage]", *, settings: TokenSettings, count: int
) -> Iterator[Painting]:
    """The pictures that CLIP thinks best of, best first, `count` of each prompt; of DALL-E mini perhaps all.

    It chooses where there are candidates to choose among, and where there are none leaves CLIP out.
    """
    from limner.pipelines.dalle_mini import DalleMini
    from limner.pipelines.stages import Developed, Ranked

    for stage in stages:
        if isinstance(stage, Ranked):
            yield from ranked(painter, stage, settings=settings, count=count)
        elif isinstance(painter, DalleMini) and settings.candidates is None and isinstance(stage, Developed):
            for place, (commission, image) in enumerate(zip(stage.commissions, stage.images(), strict=True)):
                metadata = painter.metadata(commission, settings=settings)
                yield Painting(commission, place % count + 1, image, metadata)


def ranked(
    painter: "Dalle1 | DalleMini", stage: "Ranked", *, settings: TokenSettings, count: int
) -> Iterator[Painting]:
    """The pictures of one stage, `count` of each prompt."""
    rows = zip(stage.commissions, stage.images(), stage.scores.tolist(), strict=True)
    for place, (commission, image, score) in enumerate(rows):
        metadata = painter.metadata(commission, settings=settings, score=score)
        yield Painting(commission, place % count + 1, image, metadata)


def of_size(
    stages: "Iterable[Stage | GlideStage | DfGanStage]",
    told: "Callable[[Commission], dict[str, str]]",
    *,
    size: int,
    seed: int,
) -> Iterator[Painting]:
    """The pictures of this size that DALL-E 2, GLIDE or DF-GAN made.

    The first of each prompt has the seed `seed`. `told`: what the file of a commission's picture says.
    """
    from limner.pipelines.stages import Drawn, Enlarged, EnlargedAgain

    for stage in stages:
        if isinstance(stage, Drawn | Enlarged | EnlargedAgain) and stage.pictures.shape[-1] == size:
            for commission, image in zip(stage.commissions, stage.images(), strict=True):
                yield Painting(commission, commission.seed - seed + 1, image, told(commission))
