"""What a sketch cannot say: the squared error of drawings told in so many numbers a piece, or in all.

    python benchmarks/pieces.py data/emoji
    python benchmarks/pieces.py data/emoji --size 64 --piece 8 --pictures 6000

A `Sketch` without a `hidden` layer makes each piece of a picture by one linear map of `numbers` numbers, and
all of these by another of the trunk's width. No training brings it below the variance that principal
components of as many miss: those of the pieces, and those of whole pictures.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import tyro
from einops import rearrange
from rich.console import Console
from rich.table import Table
from torch import Tensor

from limner.data.loader import open_gallery
from limner.draws import mix


def missed(rows: Tensor, counts: Sequence[int]) -> list[float]:
    """The mean squared error of rows (n, d) told in so many principal components, for each of `counts`."""
    x = (rows - rows.mean(dim=0)).double()
    n, d = x.shape
    # Of the two Gram matrices, which share their eigenvalues, the smaller.
    values = torch.linalg.eigvalsh((x.T @ x if d <= n else x @ x.T) / n).flip(0).clamp(min=0)
    return [values[count:].sum().item() / d for count in counts]


def main(folder: tyro.conf.Positional[Path], size: int = 64, piece: int = 8, pictures: int = 6000) -> None:
    """Print both tables of the drawings in `folder`, as the painter sees them on white."""
    gallery = open_gallery([folder], size=size)
    order = sorted(range(len(gallery)), key=lambda number: mix("pieces", number))[:pictures]
    seen = gallery.composited(order, [0] * len(order))
    pieces = rearrange(seen, "b c (h p) (w q) -> (b h w) (c p q)", p=piece, q=piece)
    for title, rows, counts in (
        (f"a piece of {piece} × {piece}", pieces, (16, 32, 48, 64)),
        ("a whole picture", seen.flatten(1), (256, 512, 768, 1024, 1536)),
    ):
        table = Table("numbers", "squared error", title=f"{title}, {len(order)} drawings")
        for count, error in zip(counts, missed(rows, counts), strict=True):
            table.add_row(str(count), f"{error:.4f}")
        Console().print(table)


if __name__ == "__main__":
    tyro.cli(main)
