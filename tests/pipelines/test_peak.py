"""How much memory some work takes, as far as the system says."""

import sys

import numpy as np
import pytest
import torch

from limner.pipelines.peak import Peak, held_bytes

MB = 2**20
CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says it so")
def test_what_is_held_on_the_way_counts_though_it_is_let_go_of():
    with Peak(CPU) as peak:
        held = np.ones(256 * MB, dtype=np.uint8)
        assert held_bytes() > 256 * MB
        # Long enough to be looked at.
        for _ in range(20):
            held += 1
        del held
    assert 200 * MB < peak.within < 400 * MB


def test_nothing_is_nearly_nothing():
    with Peak(CPU) as peak:
        pass
    assert 0 <= peak.within < 50 * MB
