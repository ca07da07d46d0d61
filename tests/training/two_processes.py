"""Runs the same training in one process and in two, and writes down what each saw: for `test_two_processes`.

python tests/training/two_processes.py OUT
"""

import io
import json
import os
import socket
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any


def work(rank: int, world: int, port: int, out: Path) -> None:
    """One process of `world`."""
    if world > 1:
        os.environ |= {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "ACCELERATE_USE_CPU": "true",
        }
    import torch

    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, part in (("clip", of_clip), ("chunked", of_clip_in_chunks), ("prior", of_prior)):
        found[name] = part(out / f"{name}_{world}")
    if world > 1:
        found |= of_gathering(rank) | of_shards(rank, out / "shards") | of_waiting(rank, out / "reader")
        found["said"] = [(out / f"clip_{world}" / f"said_{each}.txt").read_text() for each in range(world)]
    if rank == 0:
        (out / f"found_{world}.json").write_text(json.dumps(found))
    if world > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def config(**changes: Any) -> Any:
    from limner.training import TrainConfig

    settings: dict[str, Any] = {
        "steps": 6,
        "batch": 8,
        "learning_rate": 3e-3,
        "warmup": 2,
        "betas": (0.9, 0.99),
        "eps": 1e-6,
        "weight_decay": 0.1,
        "clip_norm": 1.0,
        "ema": 0.9,
        "precision": "fp32",
        "seed": 0,
        "save_every": 3,
        "sample_every": 100,
    }
    return TrainConfig(**(settings | changes))


def clip_model() -> Any:
    import torch

    from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig

    torch.manual_seed(0)
    return Clip(
        ClipConfig(
            vision=VisionConfig(resolution=8, patch=4, width=16, layers=2, heads=2),
            text=TextConfig(context=9, vocabulary=30, width=16, layers=2, heads=2),
            embedding=8,
            activation="quick_gelu",
            thumbnail=2,
        )
    )


def captions(step: int, rows: range) -> Any:
    """Captions of two to eight tokens and cut to the longest at hand; some are the same in both halves."""
    import torch

    ids = torch.zeros(len(rows), 9, dtype=torch.int64)
    for place, row in enumerate(rows):
        words = [(step + row % 3 + i) % 27 + 1 for i in range(row if row % 2 else 1)]
        ids[place, : len(words) + 2] = torch.tensor([28, *words, 29])
    return ids[:, : int(ids.argmax(dim=1).max()) + 1]


def streams(step: int, rows: range) -> list[Any]:
    import torch

    return [torch.Generator().manual_seed(1000 * step + row) for row in rows]


def trained(model: Any, objective: Any, batches: Any, out: Path, **changes: Any) -> list[dict[str, float]]:
    """Train, and give back the log."""
    from rich.console import Console

    from limner.distributed import rank
    from limner.training import train

    said = io.StringIO()
    train(
        model,
        objective,
        batches,
        name="part",
        model_config=model.config,
        config=config(**changes),
        out=out,
        resume=False,
        device="cpu",
        console=Console(file=said, width=200),
    )
    (out / f"said_{rank()}.txt").write_text(said.getvalue())
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def of_clip(out: Path, chunk: int | None = None) -> list[dict[str, float]]:
    import torch

    from limner.clip import contrastive_objective
    from limner.clip.objective import CaptionedPictures

    def batches(step: int, rows: range) -> CaptionedPictures:
        # The second half is brighter, or what is taken over half a batch would pass for the whole's.
        pictures = [
            row / 8 * torch.rand(3, 8, 8, generator=s)
            for row, s in zip(rows, streams(step, rows), strict=True)
        ]
        return CaptionedPictures(torch.stack(pictures), captions(step, rows))

    return trained(clip_model(), contrastive_objective(chunk), batches, out)


def of_clip_in_chunks(out: Path) -> list[dict[str, float]]:
    return of_clip(out, chunk=3)


def prior_model() -> Any:
    import torch

    from limner.dalle2.prior_diffusion import Prior, PriorConfig
    from limner.diffusion.spec import DiffusionSpec

    torch.manual_seed(0)
    spec = DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False)
    return Prior(
        PriorConfig(
            embedding=8, text_width=16, context=9, width=16, layers=2, heads=2, scale=1.5, diffusion=spec
        )
    )


def prior_batch(step: int, rows: range) -> Any:
    import torch

    from limner.clip import unit
    from limner.dalle2.objective import EmbeddingsAndCaptions

    z = torch.stack([torch.randn(8, generator=s) for s in streams(step, rows)])
    ids = captions(step, rows)
    return EmbeddingsAndCaptions(unit(z), torch.nn.functional.pad(ids, (0, 9 - ids.shape[1])))


