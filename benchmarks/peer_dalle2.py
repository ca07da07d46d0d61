"""DALL-E 2 by DALLE2-pytorch: limner's pictures, captions, CLIP, minutes, questions and judge.

    pip install --no-deps dalle2-pytorch==1.15.6 ema-pytorch pytorch-warmup resize-right x-clip coca-pytorch
    pip install --no-deps kornia kornia-rs            # and requirements-parity.txt
    python benchmarks/peer_dalle2.py prior --out runs/peer --minutes 30
    python benchmarks/peer_dalle2.py decoder --out runs/peer --minutes 120
    python benchmarks/peer_dalle2.py paint --out runs/peer
    python benchmarks/peer_dalle2.py score --out runs/peer --judge runs/judge

Minutes are of processor time, all threads together; what was spent is kept with the weights. Each command
goes on where it was stopped, and a larger number of minutes trains further. `score` prints the table that
`limner evaluate --suite emoji600` prints.

What DALLE2-pytorch's README shows, and its code has by default, is done so: its two trainers (AdamW, learning
rate 3e-4, weight decay 0.01, betas 0.9 and 0.99; weights averaged by 0.99 every ten steps after the first
1000), a prior of 6 layers with 8 heads of 64 that drops 20 % of captions and says the embedding itself in 100
steps, a U-Net of 1, 2, 4 and 8 times 32 channels with conditions of 128 numbers, 1000 steps, that says noise
and its variance, embeddings dropped 10 % and captions 50 % of the time, batches of 32 pictures. To paint, the
likelier by CLIP of two embeddings is taken, and the decoder guided by 2.

What had to be chosen:

- CLIP is limner's, through the peer's `BaseClipAdapter`, so that neither has a better one. The peer's prior
  takes captions' tokens only as wide as embeddings: limner's narrower ones get zeros, which loses nothing.
- 32 tokens of a caption rather than 256: the peer fills up what is shorter and pays for it. Of captions 99
  in 100 are no longer, and no prompt is.
- Width of the U-Net: 32, as in the README's cascade; its 128 elsewhere are for another machine. 64 pixels.
  The decoder is told captions (`cond_on_text_encodings`), for prompts ask for what embeddings may lack.
- Batches of 64 for the prior; the README's 512 would leave few steps.
- bfloat16 by accelerate, as its trainers have it: the U-Net learns 1.7 times as fast as in float32.
- Painting takes 25 of the decoder's 1000 steps, by its DDIM, and all of the prior's 100.

torchvision is imported by the peer and not used by what is done here, so an empty module stands for it.
"""

import importlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from accelerate import Accelerator
from einops import rearrange
from PIL import Image
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor, nn

from limner import checkpoint
from limner.clip import Clip
from limner.dalle2.objective import PicturesAndCaptions, clip_reader
from limner.data.loader import open_gallery
from limner.draws import mix
from limner.evaluation import suite
from limner.evaluation.emoji600 import requests
from limner.evaluation.suite_scores import measured
from limner.evaluation.suite_table import sheet, text
from limner.evaluation.table import replaced
from limner.pipelines.progress import Tick
from limner.recipes.decoder import PictureBatches
from limner.recipes.embeddings import Told, embedded, load_clip
from limner.recipes.prior import tokenizer_of
from limner.text import ClipTokenizer
from limner.weights import shipped

os.environ.setdefault("TQDM_DISABLE", "1")  # its samplers draw a bar for every batch
for absent in ("torchvision", "torchvision.transforms"):
    sys.modules.setdefault(absent, ModuleType(absent))
peer: Any = importlib.import_module("dalle2_pytorch")
adapters: Any = importlib.import_module("dalle2_pytorch.dalle2_pytorch")

SIDE = 64
TOKENS = 32
# Processor seconds between what is kept, and what is told.
KEPT_EVERY, TOLD_EVERY = 120, 30
PICTURES = "pictures"
PAINTER = "painter.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """What all stages ask for."""

    out: Path
    """Where weights, pictures and table go."""
    clip: Path = field(default_factory=lambda: shipped("dalle2") / "clip")
    """limner's CLIP, a folder of weights."""
    seed: int = 0
    """Of batches, noise and paintings."""


