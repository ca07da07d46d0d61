"""A first vocabulary read off real pictures. Not in the paper, which has three million steps to find one.

Left to chance, what all places have in common decides the likeliest word, and a few words name everything.
These few are then the only ones the decoder learns, and the rest never come into use.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from limner.draws import mix
from limner.dvae.likelihood import drawn_in
from limner.dvae.model import DVae

# Places looked at; more would make the same vocabulary, slower.
PLACES = 16_384


@torch.no_grad()
def begin_with(model: DVae, pictures: Float[Tensor, "b 3 h w"], *, sharpness: float, seed: int) -> None:
    """Set the encoder's last layer so that word k names the places most like one real place, c_k.

    logit_k = −s ‖f − c_k‖²/2 up to what all words share, which a linear layer computes. The places are spread
    out by k-means++ (Arthur & Vassilvitskii 2007); s makes the logits' standard deviation over words
    `sharpness`, on average. Raises ValueError for fewer places than words.
    """
    features = rearrange(model.encoder.features(drawn_in(pictures)), "b c h w -> (b h w) c").float()
    words = model.config.vocabulary
    if len(features) < words:
        raise ValueError(f"pictures: {len(features)} places in them, too few for {words} words; give more")
    stream = torch.Generator().manual_seed(mix("begin", seed))
    chosen = torch.randperm(len(features), generator=stream)[: max(PLACES, words)]
    centred = features[chosen] - features.mean(dim=0)
    centres = spread(centred, words, stream)
    halves = centres.square().sum(dim=1) / 2
    logits = centred @ centres.T - halves
    scale = sharpness / logits.std(dim=1).mean()
    layer = model.encoder.out
    assert layer.bias is not None
    layer.weight.copy_(rearrange(scale * centres, "k c -> k c 1 1"))
    layer.bias.copy_(-scale * (halves + centres @ features.mean(dim=0)))


def spread(rows: Float[Tensor, "n d"], count: int, stream: torch.Generator) -> Float[Tensor, "k d"]:
    """`count` of the rows, each drawn with chances as its squared distance from those drawn before."""
    first = int(torch.randint(len(rows), (1,), generator=stream))
    chosen, apart = [rows[first]], (rows - rows[first]).square().sum(dim=1)
    for _ in range(count - 1):
        # Where pictures repeat themselves there may be fewer different rows than words; then any will do.
        chances = apart.cpu() if float(apart.sum()) > 0 else torch.ones(len(rows))
        row = rows[int(torch.multinomial(chances, 1, generator=stream))]
        chosen.append(row)
        apart = torch.minimum(apart, (rows - row).square().sum(dim=1))
    return torch.stack(chosen)
