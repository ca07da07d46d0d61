"""The time embedding is ADM's, not DDPM's: cosines first, frequencies over half the width."""

import torch
from torch import nn

from limner.layers.embeddings import TimeEmbedding, sinusoidal

# Computed by ADM's own code.
GOLDEN = {
    (500.0, 8): "-.88384926 .96496505 .28366220 .87758255 -.46777180 -.26237854 -.95892429 .47942552",
    (1.0, 4): ".5403023 .99995 .8414710 .00999983",
}


def test_golden_values():
    for (t, width), expected in GOLDEN.items():
        row = torch.tensor([[float(number) for number in expected.split()]])
        torch.testing.assert_close(sinusoidal(torch.tensor([t]), width), row, rtol=0, atol=5e-5)


def test_frequencies_fall_from_one_by_a_constant_factor():
    # A small time makes sine the angle itself, so the second half of the row is the frequencies.
    angles = sinusoidal(torch.tensor([1e-4]), 64)[0, 32:] / 1e-4
    torch.testing.assert_close(angles[0], torch.tensor(1.0))
    ratio = angles[1:] / angles[:-1]
    torch.testing.assert_close(ratio, torch.full_like(ratio, 10_000 ** (-1 / 32)))


def test_times_between_steps_lie_between():
    low, middle, high = sinusoidal(torch.tensor([10.0, 10.5, 11.0]), 16)[:, 7]
    assert low > middle > high  # the slowest cosine, still falling


def test_time_embedding_is_linear_silu_linear():
    embedding = TimeEmbedding(width=8, out=6)
    first, second = embedding.net[0], embedding.net[2]
    t = torch.tensor([0.0, 3.0, 999.0])
    expected = second(nn.functional.silu(first(sinusoidal(t, 8))))
    torch.testing.assert_close(embedding(t), expected)
