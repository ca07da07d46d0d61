"""What losses and statistics need to know about other processes; with one process it is all the identity."""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def rank() -> int:
    """This process's number, 0 when there is one."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gathered(x: Float[Tensor, "b *d"]) -> Float[Tensor, "w_b *d"]:
    """The rows of all processes in rank order; gradients flow back to the process that owns the row."""
    if world() == 1:
        return x
    return torch.cat(all_gather(x.contiguous()))


def averaged(x: Float[Tensor, "*d"]) -> Float[Tensor, "*d"]:
    """The mean over processes of a detached statistic."""
    if world() == 1:
        return x
    total = x.detach().clone()
    dist.all_reduce(total)
    return total / world()
