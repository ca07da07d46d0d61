"""DALL-E mini by the published formula, by perturbation, and against itself without a memory."""

import math
import warnings
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.autoregression import Sampling
from limner.dalle_mini import DalleMini, DalleMiniConfig, ImageReader, mega, mini, sample
from limner.dalle_mini.decoding import guided_reader
from limner.draws import Draws

CONFIG = DalleMiniConfig(
    text_context=6,
    text_vocabulary=30,
    padding=1,
    image_vocabulary=19,
    codes=16,
    start=16,
    grid=3,
    width=8,
    hidden=11,
    heads=2,
    encoder_layers=2,
    decoder_layers=2,
)
TEXT = torch.tensor([[0, 5, 9, 2, 1, 1], [0, 4, 2, 1, 1, 1]])
NOTHING = torch.tensor([0, 2, 1, 1, 1, 1])


@pytest.fixture(scope="module")
def model() -> DalleMini:
    torch.manual_seed(0)
    made = DalleMini(CONFIG).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.4)
    return made


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randint(0, 16, (2, 9), generator=torch.Generator().manual_seed(1))


def normed(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(dim=-1, keepdim=True) + 1e-5)
    return centred * scale * norm.weight + norm.bias


def attended(x: Tensor, y: Tensor, weights: dict[str, Tensor], hidden: Tensor) -> Tensor:
    """As min-dalle computes it: queries are divided, what is hidden lies far below, heads side by side."""
    q, k, v = (
        (z @ weights[f"{name}.weight"].T).reshape(*z.shape[:2], 2, 4)
        for z, name in ((x, "query"), (y, "key"), (y, "value"))
    )
    scores = torch.einsum("bqhc,bkhc->bhqk", q / 4**0.5, k) - 1e12 * hidden.float()
    mixed = torch.einsum("bhqk,bkhc->bqhc", scores.softmax(dim=-1), v).reshape(*x.shape)
    return mixed @ weights["out.weight"].T


def gated(x: Tensor, unit: nn.Module) -> Tensor:
    z = normed(x, unit.norm_in)
    w = z @ unit.gate.weight.T
    w = 0.5 * w * (1 + torch.erf(w / math.sqrt(2)))
    return normed(w * (z @ unit.widen.weight.T), unit.norm_hidden) @ unit.narrow.weight.T


def test_the_published_formula(model, image):
    """min-dalle's layers written out, and norms, GELU and attention with them."""
    padded = (TEXT == 1)[:, None, None, :]
    x = normed(model.encoder.embed.weight[TEXT] + model.encoder.positions, model.encoder.norm_in)
    for block in model.encoder.blocks:
        y = normed(x, block.norm_attention)
        x = x + normed(attended(y, y, block.attention.state_dict(), padded), block.norm_attended)
        x = x + gated(x, block.unit)
    read = normed(x, model.encoder.norm_out)
    ids = torch.cat([torch.full((2, 1), 16), image[:, :-1]], dim=1)
    later = torch.ones(9, 9).triu(1)[None, None]
    x = normed(model.decoder.embed.weight[ids] + model.decoder.positions, model.decoder.norm_in)
    for block in model.decoder.blocks:
        y = normed(x, block.norm_attention)
        x = x + normed(attended(y, y, block.attention.state_dict(), later), block.norm_attended)
        y = normed(x, block.norm_reading)
        x = x + normed(attended(y, read, block.reading.state_dict(), padded), block.norm_read)
        x = x + gated(x, block.unit)
    expected = normed(x, model.decoder.norm_out) @ model.decoder.head.weight.T
    torch.testing.assert_close(model(TEXT, image), expected, rtol=1e-5, atol=1e-5)


def test_what_comes_later_changes_nothing_and_what_came_before_does(model, image):
    before = model(TEXT, image)
    for place in range(9):
        changed = image.clone()
        changed[:, place] = (changed[:, place] + 1) % 16
        moved = (model(TEXT, changed) - before).abs().amax(dim=(0, 2))
        assert moved[: place + 1].eq(0).all()
        assert moved[place + 1 :].gt(0).all()


