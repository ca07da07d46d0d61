"""unCLIP's diffusion prior: from a caption to the CLIP embedding of a picture it could belong to."""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limner.clip import unit
from limner.diffusion.analytic import analytic_variance
from limner.diffusion.schedule import Schedule
from limner.diffusion.spec import DiffusionSpec
from limner.layers.embeddings import TimeEmbedding
from limner.layers.transformer import Transformer
from limner.layers.trunk import Trunk, TrunkConfig, Whitening

# How many noise levels the prior's error is measured at.
KNOTS = 32


@dataclass(frozen=True, kw_only=True)
class PriorConfig:
    """`embedding`: width of CLIP's shared space. `text_width`, `context`: CLIP's text tokens.

    `scale`: what unit embeddings are multiplied by before noise is added, 17.2 in the paper for 1024
    dimensions (the variance of ImageNet's pixels in [-1, 1]); per dimension that is 17.2/√1024 = 0.5375.

    `whitened`: Karlo's way instead. Embeddings keep their length, and each number of a picture's is brought
    to mean 0 and deviation 1 by what the training set had, which the prior carries along. `bound`: how large
    a number of its guess may be while sampling; None for any.

    `trunk`: of matrices behind the transformer's answer, None in the paper. `sphered`: the prior speaks of
    unit embeddings brought to one variance in all directions (`Whitening`) rather than scaled; `scale` is
    then of the caption's alone.
    """

    embedding: int
    text_width: int
    context: int
    width: int
    layers: int
    heads: int
    scale: float
    diffusion: DiffusionSpec
    whitened: bool = False
    bound: float | None = None
    trunk: TrunkConfig | None = None
    sphered: bool = False


