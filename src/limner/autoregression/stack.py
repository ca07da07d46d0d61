"""A transformer that remembers what it has read: many rows in one pass, then one at a time."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from limner.autoregression.cache import Cache, DenseCache
from limner.layers.transformer import Block, Transformer


class Weights(NamedTuple):
    """A block's tensors, taken out of their modules: looking them up anew for each token costs as much as
    adding two rows."""

    norm_attention: tuple[Tensor, Tensor]
    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    norm_mlp: tuple[Tensor, Tensor]
    widen: tuple[Tensor, Tensor]
    narrow: tuple[Tensor, Tensor]


def weights(block: Block) -> Weights:
    """The tensors of a block, each weight with its bias."""
    attention = block.attention
    parts = (block.norm_attention, attention.qkv, attention.out, block.norm_mlp, block.widen, block.narrow)
    return Weights(*((part.weight, part.bias) for part in parts))


def product(x: Float[Tensor, "b i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, "o"]) -> Tensor:
    """What `F.linear` says, at the speed of memory.

    For a single row in bfloat16 a CPU rearranges the whole matrix before each product with `F.linear`, which
    takes as long as reading it; as the product with a vector it is only read.
    """
    if len(x) == 1 and x.dtype == torch.bfloat16 and x.device.type == "cpu":
        return torch.addmv(bias, weight, x[0])[None]
    return F.linear(x, weight, bias)


class CachedStack:
    """The blocks of a `Transformer`, in the middle of a sequence.

    `caches`: one for each block, all empty; they decide who sees whom. The weights are the transformer's own,
    not copies. What it answers equals what the whole sequence in one pass would, up to rounding.
    """

    def __init__(self, transformer: Transformer, caches: Sequence[Cache]) -> None:
        self.blocks = [block for block in transformer.blocks if isinstance(block, Block)]
        if len(caches) != len(self.blocks):
            raise ValueError(f"caches: {len(caches)} for {len(self.blocks)} blocks")
        self.caches = caches
        self._layers = [
            (weights(block), cache, block.activation, block.norm_mlp.normalized_shape, block.norm_mlp.eps)
            for block, cache in zip(self.blocks, caches, strict=True)
        ]

    @classmethod
    def dense(cls, transformer: Transformer, *, batch: int, length: int) -> "CachedStack":
        """With every row seeing all before it, and room for `length` rows."""
        caches = []
        for block in transformer.blocks:
            assert isinstance(block, Block)
            like, heads = block.attention.qkv.weight, block.attention.heads
            size = like.shape[1] // heads
            caches.append(
                DenseCache(
                    batch=batch, heads=heads, length=length, size=size, dtype=like.dtype, device=like.device
                )
            )
        return cls(transformer, caches)

    def read(self, x: Float[Tensor, "b n w"]) -> Float[Tensor, "b n w"]:
        """Read n more rows in one pass."""
        for block, cache in zip(self.blocks, self.caches, strict=True):
            x = block(x, attend=cache.attend)
        return x

    def step(self, x: Float[Tensor, "b w"]) -> Float[Tensor, "b w"]:
        """Read one more row. The arithmetic of `Block`, in as few calls as PyTorch can be asked with."""
        for w, cache, activation, shape, eps in self._layers:
            h = F.layer_norm(x, shape, *w.norm_attention, eps)
            x = x + product(cache.step(product(h, *w.qkv)), *w.out)
            h = F.layer_norm(x, shape, *w.norm_mlp, eps)
            x = x + product(activation(product(h, *w.widen)), *w.narrow)
        return x
