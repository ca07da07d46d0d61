"""A CLIP that reads noised pictures, for guidance while a picture is still half noise.

Paper: Nichol et al. 2021, section 2.3. It learns the diffusion's own noise levels, so it goes with networks
of the same schedule and resolution, here those of `limner train glide-base`.

    limner train noised-clip --size small --data data/emoji data/scenes --share 85 15 --out runs/small/noised
"""

from dataclasses import replace

from limner.clip import ClipConfig, TextConfig, VisionConfig
from limner.recipes import clip, glide_base
from limner.recipes.clip import ClipRecipe, run
from limner.training import TrainConfig

__all__ = ["paper", "run", "small", "toy"]


def toy() -> ClipRecipe:
    """Under a minute on two cores with the shipped sample, 32×32 pixels."""
    spec = glide_base.toy().model.diffusion
    plain = clip.toy()
    training = replace(plain.train, steps=150, warmup=20, seed=20, save_every=75, sample_every=150)
    vision = plain.model.vision
    assert isinstance(vision, VisionConfig)
    model = replace(plain.model, vision=replace(vision, times=spec.steps), thumbnail=None)
    return replace(plain, model=model, train=training, recall_weight=0.0, noise=spec)


def small() -> ClipRecipe:
    """What ships: 4 M parameters; text of CLIP's vocabulary, for it has to read nobody else's words."""
    spec = glide_base.small().model.diffusion
    model = ClipConfig(
        vision=VisionConfig(resolution=64, patch=8, width=192, layers=4, heads=4, layout=8, times=spec.steps),
        text=TextConfig(context=48, vocabulary=4096, width=192, layers=2, heads=4),
        embedding=192,
        activation="quick_gelu",
        thumbnail=None,
    )
    training = TrainConfig(
        steps=1500,
        batch=128,
        learning_rate=1e-3,
        warmup=100,
        betas=(0.9, 0.98),
        eps=1e-6,
        weight_decay=0.2,
        clip_norm=10.0,
        ema=0.998,
        precision="auto",
        seed=20,
        save_every=200,
        sample_every=10_000,
        rule="muon",
    )
    return ClipRecipe(model=model, train=training, chunk=None, recall_weight=0.0, noise=spec)


def paper() -> ClipRecipe:
    """The released CLIP-B of GLIDE on the paper's schedule: 390 000 steps of batch 32 768, decay 0.0125.

    Its keys have a bias, which moves no softmax and which the released tower does without (86,443,776
    parameters); and one activation serves both towers, where the released one has GELU for pictures alone.
    """
    spec = glide_base.paper().model.diffusion
    model = ClipConfig(
        vision=VisionConfig(resolution=64, patch=4, width=768, layers=12, heads=12, times=spec.steps),
        text=TextConfig(context=77, vocabulary=65_536, width=512, layers=12, heads=8),
        embedding=512,
        activation="gelu",
    )
    plain = clip.paper()
    training = replace(plain.train, steps=390_000, weight_decay=0.0125)
    return replace(plain, model=model, train=training, noise=spec)
