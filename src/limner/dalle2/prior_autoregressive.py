"""unCLIP's autoregressive prior: from a caption to the codes of a CLIP embedding, one after another."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limner.autoregression import CachedStack, ClassifierFree, Sampling, decode
from limner.dalle2.decoder import ClipTokens
from limner.dalle2.pca import Pca
from limner.draws import Draws
from limner.layers.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class AutoregressivePriorConfig:
    """`embedding`: width of CLIP's shared space. `text_width`, `context`: CLIP's text tokens.

    `components` of the embeddings' PCA are cut into `buckets` each (319 and 1024 in the paper); `dots`: into
    how many equally likely ranges the dot product of picture and caption is.
    """

    embedding: int
    text_width: int
    context: int
    components: int
    buckets: int
    dots: int
    width: int
    layers: int
    heads: int


class AutoregressivePrior(nn.Module):
    """[caption tokens, z_t, z_i·z_t, codes of z_i] → causal transformer → each next code.

    Ramesh et al. 2022, section 2.2. What the codes mean is fitted beforehand: `pca`, and `dot_edges`, the
    borders between the ranges of the dot product.
    """

    dot_edges: Tensor

    def __init__(self, config: AutoregressivePriorConfig) -> None:
        super().__init__()
        self.config = config
        self.pca = Pca(embedding=config.embedding, components=config.components, buckets=config.buckets)
        self.register_buffer("dot_edges", torch.linspace(-1, 1, config.dots + 1)[1:-1].clone())
        width = config.width
        self.from_tokens = nn.Linear(config.text_width, width)
        self.from_caption = nn.Linear(config.embedding, width)
        self.embed_dot = nn.Embedding(config.dots, width)
        self.embed_code = nn.Embedding(config.buckets, width)
        # Behind the end of a caption: a row of its own for every place, so that no mask is needed.
        self.padding = nn.Parameter(0.01 * torch.randn(config.context, width))
        self.positions = nn.Parameter(0.01 * torch.randn(config.context + 1 + config.components, width))
        self.transformer = Transformer(
            width=width, layers=config.layers, heads=config.heads, activation="gelu"
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.buckets)

    def dot_tokens(
        self, embeddings: Float[Tensor, "b d"], captions: Float[Tensor, "b d"]
    ) -> Int[Tensor, "b"]:
        """In which range z_i·z_t lies, both of them unit vectors."""
        return torch.bucketize((embeddings * captions).sum(dim=1), self.dot_edges)

    def prefix(
        self,
        dots: Int[Tensor, "b"],
        *,
        tokens: Float[Tensor, "b l w"],
        caption: Float[Tensor, "b d"],
        mask: Bool[Tensor, "b l"],
    ) -> Float[Tensor, "b n d2"]:
        """What every code is conditioned on: context + 2 rows.

        `tokens`: CLIP's text tokens, L ≤ context; `mask`: which of them are caption; `caption`: z_t, unit.
        """
        b, length = mask.shape
        padding = repeat(self.padding, "l d -> b l d", b=b)
        text = torch.where(mask[..., None], self.from_tokens(tokens).to(padding.dtype), padding[:, :length])
        # √d, so that the entries of a unit vector are of order one.
        said = self.from_caption(caption * self.config.embedding**0.5)
        rows = [text, padding[:, length:], said[:, None], self.embed_dot(dots)[:, None]]
        return torch.cat(rows, dim=1) + self.positions[: self.config.context + 2]

    def code_rows(self, codes: Int[Tensor, "b n"], *, first: int = 0) -> Float[Tensor, "b n d"]:
        """Rows of the codes that stand from place `first` on."""
        start = self.config.context + 2 + first
        return self.embed_code(codes) + self.positions[start : start + codes.shape[1]]

    def forward(
        self,
        codes: Int[Tensor, "b k"],
        dots: Int[Tensor, "b"],
        *,
        tokens: Float[Tensor, "b l w"],
        caption: Float[Tensor, "b d"],
        mask: Bool[Tensor, "b l"],
    ) -> Float[Tensor, "b k v"]:
        """Logits of every code, from those before it."""
        before = self.prefix(dots, tokens=tokens, caption=caption, mask=mask)
        h = self.transformer(torch.cat([before, self.code_rows(codes[:, :-1])], dim=1), causal=True)
        out: Tensor = self.head(self.norm(h[:, self.config.context + 1 :]))
        return out


class CodeReader:
    """The prior in the middle of its codes; captions are read with the first of them."""

    def __init__(self, prior: AutoregressivePrior, dots: Int[Tensor, "b"], read: ClipTokens) -> None:
        self.prior = prior
        self.before = prior.prefix(dots, tokens=read.tokens, caption=read.embedding, mask=read.mask)
        length = self.before.shape[1] + prior.config.components
        self.stack = CachedStack.dense(prior.transformer, batch=len(dots), length=length)
        self.past: int | None = None

    def read(self, ids: Int[Tensor, "b n"]) -> Float[Tensor, "b v"]:
        """Read n more codes; the logits of the one after them."""
        past = self.past or 0
        rows = self.prior.code_rows(ids, first=past)
        if self.past is None:
            h = self.stack.read(torch.cat([self.before, rows], dim=1))[:, -1]
        else:
            h = self.stack.step(rows[:, 0])
        self.past = past + ids.shape[1]
        out: Tensor = self.prior.head(self.prior.norm(h))
        return out


def sample(
    prior: AutoregressivePrior,
    read: ClipTokens,
    draws: Draws,
    *,
    guidance: float,
    sampling: Sampling,
    on_code: Callable[[], None] | None = None,
) -> Float[Tensor, "b d"]:
    """Unit embeddings z_i for captions; `read` holds one side or, guided, the captions, then the empty one.

    The token of the dot product is drawn from the upper half of its ranges, as in the paper: pictures that
    CLIP thinks fit. `guidance` other than 0 and 1 takes both sides.
    """
    config, rows = prior.config, len(draws)
    half = config.dots // 2
    dots = half + (draws.uniform() * (config.dots - half)).long()
    both = len(read.mask) == 2 * rows
    reader = CodeReader(prior, torch.cat([dots, dots]) if both else dots, read)
    columns = []
    for column in decode(
        ClassifierFree(reader, guidance) if both else reader,
        prefix=torch.zeros(rows, 0, dtype=torch.long, device=dots.device),
        length=config.components,
        draws=draws,
        sampling=sampling,
    ):
        columns.append(column)
        if on_code is not None:
            on_code()
    return prior.pca.decode(rearrange(columns, "k b -> b k"))


def paper() -> AutoregressivePriorConfig:
    """The paper's table 3 (319 components, 1024 buckets, 24 layers of 1664): 807,873,024 parameters."""
    return AutoregressivePriorConfig(
        embedding=1024,
        text_width=1024,
        context=256,
        components=319,
        buckets=1024,
        dots=1024,
        width=1664,
        layers=24,
        heads=26,
    )
