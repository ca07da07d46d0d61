from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from limner import checkpoint


@pytest.fixture(scope="session")
def compact_as_learned() -> Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], list[str]]:
    """That what is stored is what was learned, each number off by no more than `save_compact` makes it.

    Returns the names of what lies in eight bits.
    """

    def check(stored: Mapping[str, Tensor], learned: Mapping[str, Tensor]) -> list[str]:
        assert stored.keys() == learned.keys()
        eight_bits = checkpoint.matrices(learned)
        for name, value in learned.items():
            if name in eight_bits:
                assert stored[name].dtype == torch.float32, name  # what lies in bfloat16 is read as such
                rows = value.float().flatten(1)
                off = (stored[name].float().flatten(1) - rows).abs()
                # Half a step of a 127th of the row's largest number, and a little for the arithmetic.
                assert (off <= 1.01 * rows.abs().amax(dim=1, keepdim=True) / 254).all(), name
            elif value.is_floating_point():
                assert torch.equal(stored[name], value.bfloat16()), name
            else:
                assert torch.equal(stored[name], value), name
        return eight_bits

    return check