def test_padding_says_nothing_and_words_do(model, image):
    before = model(TEXT, image)
    shorter = DalleMini(replace(CONFIG, text_context=4)).eval()
    state = model.state_dict()
    shorter.load_state_dict(state | {"encoder.positions": state["encoder.positions"][:4]})
    torch.testing.assert_close(shorter(TEXT[:, :4], image), before, rtol=1e-5, atol=1e-6)
    other = TEXT.clone()
    other[:, 1] = 7
    assert (model(other, image) - before).abs().amax(dim=(1, 2)).gt(1e-3).all()


@pytest.mark.parametrize("given", [0, 1, 4])
def test_reading_on_is_reading_anew(model, image, given):
    """From whatever was given first; codes alone, though the head has three rows more."""
    whole = model(TEXT, image)[..., :16]
    reader = ImageReader(model, TEXT)
    with torch.inference_mode():
        found = [reader.read(image[:, :given])]
        found += [reader.read(image[:, n : n + 1]) for n in range(given, 8)]
    torch.testing.assert_close(torch.stack(found, dim=1), whole[:, given:], rtol=1e-5, atol=1e-5)


def test_guidance_is_super_conditioning(model, image):
    """min-dalle: (1 - s) · unconditional + s · conditional, of the first 2¹⁴ logits; here of 16."""
    empty = NOTHING.expand(2, -1)
    reader = guided_reader(model, TEXT, NOTHING, 10.0)
    without, having = (model(text, image[:, :4])[:, -1, :16] for text in (empty, TEXT))
    with torch.inference_mode():
        found = reader.read(image[:, :3])
    torch.testing.assert_close(found, (1 - 10) * without + 10 * having, rtol=1e-4, atol=1e-4)


def test_a_picture_is_the_same_alone_and_among_others(model):
    def painted(text: Tensor, seeds: list[int]) -> Tensor:
        return sample(
            model,
            text,
            nothing=NOTHING,
            draws=Draws(seeds),
            sampling=Sampling(temperature=1.0, top_k=8),
            guidance=2.0,
        )

    both = painted(TEXT, [3, 4])
    assert both.shape == (2, 3, 3)
    assert int(both.max()) < 16
    assert torch.equal(painted(TEXT[1:], [4])[0], both[1])
    assert not torch.equal(painted(TEXT[1:], [5])[0], both[1])


def test_sampling_nothing_by_chance_is_the_likeliest_of_each_step(model):
    found = sample(
        model,
        TEXT,
        nothing=NOTHING,
        draws=Draws([0, 1]),
        sampling=Sampling(temperature=0.0),
        guidance=1.0,
    ).flatten(1)
    assert torch.equal(model(TEXT, found)[..., :16].argmax(dim=-1), found)


def test_what_it_cannot_read_is_refused(model):
    with pytest.raises(ValueError, match="text: 5 positions, but this model pads to 6"):
        model.read(TEXT[:, :5])
    with pytest.raises(ValueError, match="ids 0 to 30, but this model knows 0 to 29"):
        sample(
            model,
            TEXT.clamp(max=0) + torch.tensor([0, 0, 0, 0, 0, 30]),
            nothing=NOTHING,
            draws=Draws([0, 1]),
            sampling=Sampling(),
            guidance=1.0,
        )
    with pytest.raises(ValueError, match="guidance: inf"):
        guided_reader(model, TEXT, NOTHING, math.inf)
    with pytest.raises(ValueError, match="codes: 20; give 1 to 19"):
        replace(CONFIG, codes=20)
    with pytest.raises(ValueError, match="start: 19; give one of the 19"):
        replace(CONFIG, start=19)
    with pytest.raises(ValueError, match="heads: 3 does not divide the width 8"):
        DalleMini(replace(CONFIG, heads=3))


def test_sizes_are_those_that_were_published():
    for config, count in ((mini(), 437_962_720), (mega(), 2_587_967_488)):
        with torch.device("meta"):
            model = DalleMini(config)
        assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_it_learns_a_caption_by_heart():
    """Gradients reach every parameter, and lead where they should."""
    torch.manual_seed(0)
    model = DalleMini(CONFIG)
    image = torch.randint(0, 16, (2, 9))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(40):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(TEXT, image).flatten(0, 1), image.flatten())
            loss.backward()
            assert all(parameter.grad is not None for parameter in model.parameters())
            optimizer.step()
    assert torch.equal(model(TEXT, image).argmax(dim=-1), image)