@dataclass(frozen=True, kw_only=True)
class Training(Run):
    """What both networks are trained with."""

    minutes: float
    """Processor time to spend, all threads, with what was spent before."""
    data: tuple[Path, ...] = (Path("data/emoji"), Path("data/scenes"))
    """Folders of captioned pictures."""
    share: tuple[float, ...] = (7, 3)
    """How much of every batch each folder gets."""
    compile: bool = False
    """Have PyTorch compile the network, as `limner train --compile` does; what that takes is counted."""


@dataclass(frozen=True, kw_only=True)
class Prior(Training):
    """Train the peer's prior on limner's embeddings."""

    batch: int = 64
    """Pictures of a step."""


@dataclass(frozen=True, kw_only=True)
class Decoder(Training):
    """Train the peer's decoder."""

    batch: int = 32
    """Pictures of a step."""


@dataclass(frozen=True, kw_only=True)
class Paint(Run):
    """Paint the prompts, one PNG each; those that are there stay."""

    steps: int = 25
    """Of the decoder, by DDIM."""
    scale: float = 2.0
    """Guidance of the decoder."""
    chunk: int = 20
    """Prompts painted at once; another number gives other pictures."""
    prompts: int = 600
    """How many of the list, from its beginning, of which the first 200 are names in a trained style."""


@dataclass(frozen=True, kw_only=True)
class Score(Run):
    """Have what was painted judged, and print the table."""

    judge: Path
    """A recogniser's run."""
    data: Path = Path("data/emoji")
    """The painters' emoji folder."""
    prompts: int = 600
    """As many as were painted."""


# The peer has no types, so mypy takes its class for Any.
class LimnerClip(adapters.BaseClipAdapter):  # type: ignore[misc]
    """limner's CLIP as the peer asks for one; pictures are not read here, their embeddings are known."""

    image_channels = 3

    @property
    def dim_latent(self) -> int:
        """Numbers of an embedding."""
        return int(self.clip.config.embedding)

    def embed_text(self, ids: Tensor) -> Any:
        """Token ids → unit embeddings, and tokens as wide as these, zero where there is no caption."""
        tokens, embedding, mask = clip_reader(self.clip)(ids)
        tokens = tokens.float().masked_fill(~rearrange(mask, "b l -> b l 1"), 0.0)
        return adapters.EmbeddedText(embedding, F.pad(tokens, (0, self.dim_latent - tokens.shape[-1])))


def make_prior(clip: Clip) -> Any:
    """The peer's prior, 7 M parameters."""
    network = peer.DiffusionPriorNetwork(
        dim=clip.config.embedding, depth=6, dim_head=64, heads=8, max_text_len=TOKENS
    )
    return peer.DiffusionPrior(net=network, clip=LimnerClip(clip), timesteps=100, cond_drop_prob=0.2)


def make_decoder(clip: Clip, steps: int | None = None) -> Any:
    """The peer's decoder, 16 M parameters; `steps` to sample in, by DDIM."""
    unet = peer.Unet(
        dim=32,
        image_embed_dim=clip.config.embedding,
        text_embed_dim=clip.config.embedding,
        cond_dim=128,
        channels=3,
        dim_mults=(1, 2, 4, 8),
        cond_on_text_encodings=True,
        max_text_len=TOKENS,
    )
    return peer.Decoder(
        unet=unet,
        clip=LimnerClip(clip),
        image_size=SIDE,
        timesteps=1000,
        sample_timesteps=steps,
        image_cond_drop_prob=0.1,
        text_cond_drop_prob=0.5,
    )


def trainer(kind: Any, network: Any) -> Any:
    """One of the peer's trainers, with the numbers of its README."""
    return kind(
        network,
        accelerator=Accelerator(mixed_precision="bf16", cpu=True),
        lr=3e-4,
        wd=1e-2,
        ema_beta=0.99,
        ema_update_after_step=1000,
        ema_update_every=10,
    )


def prior_trainer(clip: Clip) -> Any:
    """Of a new prior."""
    return trainer(peer.DiffusionPriorTrainer, make_prior(clip))


