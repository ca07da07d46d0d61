"""One loop for every room: objective(model, batch, draws) → loss, repeated until the picture comes.

Runs under accelerate, so the same command goes from a laptop to many GPUs; resumes bit for bit; says what it
will cost before it starts and how healthy it is while it runs.
"""

from limner.training.loop import Batches, Sampler, TrainConfig, train

__all__ = ["Batches", "Sampler", "TrainConfig", "train"]
