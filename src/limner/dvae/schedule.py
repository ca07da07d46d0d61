"""What changes while a dVAE trains: how hard the KL pulls, and how soft the codes still are."""

from dataclasses import dataclass

from limner.quantize import cosine_annealed


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """From `start` to `end` along half a cosine within `steps` steps, then constant: appendix A.2."""

    start: float
    end: float
    steps: int

    def __call__(self, step: int) -> float:
        """The value at a step, counted from 0."""
        return cosine_annealed(step, start=self.start, end=self.end, steps=self.steps)


# Appendix A.2 of Ramesh et al. 2021. A linear fall of the temperature "typically led to divergence".
KL_WEIGHT = Ramp(start=0.0, end=6.6, steps=5000)
TEMPERATURE = Ramp(start=1.0, end=1 / 16, steps=150_000)
LEARNING_RATE = Ramp(start=1e-4, end=1.25e-6, steps=1_200_000)
