"""Token by token: what every model that writes pictures as sequences of codes shares.

- `sampling`: logits to a token, by temperature, top-k and top-p, one random stream for each row;
- `cache`: the keys and values of what was read, in memory reserved once;
- `stack`: a transformer that reads on from there, many rows at a time or one, as fast as PyTorch allows;
- `decode`: the loop itself, with classifier-free guidance and a forced beginning.

It knows no system: a token model is anything that reads tokens and answers with logits (`decode.Reader`).
"""

from limner.autoregression.cache import Cache, DenseCache
from limner.autoregression.decode import ClassifierFree, Reader, decode
from limner.autoregression.sampling import Sampling, choose, shares
from limner.autoregression.stack import CachedStack, product

__all__ = [
    "Cache",
    "CachedStack",
    "ClassifierFree",
    "DenseCache",
    "Reader",
    "Sampling",
    "choose",
    "decode",
    "product",
    "shares",
]
