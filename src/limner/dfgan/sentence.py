"""The published reader: a bidirectional LSTM over words, whose two last states are the sentence embedding.

It comes from AttnGAN (Xu et al. 2018), where it learned beside an image tower which sentence belongs to which
picture, and stays frozen in DF-GAN. CLIP's text tower has been taught the same and takes its place in our
recipes; this one is for weights that were published.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence


@dataclass(frozen=True, kw_only=True)
class SentenceConfig:
    """`vocabulary` in words, 0 being padding; `width` of a word (300) and `hidden` of a direction (128)."""

    vocabulary: int
    width: int
    hidden: int
    dropout: float


class SentenceReader(nn.Module):
    """Word ids → the sentence embedding, 2 × `hidden` numbers."""

    def __init__(self, config: SentenceConfig) -> None:
        super().__init__()
        self.config = config
        self.words = nn.Embedding(config.vocabulary, config.width)
        nn.init.uniform_(self.words.weight, -0.1, 0.1)
        self.drop = nn.Dropout(config.dropout)
        self.lstm = nn.LSTM(config.width, config.hidden, batch_first=True, bidirectional=True)

    def forward(self, ids: Int[Tensor, "b l"]) -> Float[Tensor, "b s"]:
        """Read word ids, padded with 0 behind; ValueError for a row without a word."""
        lengths = (ids != 0).sum(dim=1)
        if not bool(lengths.min() > 0):
            raise ValueError(f"ids: row {int(lengths.argmin())} has no word; give at least one")
        words = self.drop(self.words(ids))
        # Packed, so that the direction that reads backwards begins with the last word, not with padding.
        packed = pack_padded_sequence(words, lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (states, _) = self.lstm(packed)
        assert isinstance(states, torch.Tensor)
        return rearrange(states, "d b h -> b (d h)")


def published_reader(vocabulary: int) -> SentenceConfig:
    """27,297 words (COCO): 8,629,420 parameters; 5,450 (birds): 2,075,320."""
    return SentenceConfig(vocabulary=vocabulary, width=300, hidden=128, dropout=0.5)
