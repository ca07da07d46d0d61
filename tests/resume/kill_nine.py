"""Kill -9 a training run at ten random moments: resumed, it ends with the weights of the unbroken run.

    python tests/resume/kill_nine.py                    # other moments every time
    python tests/resume/kill_nine.py --seed 7 --kills 3

What is trained is a small decoder with dropout. The killer sits inside the process, in the thread that makes
batches, because only there is it sure to strike while a step or a save is under way; it is SIGKILL all the
same, after which nothing is tidied up.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

STEPS, SAVE_EVERY = 48, 3


def life(out: Path, moment: int | None, delay: float) -> None:
    """Train under `out`, resuming what is there; die `delay` seconds after batch `moment` is asked for."""
    import torch
    from rich.console import Console
    from torch import Tensor

    from limner.dalle2.decoder import ClipTextConfig, ClipTokens, Decoder, DecoderConfig
    from limner.dalle2.objective import PicturesAndCaptions, decoder_objective
    from limner.diffusion.spec import DiffusionSpec
    from limner.layers.unet import UNetConfig
    from limner.training import TrainConfig, train

    torch.set_num_threads(1)
    unet = UNetConfig(
        in_channels=3,
        out_channels=3,
        channels=32,
        depth=1,
        multipliers=(1, 1),
        attention=(2,),
        head_width=32,
        context_width=16,
        scale_shift=True,
        dropout=0.2,
        patch=1,
        canvas=0,
    )
    config = DecoderConfig(
        resolution=8,
        embedding=8,
        picture_tokens=4,
        learned_null=True,
        text=ClipTextConfig(width=8, embedding=8),
        unet=unet,
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
    )

    def read(ids: Tensor) -> ClipTokens:
        table = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
        return ClipTokens(tokens=table[ids], embedding=table[ids].sum(dim=1), mask=ids > 0)

    def batches(step: int, rows: range) -> PicturesAndCaptions:
        if moment is not None and step >= moment:
            time.sleep(delay)
            os.kill(os.getpid(), signal.SIGKILL)
        streams = [torch.Generator().manual_seed(1000 * step + row) for row in rows]
        return PicturesAndCaptions(
            torch.stack([torch.rand(3, 8, 8, generator=stream) for stream in streams]),
            torch.stack([torch.randn(8, generator=stream) for stream in streams]),
            torch.stack([torch.randint(16, (5,), generator=stream) for stream in streams]),
        )

    torch.manual_seed(0)
    train(
        Decoder(config),
        decoder_objective(
            read,
            empty=torch.zeros(5, dtype=torch.int64),
            drop_picture=0.1,
            drop_caption=0.5,
            blur_picture=0.5,
            max_weight=20.0,
        ),
        batches,
        name="decoder",
        model_config=config,
        config=TrainConfig(
            steps=STEPS,
            batch=4,
            learning_rate=1e-2,
            warmup=5,
            betas=(0.9, 0.99),
            eps=1e-8,
            weight_decay=0.1,
            clip_norm=1.0,
            ema=0.9,
            precision="fp32",
            seed=0,
            save_every=SAVE_EVERY,
            sample_every=STEPS,
        ),
        out=out,
        resume=out.exists(),
        device="cpu",
        console=Console(quiet=True),
    )


def losses(out: Path) -> list[tuple[int, float]]:
    """What the log says of each step, as far as it is readable."""
    found = []
    for line in (out / "log.jsonl").read_text().splitlines() if (out / "log.jsonl").exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        found.append((row["step"], row["loss"]))
    return found


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kill_and_compare(folder: Path, *, kills: int, seed: int) -> bool:
    # Each life is forked from a process that has imported everything already: importing is most of a life.
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["limner.training", "limner.dalle2.objective", "torch._dynamo", "torch.utils.tensorboard"]
    )

    def live(out: Path, moment: int | None = None, delay: float = 0.0) -> int | None:
        process = context.Process(target=life, args=(out, moment, delay))
        process.start()
        process.join()
        return process.exitcode

    whole, broken = folder / "whole", folder / "broken"
    if live(whole) != 0:
        print("the unbroken run failed")
        return False
    choose, died = random.Random(seed), 0
    for number, moment in enumerate(sorted(choose.choices(range(1, STEPS), k=kills))):
        code = live(broken, moment, delay=choose.uniform(0.0, 0.05))
        died += code == -signal.SIGKILL
        logged, states = losses(broken), sorted(path.name for path in (broken / "states").glob("*"))
        last = logged[-1][0] if logged else None
        print(f"kill {number + 1:2}: last step logged {last}, in states {', '.join(states) or 'nothing'}")
    if live(broken) != 0:
        print("the resumed run failed")
        return False
    one, other = (run / "model" / "model.safetensors" for run in (whole, broken))
    sums = digest(one)[:16], digest(other)[:16]
    same = digest(one) == digest(other)
    same_log = losses(whole) == losses(broken) and len(losses(whole)) == STEPS
    print(f"{died} of {kills} lives ended by SIGKILL (seed {seed})")
    print(f"weights: {'identical' if same else 'DIFFERENT'}, SHA-256 {sums[0]} and {sums[1]}")
    print(f"log: {'identical, every step once' if same_log else 'DIFFERENT'}")
    return same and same_log and died == kills


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="limner-kill-nine-"))
    try:
        return 0 if kill_and_compare(folder, kills=options.kills, seed=options.seed) else 1
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
