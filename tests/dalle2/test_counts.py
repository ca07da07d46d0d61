"""DALL-E 2's networks at the size of the paper and of Karlo, by their published parameter counts."""

import pytest
import torch

from limner.dalle2 import decoder, prior_autoregressive, prior_diffusion, upsampler
from limner.dalle2.decoder import Decoder
from limner.dalle2.prior_autoregressive import AutoregressivePrior
from limner.dalle2.prior_diffusion import Prior
from limner.dalle2.upsampler import Upsampler
from limner.layers.unet import AttentionBlock
from limner.recipes import decoder as decoder_recipes
from limner.recipes import prior as prior_recipes
from limner.recipes import upsampler as upsampler_recipes


@pytest.mark.parametrize(
    ("network", "config", "published"),
    [
        (Prior, prior_diffusion.karlo(), 1_022_028_544),
        (Prior, prior_diffusion.paper(), 1_225_925_632),
        (Decoder, decoder.paper(), 3_564_910_086),
        (Decoder, decoder.karlo(), 893_318_086),
        (AutoregressivePrior, prior_autoregressive.paper(), 807_873_024),
        (Upsampler, upsampler.paper_256(), 729_702_083),
        (Upsampler, upsampler.paper_1024(), 282_059_139),
        (Upsampler, upsampler.karlo_256(), 2 * 691_579_523),
    ],
    ids=[
        "Karlo prior",
        "prior",
        "decoder",
        "Karlo decoder",
        "autoregressive prior",
        "upsampler",
        "second upsampler",
        "Karlo upsampler",
    ],
)
def test_published_counts(network, config, published):
    with torch.device("meta"):
        model = network(config)
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    # The paper's decoder has zeros for "no picture"; Karlo's learned vector is among its parameters.
    assert learned == published


def test_sequences_are_as_long_as_published():
    with torch.device("meta"):
        assert len(Prior(prior_diffusion.karlo()).positions) == 81
        assert len(Prior(prior_diffusion.paper()).positions) == 260


def test_upsamplers_have_no_attention_anywhere():
    with torch.device("meta"):
        for config in (upsampler.paper_256(), upsampler.karlo_256(), upsampler_recipes.small().model):
            assert not any(isinstance(module, AttentionBlock) for module in Upsampler(config).modules())


def test_paper_recipes_are_the_published_models():
    assert prior_recipes.paper().model == prior_diffusion.paper()
    assert decoder_recipes.paper().model == decoder.paper()
    assert upsampler_recipes.paper().model == upsampler.paper_256()
    recipe = decoder_recipes.paper()
    assert (recipe.drop_picture, recipe.drop_caption) == (0.1, 0.5)
    assert (upsampler_recipes.paper().crop, upsampler_recipes.paper().blur) == (0.25, 0.6)
    assert prior_recipes.paper().drop_caption == 0.1
    assert prior_diffusion.paper().scale / 1024**0.5 == pytest.approx(0.5375)
