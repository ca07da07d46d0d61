"""The game played to the end: sixteen real drawings, each with a sentence of its own."""

from dataclasses import replace

import torch
from torch import Tensor

from limner.data.loader import open_gallery
from limner.data.sample import sample_dir
from limner.dfgan import CaptionedPictures, DfGan, DfGanConfig, adversarial_objective, noise
from limner.draws import Draws
from limner.recipes import dfgan as recipe
from limner.training import TrainConfig
from limner.training.ema import Ema
from limner.training.loop import make_optimizers

PICTURES = 16
STEPS = 700


def drawings() -> Tensor:
    gallery = open_gallery([sample_dir()], size=16)
    chosen = list(range(0, 400, 25))[:PICTURES]
    return gallery.composited(chosen, [0] * PICTURES)


def training() -> TrainConfig:
    """As the recipe trains, but faster: twice as fast for the discriminator is enough for so few."""
    config = recipe.training(steps=STEPS, batch=PICTURES, learning_rate=1e-3, ema=0.95, seed=1)
    return replace(config, rates=(("discriminator", 2.0),))


def test_the_generator_learns_which_picture_each_sentence_tells_of():
    pictures, sentences = drawings(), 4 * torch.eye(PICTURES)
    torch.manual_seed(0)
    gan = DfGan(DfGanConfig(resolution=16, width=8, noise=16, sentence=PICTURES, squashed=False))
    objective = adversarial_objective(lambda ids: sentences[ids[:, 0]])
    (optimizer,), ema = make_optimizers(gan, training()), Ema(gan, decay=training().ema)
    rounds = []
    for step in range(STEPS):
        order = torch.randperm(PICTURES, generator=torch.Generator().manual_seed(step))
        batch = CaptionedPictures(pictures[order], order[:, None])
        loss = objective(gan, batch, Draws.for_step(0, step, range(PICTURES)))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        ema.update(gan, step=step)
        rounds.append(loss)

    with torch.no_grad(), ema.applied(gan):
        painted = gan.generator(noise(Draws(range(PICTURES)), gan.config), sentences)
    apart = (painted[:, None] - pictures[None]).square().mean(dim=(2, 3, 4))
    # By chance one of sixteen would be nearest to its own.
    assert (apart.argmin(dim=1) == torch.arange(PICTURES)).sum() >= 10
    # The discriminator still tells sentences that do not belong, and hardly what was painted.
    last = rounds[-100:]

    def mean(name: str) -> float:
        return float(torch.stack([one.report[name] for one in last]).mean())

    assert rounds[0].total.item() > 1.9
    assert mean("mismatched") < -0.5 < 0.5 < mean("real")
    assert mean("painted") > -0.5
