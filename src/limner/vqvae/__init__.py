"""VQ-VAE: a picture becomes a grid of code numbers, and the grid a picture again; a prior writes new grids.

VQ-VAE has one grid. VQ-VAE-2 has two: a small one for the whole and a finer one, quantised knowing the first,
for what the first left out. Each has an autoregressive prior over its codes, so that both also generate. The
papers' priors are convolutional, PixelCNN and PixelSNAIL; ours are transformers.
van den Oord et al. 2017, "Neural Discrete Representation Learning"; Razavi et al. 2019, "Generating Diverse
High-Fidelity Images with VQ-VAE-2".
"""

from limner.vqvae.generate import draw_codes, paint, paint_two_levels
from limner.vqvae.model import Reconstruction, VqVae, VqVaeConfig
from limner.vqvae.objective import CodesAndCondition, Pictures, prior_objective, reconstruction_objective
from limner.vqvae.prior import Above, CodePrior, CodePriorConfig, PriorReader
from limner.vqvae.two_levels import Codes, VqVae2, VqVae2Config

__all__ = [
    "Above",
    "CodePrior",
    "CodePriorConfig",
    "Codes",
    "CodesAndCondition",
    "Pictures",
    "PriorReader",
    "Reconstruction",
    "VqVae",
    "VqVae2",
    "VqVae2Config",
    "VqVaeConfig",
    "draw_codes",
    "paint",
    "paint_two_levels",
    "prior_objective",
    "reconstruction_objective",
]