def decoder_trainer(clip: Clip, steps: int | None = None) -> Any:
    """Of a new decoder."""
    return trainer(peer.DecoderTrainer, make_decoder(clip, steps))


def restored(trained: Any, file: Path) -> tuple[int, float]:
    """Give a trainer what a file keeps; the steps that were taken, and the seconds they took."""
    # Whole objects, for the prior's trainer keeps its version as one.
    state = torch.load(file, weights_only=False)
    # The decoder's `load` takes nothing but a file that has none.
    (trained.load if isinstance(trained, peer.DiffusionPriorTrainer) else trained.load_state_dict)(state)
    return state["taken"], state["seconds"]


def batches_of(asked: Training, clip: Clip) -> PictureBatches:
    """Pictures, embeddings and captions as limner draws them; embeddings are read once."""
    gallery = open_gallery(asked.data, size=SIDE, share=asked.share)
    kept = embedded(clip, gallery, weights=checkpoint.digest(asked.clip), out=asked.out / "embeddings")
    return PictureBatches(gallery, Told(kept), tokenizer_of(clip), clip.config.text.context, asked.seed)


def prior_loss(trained: Any, batch: PicturesAndCaptions) -> float:
    """One batch forward and back."""
    # The peer scales embeddings in place.
    return float(trained(text=batch.ids, image_embed=batch.embeddings.clone()))


def decoder_loss(trained: Any, batch: PicturesAndCaptions) -> float:
    """One batch forward and back; the peer's pictures are in [0, 1]."""
    return float(trained((batch.pictures + 1) / 2, text=batch.ids, image_embed=batch.embeddings))


def train(
    asked: Prior | Decoder,
    trained: Any,
    file: Path,
    batches: Callable[[int, range], PicturesAndCaptions],
    loss: Callable[[Any, PicturesAndCaptions], float],
) -> None:
    """Go on from what `file` keeps until the minutes are spent; keep it there now and then and at the end."""
    step, before = restored(trained, file) if file.exists() else (0, 0.0)
    began, losses = time.process_time(), list[float]()
    spent = kept = told = before
    while spent < 60 * asked.minutes:
        # The peer draws from PyTorch's own numbers: so a resumed run sees what an unbroken one does.
        torch.manual_seed(mix(file.stem, asked.seed, step))
        losses.append(loss(trained, batches(step, range(asked.batch))))
        trained.update()
        step += 1
        spent = before + time.process_time() - began
        if spent - told > TOLD_EVERY:
            rate = len(losses) * asked.batch / (spent - told)
            mean = sum(losses) / len(losses)
            print(f"{spent / 60:.1f} min, step {step}: loss {mean:.4f}, {rate:.1f} pictures/s", flush=True)
            told, losses = spent, []
        if spent - kept > KEPT_EVERY or spent >= 60 * asked.minutes:
            keep(trained, file, taken=step, seconds=spent)
            kept = spent


def keep(trained: Any, file: Path, **beside: float) -> None:
    """Write a trainer whole or not at all."""
    part = file.with_name(f".{file.name}.part")
    trained.save(part, **beside)
    part.replace(file)


def parameters(network: nn.Module) -> str:
    """In millions, without CLIP's."""
    return f"{sum(p.numel() for p in network.parameters() if p.requires_grad) / 1e6:.1f} M parameters"