class Prior(nn.Module):
    """[caption tokens, z_t, time, noised z_i, learned query] → causal transformer → z_i at the query.

    Ramesh et al. 2022, section 2.2. The output is the clean, scaled embedding itself, not the noise. How far
    off it is at each noise level is measured after training, `errors`, and gives the `variance` of a step.
    """

    MEASURED = frozenset({"errors"})
    errors: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        self.config = config
        self.time = TimeEmbedding(width=config.width, out=config.width)
        self.from_tokens = nn.Linear(config.text_width, config.width)
        self.from_caption = nn.Linear(config.embedding, config.width)
        self.from_picture = nn.Linear(config.embedding, config.width)
        self.query = nn.Parameter(0.01 * torch.randn(config.width))
        self.positions = nn.Parameter(0.01 * torch.randn(config.context + 4, config.width))
        self.transformer = Transformer(
            width=config.width, layers=config.layers, heads=config.heads, activation="gelu"
        )
        self.norm = nn.LayerNorm(config.width)
        self.behind = None if config.trunk is None else Behind(config, config.trunk)
        answered = config.width if config.trunk is None else config.trunk.width
        self.to_picture = nn.Linear(answered, config.embedding)
        self.sphere = Whitening(config.embedding) if config.sphered else None
        self.register_buffer("errors", torch.zeros(KNOTS))
        if config.whitened:
            self.register_buffer("mean", torch.zeros(config.embedding))
            self.register_buffer("deviation", torch.ones(config.embedding))

    def embeddings(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """CLIP's embeddings of which `x` is what the prior speaks of: unit, or in their own length.

        Of scaled ones only the direction counts.
        """
        if self.sphere is not None:
            return unit(self.sphere.inverse(x))
        return x * self.deviation + self.mean if self.config.whitened else unit(x)

    def spoken(self, embeddings: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """What this prior makes of unit embeddings before it noises them: `embeddings` backwards."""
        if self.config.whitened:
            raise ValueError("whitened is True: priors are trained here on unit embeddings, so leave it out")
        return embeddings * self.config.scale if self.sphere is None else self.sphere(embeddings)

    def times(self) -> list[float]:
        """The times of `errors`, from the cleanest level to the noisiest."""
        return [float(t) for t in np.linspace(0, self.config.diffusion.steps - 1, KNOTS)]

    def variance(self, levels: Schedule) -> Float[Tensor, "steps"]:
        """The analytic variance of the step down from each of `levels`, which the paper samples with.

        It is DDPM's β̃ where nobody has measured `errors`.
        """
        found = np.interp(levels.t.numpy(), self.times(), self.errors.float().cpu().numpy())
        return analytic_variance(levels, torch.from_numpy(found))

    def forward(
        self,
        x: Float[Tensor, "b d"],
        t: Float[Tensor, "b"],
        *,
        tokens: Float[Tensor, "b l w"],
        caption: Float[Tensor, "b d"],
        mask: Bool[Tensor, "b l"],
    ) -> Float[Tensor, "b d"]:
        """Predict the scaled picture embedding from its noised version `x`.

        `tokens`: CLIP's text tokens, L ≤ context; `mask`: which of them are caption rather than padding;
        `caption`: CLIP's text embedding, unit unless the prior is whitened.
        """
        b, length = mask.shape
        sequence = torch.cat(
            [
                self.from_tokens(tokens),
                rearrange(self.from_caption(caption * self.config.scale), "b d -> b 1 d"),
                rearrange(self.time(t), "b d -> b 1 d"),
                rearrange(self.from_picture(x), "b d -> b 1 d"),
                repeat(self.query, "d -> b 1 d", b=b).to(x.dtype),
            ],
            dim=1,
        )
        # A caption shorter than the context keeps its own positions; the four last are always the same.
        positions = torch.cat([self.positions[:length], self.positions[-4:]])
        visible = torch.cat([mask, mask.new_ones(b, 4)], dim=1)
        h = self.transformer(sequence + positions, causal=True, key_mask=visible)
        answer = self.norm(h[:, -1])
        if self.behind is not None:
            answer = self.behind(answer, x, t, caption)
        out: Tensor = self.to_picture(answer)
        return out


class ByHeart(nn.Module):
    """A prior without its transformer: (noised z_i, t, z_t) → z_i, by the trunk alone.

    A step of it costs a fraction of the whole prior's, for captions can be read once and kept. What it learns
    is the prior's, which begins its own training knowing things by heart.
    """

    def __init__(self, prior: Prior) -> None:
        super().__init__()
        if prior.behind is None:
            raise ValueError("prior: it has no trunk, and so knows nothing by heart; give its config one")
        self.behind, self.to_picture = prior.behind, prior.to_picture
        # The transformer, which says nothing sensible yet, begins by saying nothing.
        nn.init.zeros_(self.behind.from_answer.weight)
        self.behind.from_answer.requires_grad_(requires_grad=False)
        self.answers = prior.config.width

    def forward(
        self, x: Float[Tensor, "b d"], t: Float[Tensor, "b"], caption: Float[Tensor, "b d"]
    ) -> Float[Tensor, "b d"]:
        """Predict what the prior speaks of from its noised version."""
        out: Tensor = self.to_picture(self.behind(x.new_zeros(len(x), self.answers), x, t, caption))
        return out


class Behind(nn.Module):
    """(the transformer's answer, noised z_i, t, z_t) → a trunk's: what is to be known by heart.

    The transformer understands captions, at the price of every parameter times every token. Which embedding
    a thing has that it has understood is a matter of memory, and that is cheap behind the query.
    """

    def __init__(self, config: PriorConfig, trunk: TrunkConfig) -> None:
        super().__init__()
        self.said = Whitening(config.embedding)
        self.time = TimeEmbedding(width=config.width, out=trunk.width)
        self.from_answer = nn.Linear(config.width, trunk.width)
        self.from_picture = nn.Linear(config.embedding, trunk.width)
        self.from_caption = nn.Linear(config.embedding, trunk.width)
        self.trunk = Trunk(trunk)

    def forward(
        self,
        answer: Float[Tensor, "b w"],
        x: Float[Tensor, "b d"],
        t: Float[Tensor, "b"],
        caption: Float[Tensor, "b d"],
    ) -> Float[Tensor, "b v"]:
        """All of it together, refined."""
        out: Tensor = self.trunk(
            self.from_answer(answer)
            + self.from_picture(x)
            + self.from_caption(self.said(caption))
            + self.time(t)
        )
        return out


def paper() -> PriorConfig:
    """The paper's table 3 (24 layers of width 2048) on a 1024-wide CLIP: 1,225,925,632 parameters."""
    return PriorConfig(
        embedding=1024,
        text_width=1024,
        context=256,
        width=2048,
        layers=24,
        heads=32,
        scale=17.2,
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
    )


def karlo() -> PriorConfig:
    """Karlo's prior on CLIP ViT-L/14 (Kakao Brain 2022): 1,022,028,544 parameters."""
    return PriorConfig(
        embedding=768,
        text_width=768,
        context=77,
        width=2048,
        layers=20,
        heads=32,
        scale=1.0,
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
        whitened=True,
        bound=10.0,
    )