def prior_objective() -> Any:
    import torch

    from limner.dalle2.objective import clip_reader
    from limner.dalle2.objective import prior_objective as objective

    empty = torch.tensor([28, 29, 0, 0, 0, 0, 0, 0, 0])
    return objective(clip_reader(clip_model().requires_grad_(False)), empty=empty, drop_caption=0.3)


def of_prior(out: Path) -> list[dict[str, float]]:
    return trained(prior_model(), prior_objective(), prior_batch, out)


def of_gathering(rank: int) -> dict[str, Any]:
    """Two rows from each process, multiplied by what only the other process knows."""
    import torch

    from limner.distributed import averaged, gathered

    x = torch.arange(4.0).reshape(2, 2).add(10 * rank).requires_grad_()
    rows = gathered(x)
    weight = torch.arange(8.0).reshape(4, 2) + 100 * rank
    (rows * weight).sum().backward()
    assert x.grad is not None
    gradients = [torch.zeros_like(x.grad) for _ in range(2)]
    torch.distributed.all_gather(gradients, x.grad)
    return {
        "gathered": rows.tolist(),
        "gradients": torch.cat(gradients).tolist(),
        "averaged": averaged(torch.tensor([1.0, 5.0]) * (rank + 1)).tolist(),
    }


def of_shards(rank: int, folder: Path) -> dict[str, Any]:
    """A model sharded by FSDP: steps, average and state against those of one whole model."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    from limner.draws import Draws
    from limner.training.ema import Ema
    from limner.training.loop import make_optimizers
    from limner.training.state import load_state, save_state, whole_weights

    mesh, objective = init_device_mesh("cpu", (2,)), prior_objective()

    class Run:
        def __init__(self, *, sharded: bool) -> None:
            self.model = prior_model()
            if sharded:
                for block in self.model.transformer.blocks:
                    fully_shard(block, mesh=mesh)
                fully_shard(self.model, mesh=mesh)
            (self.optimizer,) = make_optimizers(self.model, config())
            self.ema = Ema(self.model, decay=0.8)
            self.rows = range(4 * rank, 4 * rank + 4) if sharded else range(8)

        def step(self, number: int) -> None:
            draws = Draws.for_step(0, number, self.rows)
            objective(self.model, prior_batch(number, self.rows), draws).total.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.ema.update(self.model, step=number)

        def averaged(self) -> dict[str, torch.Tensor]:
            with self.ema.applied(self.model):
                return whole_weights(self.model)

        def sizes(self) -> int:
            parameters = list(self.model.parameters())
            return sum(getattr(p, "_local_tensor", p).numel() for p in parameters)

    whole, sharded, resumed = Run(sharded=False), Run(sharded=True), Run(sharded=True)
    for number in range(4):
        whole.step(number)
        sharded.step(number)
    save_state(folder, step=4, model=sharded.model, ema=sharded.ema, optimizers=[sharded.optimizer])
    torch.distributed.barrier()
    step = load_state(folder, model=resumed.model, ema=resumed.ema, optimizers=[resumed.optimizer])
    for run in (whole, sharded, resumed):
        run.step(4)
    names, mine = list(whole.model.state_dict()), whole_weights(sharded.model)
    averages = sharded.averaged(), resumed.averaged()
    again = whole_weights(resumed.model)
    if rank != 0:
        return {}
    expected, average = whole_weights(whole.model), whole.averaged()
    return {
        "names": list(mine) == names,
        "share": sharded.sizes() / whole.sizes(),
        "resumed at": step,
        "apart": max(float((mine[n] - expected[n]).abs().max()) for n in names if "qkv.bias" not in n),
        "average apart": max(
            float((averages[0][n] - average[n]).abs().max()) for n in names if "qkv.bias" not in n
        ),
        "resumed apart": max(float((mine[n] - again[n]).abs().max()) for n in names),
        "resumed average apart": max(float((averages[0][n] - averages[1][n]).abs().max()) for n in names),
    }


def of_waiting(rank: int, folder: Path) -> dict[str, Any]:
    """A CLIP that the first process takes its time to write, and both then stand on."""
    from limner import checkpoint
    from limner.errors import LimnerError
    from limner.recipes.embeddings import load_clip

    if rank == 0:
        time.sleep(1)
        model = clip_model()
        checkpoint.save(folder, model.state_dict(), model.config)
    try:
        load_clip(folder, "cpu")
    except LimnerError as error:
        (folder.parent / "came too early.txt").write_text(str(error))
    return {"came too early": (folder.parent / "came too early.txt").exists()}


def main(out: Path) -> int:
    context = get_context("forkserver")
    context.set_forkserver_preload(
        ["limner.training", "limner.dalle2.objective", "torch._dynamo", "torch.utils.tensorboard"]
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [context.Process(target=work, args=(rank, 2, port, out)) for rank in range(2)]
    processes.append(context.Process(target=work, args=(0, 1, port, out)))
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return max(abs(process.exitcode or 0) for process in processes)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
