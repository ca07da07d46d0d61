"""Quantizes the same batches in one process and in two, and writes down what became of the codes.

python tests/quantize/two_processes.py OUT
"""

import json
import socket
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

STEPS = 5
ROWS = 4


def work(rank: int, world: int, port: int, out: Path) -> None:
    """One process of `world`."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    share = ROWS // world
    rows = range(rank * share, (rank + 1) * share)
    found = {"codebook": of_codebook(rows), "product": of_product(rows, world), "gumbel": of_gumbel(rows)}
    if rank == 0:
        (out / f"found_{world}.json").write_text(json.dumps(found))
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def batch(step: int, rows: range, *shape: int) -> Any:
    """Rows whose first feature is their own number, so that the halves differ."""
    import torch

    streams = [torch.Generator().manual_seed(1000 * step + row) for row in rows]
    return torch.stack([torch.randn(shape, generator=s) + row for s, row in zip(streams, rows, strict=True)])


def of_codebook(rows: range) -> dict[str, Any]:
    import torch

    from limner.distributed import rank
    from limner.draws import Draws
    from limner.quantize import Codebook, CodebookConfig, MovingAverage

    torch.manual_seed(0)
    average = MovingAverage(decay=0.5, epsilon=1e-5, restart_below=0.2)
    book = Codebook(CodebookConfig(codes=16, width=3, beta=0.25, average=average))
    choices = []
    for step in range(STEPS):
        out = book(batch(step, rows, 7, 3), Draws.for_step(0, step, rows))
        choices.append(out.usage.counts.tolist())
    book.eval()
    # As when the first process alone paints a sample: nobody may be waited for.
    alone = int(book(batch(9, rows, 7, 3)).usage.counts.sum()) if rank() == 0 else 0
    state = {name: value.tolist() for name, value in book.state_dict().items()}
    return {"choices": choices, "alone": alone, **state}


def of_product(rows: range, world: int) -> dict[str, Any]:
    """The diversity loss and the gradient that each process adds, averaged as DDP would."""
    import torch

    from limner.distributed import averaged
    from limner.draws import Draws
    from limner.quantize.product import ProductConfig, ProductQuantizer

    torch.manual_seed(0)
    config = ProductConfig(width=3, groups=2, entries=4, code_width=4, out=None, shared=False)
    quantizer = ProductQuantizer(config)
    out = quantizer(batch(0, rows, 5, 3), temperature=1.0, draws=Draws.for_step(0, 0, rows))
    out.loss.backward()
    assert quantizer.logits.weight.grad is not None
    gradient = averaged(quantizer.logits.weight.grad) if world > 1 else quantizer.logits.weight.grad
    return {
        "loss": float(out.loss.detach()),
        "gradient": gradient.tolist(),
        "counts": out.usage.counts.tolist(),
    }


def of_gumbel(rows: range) -> dict[str, Any]:
    import torch

    from limner.draws import Draws
    from limner.quantize import GumbelCodebook

    torch.manual_seed(0)
    out = GumbelCodebook(codes=6, width=2)(
        batch(0, rows, 5, 6), temperature=1.0, draws=Draws.for_step(0, 0, rows)
    )
    return {"counts": out.usage.counts.tolist()}


def main(out: Path) -> int:
    context = get_context("forkserver")
    context.set_forkserver_preload(["limner.quantize"])
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
