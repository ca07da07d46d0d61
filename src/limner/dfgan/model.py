"""Generator and discriminator in one round of their game."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from limner.dfgan.discriminator import Discriminator
from limner.dfgan.generator import DfGanConfig, Generator


class Scores(NamedTuple):
    """The discriminator's verdicts (B,) of one round.

    `real` pictures with their sentences; `mismatched`: the same with the sentence of a neighbour; `painted`:
    what the generator made, which it does not learn from; `admired`: the same numbers once more, which the
    generator learns from and the discriminator does not.
    """

    real: Tensor
    mismatched: Tensor
    painted: Tensor
    admired: Tensor


class DfGan(nn.Module):
    """Both networks; `forward` is what one step of training asks of them."""

    def __init__(self, config: DfGanConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)

    def forward(
        self, x: Float[Tensor, "b 3 h w"], s: Float[Tensor, "b s"], z: Float[Tensor, "b n"]
    ) -> Scores:
        """Pictures in [-1, 1], their sentences, and noise; `x` and `s` carry gradients to `real` alone.

        A mismatched pair is the features of the next picture with this one's sentence, so that no picture is
        looked at twice.
        """
        features, told = self.discriminator.features(x), s.detach()
        painted = self.generator(z, told)
        # The same weights without their gradients: each network learns from its own loss, in one pass back.
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        return Scores(
            real=self.discriminator.verdict(features, s),
            mismatched=self.discriminator.verdict(features.roll(-1, dims=0), told),
            painted=self.discriminator(painted.detach(), told),
            admired=functional_call(self.discriminator, frozen, (painted, told)),
        )


def paper() -> DfGanConfig:
    """256×256 in the published code: 9,744,131 parameters paint, 6,717,766 judge.

    The published judge has 197,376 more in three shortcuts that it never takes.
    """
    return DfGanConfig(resolution=256, width=32, noise=100, sentence=256, squashed=True)