@dataclass(frozen=True)
class Painter:
    """The averaged prior and decoder; `of` says what they are."""

    prior: Any
    decoder: Any
    tokenizer: ClipTokenizer
    context: int
    of: str

    @classmethod
    def load(cls, asked: Paint) -> "Painter":
        """What `prior` and `decoder` left in `out`."""
        clip = load_clip(asked.clip, "cpu")
        prior, decoder = prior_trainer(clip), decoder_trainer(clip, asked.steps)
        said = []
        for name, trained, network in (
            ("prior", prior, prior.diffusion_prior.net),
            ("decoder", decoder, decoder.decoder.unets),
        ):
            taken, seconds = restored(trained, asked.out / f"{name}.pt")
            said.append(f"{name} of {parameters(network)}, {taken} steps in {seconds / 60:.0f} min")
        of = (
            f"DALLE2-pytorch {peer.__version__}, {'; '.join(said)} of processor time; {SIDE} pixels, "
            f"{asked.steps} steps, guidance {asked.scale:g}, bf16"
        )
        context = clip.config.text.context
        return cls(prior.ema_diffusion_prior.ema_model, decoder, tokenizer_of(clip), context, of)

    @torch.inference_mode()
    def paint(self, prompts: Sequence[str], *, scale: float, seed: int) -> Iterator[Image.Image]:
        """One picture of each."""
        torch.manual_seed(seed)
        ids = self.tokenizer(prompts, self.context)
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = self.prior.sample(ids, num_samples_per_batch=2)
            pictures = self.decoder.sample(image_embed=embeddings, text=ids, cond_scale=scale)
        for picture in (255 * pictures.float().clamp(0, 1)).round().to(torch.uint8):
            yield Image.fromarray(rearrange(picture, "c h w -> h w c").numpy())


def paint(asked: Paint) -> None:
    """All that is not painted yet, chunk by chunk."""
    painter = Painter.load(asked)
    said = json.dumps({"of": painter.of, "chunk": asked.chunk, "seed": asked.seed}) + "\n"
    folder = asked.out / PICTURES
    if (folder / PAINTER).exists() and (folder / PAINTER).read_text() != said:
        raise SystemExit(f"{folder} has pictures of {(folder / PAINTER).read_text()}move them away first")
    replaced(folder / PAINTER, said.encode())
    prompts = [one.prompt for one in requests()[: asked.prompts]]
    files = [folder / f"{number:03d}.png" for number in range(len(prompts))]
    for start in range(0, len(prompts), asked.chunk):
        chunk = slice(start, start + asked.chunk)
        if all(file.exists() for file in files[chunk]):
            continue
        began = time.process_time()
        seed = mix("peer", asked.seed, start)
        for file, picture in zip(
            files[chunk], painter.paint(prompts[chunk], scale=asked.scale, seed=seed), strict=True
        ):
            packed = io.BytesIO()
            picture.save(packed, format="PNG")
            replaced(file, packed.getvalue())
        each = (time.process_time() - began) / len(files[chunk])
        print(f"{min(start + asked.chunk, len(prompts))} painted, {each:.2f} s each", flush=True)


def score(asked: Score) -> None:
    """The table of what was painted, as limner's own; also the marks and a sheet."""
    folder, listed = asked.out / PICTURES, requests()[: asked.prompts]

    def painted(prompts: Sequence[str], _: Callable[[Tick], None]) -> list[Image.Image]:
        return [Image.open(folder / f"{number:03d}.png").convert("RGB") for number in range(len(prompts))]

    of = json.loads((folder / PAINTER).read_text())["of"]
    scores, shown = measured(listed, painted, asked.data, asked.judge, seed=asked.seed, device="cpu")
    said = text(scores, of)
    Console().print(Markdown(said))
    replaced(asked.out / f"{suite.NAME}.json", suite.described(listed, scores, shown, of).encode())
    packed = io.BytesIO()
    sheet(listed, shown).save(packed, format="PNG", optimize=True)
    replaced(asked.out / f"{suite.NAME}_sheet.png", packed.getvalue())
    replaced(asked.out / f"{suite.NAME}.md", said.encode())


def main(asked: Prior | Decoder | Paint | Score) -> None:
    """One stage."""
    if isinstance(asked, Paint):
        paint(asked)
    elif isinstance(asked, Score):
        score(asked)
    else:
        clip = load_clip(asked.clip, "cpu")
        batches = batches_of(asked, clip)
        torch.manual_seed(asked.seed)
        if isinstance(asked, Prior):
            prior = prior_trainer(clip)
            if asked.compile:
                prior.diffusion_prior.net.compile()
            train(asked, prior, asked.out / "prior.pt", batches, prior_loss)
        else:
            decoder = decoder_trainer(clip)
            if asked.compile:
                decoder.decoder.unets[0].compile()
            train(asked, decoder, asked.out / "decoder.pt", batches, decoder_loss)


if __name__ == "__main__":
    main(tyro.cli(Prior | Decoder | Paint | Score, description=__doc__))
