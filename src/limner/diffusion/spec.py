"""Which diffusion a network was trained for: the four choices that its sampler must share."""

from dataclasses import dataclass
from typing import Literal

from limner.diffusion.process import Prediction
from limner.diffusion.schedule import Schedule, cosine, linear


@dataclass(frozen=True, kw_only=True)
class DiffusionSpec:
    """`schedule` of `steps` noise levels; what the network predicts; whether it learns the variance too."""

    schedule: Literal["linear", "cosine"]
    steps: int
    prediction: Prediction
    learned_variance: bool

    def levels(self) -> Schedule:
        """All noise levels of training."""
        return linear(self.steps) if self.schedule == "linear" else cosine(self.steps)
