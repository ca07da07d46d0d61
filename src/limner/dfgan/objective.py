"""The game: the discriminator's hinge and its penalty, and the generator's wish to be taken for real."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from limner.dfgan.generator import noise
from limner.dfgan.model import DfGan
from limner.draws import Draws
from limner.objective import Loss, Objective, unwrapped

# k and p of the matching-aware gradient penalty, equation 3.
WEIGHT = 2.0
POWER = 6.0
# The discriminator's loss where every verdict is 0: 1 for the real, a half for each kind of false.
KNOWS_NOTHING = 2.0

# Frozen reader of token ids: sentence embeddings, before `Generator.spoken`.
Reader = Callable[[Int[Tensor, "b l"]], Float[Tensor, "b s"]]


class CaptionedPictures(NamedTuple):
    """Pictures (B, 3, H, W) in [-1, 1] and the token ids (B, L) of their captions."""

    pictures: Tensor
    ids: Tensor


def hinge(scores: Float[Tensor, "b"]) -> Float[Tensor, ""]:
    """E[max(0, 1 − D)]: what real, matching pairs cost; nothing beyond a margin of 1."""
    return F.relu(1 - scores).mean()


def hinge_of_false(scores: Float[Tensor, "b"]) -> Float[Tensor, ""]:
    """E[max(0, 1 + D)]: the same of pairs that are painted, or do not match."""
    return F.relu(1 + scores).mean()


def gradient_penalty(
    scores: Float[Tensor, "b"], x: Float[Tensor, "b 3 h w"], s: Float[Tensor, "b s"]
) -> Float[Tensor, ""]:
    """MA-GP, equation 3: k E[‖∇_x D ⊕ ∇_s D‖₂^p], with k = 2 and p = 6.

    `scores` are those of real pictures with their own sentences, and of nothing else. One norm for both
    gradients together: the sum of squares, not the mean of two norms. Its own gradient reaches whatever made
    the scores of `x` and `s`, which both require gradients.
    """
    by_picture, by_sentence = torch.autograd.grad(scores.sum(), (x, s), create_graph=True)
    squares = by_picture.square().sum(dim=(1, 2, 3)) + by_sentence.square().sum(dim=1)
    # Of squares, since the root has no slope at zero, where a new discriminator may be.
    return WEIGHT * (squares ** (POWER / 2)).mean()


def adversarial_objective(read: Reader) -> Objective[CaptionedPictures]:
    """Equations 1 and 2, both at once; the value is the discriminator's, and the gradient is each one's own.

    Discriminator: hinge(real) + ½ hinge(painted) + ½ hinge(mismatched) + penalty. Generator: −E[D(G(z, s),
    s)], reported as `generator`. `real`, `painted` and `mismatched` are mean verdicts. ValueError for a batch
    of one, which has nobody to be mismatched with.
    """

    def objective(model: nn.Module, batch: CaptionedPictures, draws: Draws) -> Loss:
        gan = unwrapped(model, DfGan)
        if len(batch.pictures) < 2:
            raise ValueError(f"batch: {len(batch.pictures)} pair; give at least 2, or none can be mismatched")
        x = batch.pictures.detach().requires_grad_()
        s = gan.generator.spoken(read(batch.ids)).detach().requires_grad_()
        scores = model(x, s, noise(draws, gan.config))
        real, mismatched, painted, admired = (part.float() for part in scores)
        penalty = gradient_penalty(real, x, s)
        false = (hinge_of_false(painted) + hinge_of_false(mismatched)) / 2
        discriminator = hinge(real) + false + penalty
        generator = -admired.mean()
        report = {
            "generator": generator,
            "penalty": penalty,
            "real": real.mean(),
            "painted": painted.mean(),
            "mismatched": mismatched.mean(),
        }
        return Loss(
            total=discriminator + (generator - generator.detach()),
            report={name: value.detach() for name, value in report.items()},
            baseline=KNOWS_NOTHING,
            rivals=True,
        )

    return objective
