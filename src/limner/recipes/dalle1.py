"""DALL-E 1: caption and picture as one sequence, ready to paint from.

Paper: Ramesh et al. 2021, section 2.2 and appendix B. Stands on a trained dVAE, which reads every picture as
tokens once; the words are a BPE learned from the captions. The small one writes 64×64 pixels as 16×16 tokens.

    limner train dvae --size small --data data/emoji --out runs/small/dvae
    limner train dalle1 --size small --data data/emoji data/scenes --share 8 2 \\
        --dvae runs/small/dvae/model --out runs/small/dalle1
    limner paint "a red apple" --model dalle1 --weights runs/small/dalle1/line
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from einops import rearrange
from jaxtyping import Float, Int
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from limner import checkpoint
from limner.autoregression import Sampling
from limner.dalle1 import (
    NOTHING,
    CaptionedTokens,
    Dalle1,
    Dalle1Config,
    published_order,
    sample,
    token_objective,
)
from limner.dalle1 import model as networks
from limner.dalle1.objective import TEXT_SHARE
from limner.data.loader import Gallery, open_gallery
from limner.distributed import rank
from limner.draws import Draws, mix
from limner.dvae import DVae, DVaeConfig
from limner.evaluation.likelihood import unigram
from limner.recipes.begin import begun, checked_start, same_source
from limner.recipes.codes import coded, finished
from limner.recipes.pictures import grid
from limner.recipes.words import VOCABULARY, vocabulary
from limner.text import CaptionTokenizer
from limner.training import Sampler, TrainConfig, train

# Rows whose tokens are counted; drawn as batches are.
COUNTED = 4096
SAMPLES = 24
COLUMNS = 12


@dataclass(frozen=True, kw_only=True)
class Dalle1Recipe:
    """`drop_caption`: how often a caption is all padding, so that guidance can lead away from that.

    `bpe_dropout`: how often a merge of letters is passed over; 10 % in the paper.
    """

    model: Dalle1Config
    train: TrainConfig
    drop_caption: float
    bpe_dropout: float


def toy() -> Dalle1Recipe:
    """Under a minute on two cores with the shipped sample, after the toy dVAE; 8×8 tokens of 256."""
    model = Dalle1Config(
        text_context=40,
        text_vocabulary=512,
        image_vocabulary=256,
        grid=8,
        width=96,
        heads=3,
        pattern=published_order(4),
        kernel=5,
        activation="gelu",
    )
    training = TrainConfig(
        steps=250,
        batch=32,
        learning_rate=3e-3,
        warmup=30,
        betas=(0.9, 0.96),
        eps=1e-8,
        weight_decay=0.045,
        clip_norm=1.0,
        ema=0.98,
        precision="fp32",
        seed=12,
        save_every=125,
        sample_every=250,
    )
    return Dalle1Recipe(model=model, train=training, drop_caption=0.1, bpe_dropout=0.1)


def small() -> Dalle1Recipe:
    """For a CPU: 7.9 M parameters. What ships had 1450 of its steps and 1900 from 1.2e-3 by AdamW, and then
    1600 from 1e-3 by Muon.

    Of 20 000 of our captions 3 have more than 39 tokens, and 93 where a tenth of the merges is passed over.
    """
    model = Dalle1Config(
        text_context=40,
        text_vocabulary=2048,
        image_vocabulary=1024,
        grid=16,
        width=256,
        heads=8,
        pattern=published_order(8),
        kernel=5,
        activation="gelu",
    )
    training = TrainConfig(
        steps=4000,
        batch=32,
        learning_rate=1.5e-3,
        warmup=200,
        betas=(0.9, 0.96),
        eps=1e-8,
        weight_decay=0.045,
        clip_norm=1.0,
        ema=0.998,
        precision="auto",
        seed=12,
        save_every=200,
        sample_every=1000,
        rule="muon",
    )
    return Dalle1Recipe(model=model, train=training, drop_caption=0.1, bpe_dropout=0.1)


def paper() -> Dalle1Recipe:
    """Section 2.2 and appendix B: 12,292,840,960 parameters, 430 000 steps of batch 1024.

    The loop's learning rate falls along a cosine, where the paper halves it at five plateaus; the paper's
    average moves by 0.99 every 25 steps, which is 0.99^(1/25) each; and its captions are never dropped, for
    it knows no guidance.
    """
    training = TrainConfig(
        steps=430_000,
        batch=1024,
        learning_rate=4.5e-4,
        warmup=5000,
        betas=(0.9, 0.96),
        eps=1e-8,
        weight_decay=4.5e-2,
        clip_norm=4.0,
        ema=0.99 ** (1 / 25),
        precision="bf16",
        seed=0,
        save_every=1000,
        sample_every=1000,
    )
    return Dalle1Recipe(model=networks.paper(), train=training, drop_caption=0.0, bpe_dropout=0.1)


@dataclass(frozen=True)
class TokenBatches:
    """(step, rows) → captions in words that fall apart anew every time, and kept image tokens."""

    gallery: Gallery
    codes: NDArray[np.uint16]
    tokenizer: CaptionTokenizer
    length: int
    dropout: float
    seed: int

    def __call__(self, step: int, rows: range) -> CaptionedTokens:
        """These rows of the batch at `step`."""
        drawn = self.gallery.draw(seed=self.seed, step=step, rows=rows)
        seeds = [mix("bpe dropout", self.seed, step, row) for row in rows]
        text = self.tokenizer(drawn.captions, self.length, dropout=self.dropout, seeds=seeds)
        image = torch.from_numpy(self.codes[drawn.pictures, drawn.grounds].astype(np.int64))
        return CaptionedTokens(text, image)


def run(
    recipe: Dalle1Recipe,
    *,
    folders: Sequence[Path],
    share: Sequence[float] | None,
    out: Path,
    resume: bool,
    device: str | None,
    dvae: Path,
    init_from: Path | None = None,
) -> Path:
    """Train on the tokens of the dVAE in folder `dvae`; return `out/line`, which holds both as they ship.

    Raises ValueError for a dVAE that writes other tokens than the recipe's model, or is another than the run
    that is to go on began with.
    """
    checked_start(recipe.model, init_from)
    if init_from is not None:
        CaptionTokenizer.load(init_from / VOCABULARY)  # or say now that it is not there
    painter = finished(DVae, DVaeConfig, dvae, device)
    model, seed = recipe.model, recipe.train.seed
    if (painter.config.grid, painter.config.vocabulary) != (model.grid, model.image_vocabulary):
        raise ValueError(
            f"dvae is '{dvae}': it writes {painter.config.grid}² tokens of {painter.config.vocabulary}, and "
            f"this transformer {model.grid}² of {model.image_vocabulary}; give one trained at the same --size"
        )
    same_source("dvae", dvae, out=out, resume=resume)
    place = next(painter.parameters()).device

    def encode(pictures: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b n"]:
        return rearrange(painter.tokens(pictures.to(place)), "b h w -> b (h w)")

    gallery = open_gallery(folders, size=painter.config.resolution, share=share)
    codes = coded(encode, gallery, weights=checkpoint.digest(dvae), out=out)
    tokenizer = vocabulary(
        gallery, model.text_vocabulary, seed=seed, kept=out / VOCABULARY, init_from=init_from
    )
    batches = TokenBatches(gallery, codes, tokenizer, model.caption, recipe.bpe_dropout, seed)
    torch.manual_seed(seed)
    train(
        begun(Dalle1(model), model, init_from),
        token_objective(
            drop_caption=recipe.drop_caption, baseline=unigram_loss(batches(-2, range(COUNTED)), model)
        ),
        batches,
        name="dalle1",
        model_config=model,
        config=recipe.train,
        out=out,
        resume=resume,
        sampler=paintings(batches, painter),
        device=device,
    )
    PartialState().wait_for_everyone()
    return assemble(out, tokenizer, dvae)


def unigram_loss(seen: CaptionedTokens, config: Dalle1Config) -> float:
    """The objective's value for somebody who has counted how often each token occurs, and knows no more."""
    text, image = seen.text[seen.text != NOTHING], seen.image
    in_text = -unigram(text, config.text_vocabulary)[text].mean()
    in_image = -unigram(image, config.image_vocabulary)[image].mean()
    return float(TEXT_SHARE * in_text + (1 - TEXT_SHARE) * in_image)


