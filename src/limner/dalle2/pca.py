"""Principal components of CLIP's embeddings: most of what they say in fewer numbers, cut into buckets."""

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.clip import unit

# Of the embeddings that are fitted, such a share lies beyond the outermost buckets, half of it at either end.
BEYOND = 1e-3


class Pca(nn.Module):
    """Unit embeddings (B, d) ↔ `components` numbers ↔ as many codes below `buckets`; Ramesh et al. 2022, 2.2.

    Components come by decreasing eigenvalue. All of it is fitted, nothing learned by gradients: `fit`.
    """

    mean: Tensor
    basis: Tensor
    edges: Tensor
    kept: Tensor

    def __init__(self, *, embedding: int, components: int, buckets: int) -> None:
        super().__init__()
        if not 1 <= components <= embedding:
            raise ValueError(
                f"components is {components}: give a number from 1 to the embedding's {embedding}"
            )
        if buckets < 2:
            raise ValueError(f"buckets is {buckets}: give at least 2")
        self.components, self.buckets = components, buckets
        self.register_buffer("mean", torch.zeros(embedding))
        # All of them, so that pictures can be probed with more than a prior speaks of.
        self.register_buffer("basis", torch.eye(embedding))
        self.register_buffer("edges", torch.tensor([-1.0, 1.0]).repeat(components, 1))
        self.register_buffer("kept", torch.zeros(embedding))

    @torch.no_grad()
    def fit(self, embeddings: Float[Tensor, "n d"]) -> None:
        """Take mean, components and buckets from unit embeddings; `kept` is the share of variance that stays.

        Buckets of one component are equally wide. Raises ValueError for fewer embeddings than dimensions.
        """
        n, d = embeddings.shape
        if n <= d:
            raise ValueError(f"embeddings: {n} of {d} dimensions, which span less: give more than {d}")
        z = embeddings.double()
        mean = z.mean(dim=0)
        values, vectors = torch.linalg.eigh((z - mean).T @ (z - mean) / n)
        basis = vectors.T.flip(0)
        # An eigenvector may point either way; here its largest entry is positive.
        largest = basis.gather(1, basis.abs().argmax(dim=1, keepdim=True))
        basis = basis * largest.sign()
        y = (z - mean) @ basis[: self.components].T
        ends = torch.tensor([BEYOND / 2, 1 - BEYOND / 2], dtype=y.dtype)
        self.mean.copy_(mean)
        self.basis.copy_(basis)
        self.edges.copy_(torch.quantile(y[:: -(-n // 2**17)], ends, dim=0).T)
        self.kept.copy_(values.flip(0).clamp(min=0).cumsum(dim=0) / values.clamp(min=0).sum())

    def encode(self, embeddings: Float[Tensor, "b d"]) -> Int[Tensor, "b k"]:
        """The bucket of each component."""
        # Half precision is for networks: a bucket may be finer than it.
        with torch.autocast(embeddings.device.type, enabled=False):
            numbers = (embeddings.to(self.mean.dtype) - self.mean) @ self.basis[: self.components].T
        return self.encode_numbers(numbers)

    def encode_numbers(self, numbers: Float[Tensor, "b k"]) -> Int[Tensor, "b k"]:
        """The bucket that each component's number falls into; the outermost ones have no end."""
        low, high = self.edges.T
        return ((numbers - low) / (high - low) * self.buckets).floor().long().clamp(0, self.buckets - 1)

    def numbers(self, codes: Int[Tensor, "b k"]) -> Float[Tensor, "b k"]:
        """The middles of buckets."""
        low, high = self.edges.T
        return low + (codes + 0.5) / self.buckets * (high - low)

    def decode(self, codes: Int[Tensor, "b k"]) -> Float[Tensor, "b d"]:
        """The unit embedding in the middle of these buckets."""
        return unit(self.mean + self.numbers(codes) @ self.basis[: self.components])

    def reduced(
        self, embeddings: Float[Tensor, "b d"], dimensions: Int[Tensor, "n"]
    ) -> Float[Tensor, "n b d"]:
        """What is left of unit embeddings on the first so many components, for each of these numbers; unit.

        The paper's figure 7 paints from them what CLIP knows first and what last.
        """
        y = (embeddings - self.mean) @ self.basis.T
        keep = torch.arange(len(self.basis), device=y.device) < rearrange(dimensions, "n -> n 1")
        return unit(self.mean + (y * rearrange(keep, "n d -> n 1 d")) @ self.basis)
