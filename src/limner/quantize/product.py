"""Several small codebooks side by side, chosen by logits: wav2vec 2.0's quantizer.

Baevski et al. 2020, "wav2vec 2.0", section 2, and the code released with it. G groups of V entries name V^G
vectors with G · V entries stored.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.distributed import gathered
from limner.draws import Draws
from limner.quantize.gumbel import gumbel_softmax
from limner.quantize.result import Quantized, Usage, everywhere


@dataclass(frozen=True, kw_only=True)
class ProductConfig:
    """`width`: of what comes in. `groups` G of `entries` V each; `code_width` d, of which each gives d / G.

    `out`: width after the output projection; None leaves the projection out. `shared`: one codebook that all
    groups choose from.
    """

    width: int
    groups: int
    entries: int
    code_width: int
    out: int | None
    shared: bool

    def __post_init__(self) -> None:
        if self.code_width % self.groups:
            raise ValueError(f"code_width: {self.code_width} is not a multiple of the {self.groups} groups")


def base() -> ProductConfig:
    """wav2vec 2.0 BASE: 102 400 vectors; 410,240 parameters and the output projection's."""
    return ProductConfig(width=512, groups=2, entries=320, code_width=256, out=256, shared=False)


def large() -> ProductConfig:
    """wav2vec 2.0 LARGE: 574,080 parameters and the output projection's."""
    return ProductConfig(width=512, groups=2, entries=320, code_width=768, out=768, shared=False)


class ProductQuantizer(nn.Module):
    """One entry from each group, side by side, then projected.

    Training draws entries by straight-through Gumbel-softmax; evaluation takes the likeliest, without noise.
    The loss is the diversity loss (`diversity_loss`), a number between 0 and 1 with weight 1 here; wav2vec
    2.0 weighs it 0.1.
    """

    def __init__(self, config: ProductConfig) -> None:
        super().__init__()
        self.config = config
        self.logits = nn.Linear(config.width, config.groups * config.entries)
        nn.init.normal_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)
        books = 1 if config.shared else config.groups
        self.codes = nn.Parameter(torch.rand(books, config.entries, config.code_width // config.groups))
        self.out = None if config.out is None else nn.Linear(config.code_width, config.out)

    def forward(
        self,
        z: Float[Tensor, "b *n d"],
        *,
        temperature: float | None = None,
        draws: Draws | None = None,
    ) -> Quantized:
        """Choose entries; ids are (B, ..., G). Training needs `temperature` and `draws`.

        In training the ids are those drawn, noise and all; the usage counts the likeliest in either case.
        """
        logits = rearrange(self.logits(z), "b ... (g v) -> b ... g v", g=self.config.groups).float()
        likeliest = logits.argmax(dim=-1)
        usage = _usage(likeliest, self.config.entries)
        if self.training:
            if temperature is None or draws is None:
                raise ValueError("temperature, draws: training needs both")
            noise = draws.gumbel(*logits.shape[1:]).to(logits.device)
            chosen = gumbel_softmax(logits, noise, temperature=temperature, hard=True)
            ids, usage = chosen.argmax(dim=-1), everywhere(usage)
        else:
            chosen, ids = F.one_hot(likeliest, self.config.entries).to(logits.dtype), likeliest
        vectors = self._joined(torch.einsum("...gv,gvd->...gd", chosen, self._books())).to(z.dtype)
        return Quantized(
            vectors=vectors, ids=ids, loss=diversity_loss(logits, together=self.training), usage=usage
        )

    def vectors(self, ids: Int[Tensor, "*b g"]) -> Float[Tensor, "*b d"]:
        """The vectors with these numbers, one of each group."""
        chosen = F.one_hot(ids, self.config.entries).to(self.codes.dtype)
        return self._joined(torch.einsum("...gv,gvd->...gd", chosen, self._books()))

    def _books(self) -> Float[Tensor, "g v d"]:
        """A codebook for each group, though it may be one and the same."""
        return self.codes.expand(self.config.groups, -1, -1)

    def _joined(self, entries: Float[Tensor, "*b g e"]) -> Float[Tensor, "*b d"]:
        """Entries side by side, projected."""
        vectors = rearrange(entries, "... g e -> ... (g e)")
        return vectors if self.out is None else self.out(vectors)


def diversity_loss(logits: Float[Tensor, "b *n g v"], *, together: bool = False) -> Float[Tensor, ""]:
    """(GV - Σ_g exp H(p̄_g)) / GV: 0 where every group uses its entries alike, near 1 where each uses one.

    p̄ is the mean over positions of the clean softmax, without Gumbel noise and without temperature.
    `together`: over the batch of all processes, which all must ask. The paper prints Σ p̄ ln p̄ / GV, which
    has the same minimum; this is what its code computes.
    """
    groups, entries = logits.shape[-2:]
    mean = reduce(logits.float().softmax(dim=-1), "b ... g v -> 1 g v", "mean")
    if together:
        mean = gathered(mean)
    entropy = torch.special.entr(mean.mean(dim=0)).sum(dim=-1)
    return (groups * entries - entropy.exp().sum()) / (groups * entries)


def joint_ids(ids: Int[Tensor, "*b g"], entries: int) -> Int[Tensor, "*b"]:
    """One number for each combination: i₀ V^(G-1) + … + i_(G-1)."""
    groups = ids.shape[-1]
    places = torch.tensor([entries ** (groups - 1 - g) for g in range(groups)], device=ids.device)
    return (ids * places).sum(dim=-1)


def _usage(ids: Int[Tensor, "b *n g"], entries: int) -> Usage:
    """Count each group's choices."""
    chosen = rearrange(ids, "b ... g -> g (b ...)")
    return Usage(torch.stack([torch.bincount(group, minlength=entries) for group in chosen]))