def assemble(out: Path, tokenizer: CaptionTokenizer, dvae: Path) -> Path:
    """Gather the finished transformer, its words and the dVAE in `out/line`, as they ship.

    In bfloat16, and the transformer compact.
    """
    line = out / "line"
    if rank() == 0:
        config, state = checkpoint.load(out / "model", Dalle1Config)
        checkpoint.save_compact(line / "transformer", state, config)
        tokenizer.save(line / "transformer" / VOCABULARY)
        dvae_config, dvae_state = checkpoint.load(dvae, DVaeConfig)
        checkpoint.save(line / "dvae", dvae_state, dvae_config, dtype=torch.bfloat16)
    return line


def paintings(batches: TokenBatches, painter: DVae) -> Sampler:
    """What the transformer paints, from the same streams and for the same captions every time."""

    def sampled(model: nn.Module) -> Image.Image:
        assert isinstance(model, Dalle1)
        place = next(model.parameters()).device
        captions = batches.gallery.draw(seed=batches.seed, step=-1, rows=range(SAMPLES)).captions
        tokens = sample(
            model,
            batches.tokenizer(captions, batches.length).to(place),
            draws=Draws.for_step(0, 0, range(SAMPLES), device=place),
            sampling=Sampling(),
            guidance=1.0,
        )
        return grid(painter.decode(tokens).cpu(), columns=COLUMNS)

    return sampled
