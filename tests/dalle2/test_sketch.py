"""A sketch lies on the decoder's canvas piece by piece, and is taught the mean of what an embedding shows."""

from dataclasses import replace

import pytest
import torch
from einops import rearrange
from torch import Tensor, nn

from limner.dalle2.decoder import ClipTextConfig, ClipTokens, Decoder, DecoderConfig
from limner.dalle2.objective import (
    PicturesAndCaptions,
    SeenPictures,
    decoder_objective,
    shaken,
    sketch_objective,
)
from limner.dalle2.sketch import Piece, Sketch, SketchConfig
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws
from limner.glide import TextEncoderConfig
from limner.layers.trunk import TrunkConfig, Whitening
from limner.layers.unet import UNetConfig

CONFIG = SketchConfig(
    embedding=6, resolution=16, trunk=TrunkConfig(width=10, layers=2), piece=8, numbers=4, hidden=20
)
DECODER = DecoderConfig(
    resolution=16,
    embedding=6,
    picture_tokens=4,
    learned_null=False,
    text=ClipTextConfig(width=10, embedding=6),
    unet=UNetConfig(
        in_channels=3,
        out_channels=3,
        channels=32,
        depth=1,
        multipliers=(1, 2),
        attention=(2,),
        head_width=32,
        context_width=12,
        scale_shift=True,
        dropout=0.0,
        patch=2,
        canvas=12,
    ),
    diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
    sketch=CONFIG,
)


def random(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    return module.eval()


def unit_rows(rows: int, seed: int = 0) -> Tensor:
    return nn.functional.normalize(torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed)), dim=1)


@torch.no_grad()
def test_each_number_moves_its_own_piece_alone():
    sketch = random(Sketch(CONFIG))
    assert isinstance(sketch, Sketch)
    z, before = unit_rows(1), sketch(unit_rows(1))
    for place in range(4):
        sketch.to_pieces.bias[4 * place] += 1
        moved = (sketch(z) - before).abs().amax(dim=1)[0] > 1e-6
        sketch.to_pieces.bias[4 * place] -= 1
        wanted = torch.zeros(16, 16, dtype=torch.bool)
        top, left = 8 * (place // 2), 8 * (place % 2)
        wanted[top : top + 8, left : left + 8] = True
        assert torch.equal(moved, wanted)


@torch.no_grad()
def test_rectifiers_lead_out_of_the_plane_that_matrices_span():
    def rank(hidden: int) -> int:
        sketch = random(Sketch(replace(CONFIG, hidden=hidden)))
        pictures = sketch(10 * unit_rows(200)).flatten(1).double()
        return int(torch.linalg.matrix_rank(pictures - pictures.mean(dim=0), rtol=1e-4))

    # Ten numbers and a linear map make a plane of ten dimensions, whatever the trunk does.
    assert rank(hidden=0) <= CONFIG.trunk.width
    assert rank(hidden=20) > 2 * CONFIG.trunk.width


@torch.no_grad()
def test_a_piece_is_linear_as_it_is_made():
    torch.manual_seed(0)
    piece, x, y = Piece(4, 20, 192), torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(piece(x + y), piece(x) + piece(y) - piece.plain.bias)
    torch.testing.assert_close(piece(x), piece.plain(x))


@torch.no_grad()
def test_the_unet_is_given_the_sketch_folded_as_the_picture_is():
    model = random(Decoder(DECODER))
    assert isinstance(model, Decoder)
    assert model.sketch is not None
    given: list[Tensor] = []
    model.unet.stem.register_forward_pre_hook(lambda _module, args: given.append(args[0]))
    x, z = torch.randn(2, 3, 16, 16), unit_rows(2)
    caption = ClipTokens(torch.randn(2, 5, 10), torch.randn(2, 6), torch.ones(2, 5, dtype=torch.bool))
    keep = torch.tensor([True, False])
    model(x, torch.tensor([5.0, 900.0]), picture=z, keep_picture=keep, caption=caption)
    seen = torch.stack([z[0], model.null])
    fold = "b c (h p) (w q) -> b (c p q) h w"
    both = torch.cat([rearrange(x, fold, p=2, q=2), rearrange(model.sketch(seen), fold, p=2, q=2)], dim=1)
    torch.testing.assert_close(given[0], both)


@torch.no_grad()
def test_a_captioned_sketch_hears_the_caption_that_the_decoder_is_told():
    captioned = replace(CONFIG, captioned=True)
    model = random(Decoder(replace(DECODER, sketch=captioned)))
    assert isinstance(model, Decoder)
    assert model.sketch is not None
    heard: list[tuple[Tensor, ...]] = []
    model.sketch.register_forward_pre_hook(lambda _module, args: heard.append(args))
    caption = ClipTokens(torch.randn(2, 5, 10), unit_rows(2, seed=3), torch.ones(2, 5, dtype=torch.bool))
    keep, x, z = torch.tensor([True, False]), torch.randn(2, 3, 16, 16), unit_rows(2)
    model(x, torch.tensor([5.0, 900.0]), picture=z, keep_picture=keep, caption=caption)
    torch.testing.assert_close(heard[0][0], torch.stack([z[0], model.null]))
    assert torch.equal(heard[0][1], caption.embedding)
    # Other words, another sketch.
    one, other = (model.sketch(z, unit_rows(2, seed=seed)) for seed in (3, 4))
    assert (one - other).abs().amax(dim=(1, 2, 3)).min() > 1e-3


def test_a_sketch_that_reads_captions_is_given_them_and_no_other_is():
    with pytest.raises(ValueError, match="caption is missing: this sketch's captioned is True"):
        Sketch(replace(CONFIG, captioned=True))(unit_rows(2))
    with pytest.raises(ValueError, match="caption is given: this sketch's captioned is False"):
        Sketch(CONFIG)(unit_rows(2), unit_rows(2))
    narrow = ClipTextConfig(width=10, embedding=7)
    own = TextEncoderConfig(context=8, vocabulary=20, width=12, layers=1, heads=2, condition_width=128)
    with pytest.raises(
        ValueError, match=r"^text\.embedding is 7: with a sketch on its canvas this decoder takes 6"
    ):
        Decoder(replace(DECODER, text=narrow, sketch=replace(CONFIG, captioned=True)))
    with pytest.raises(ValueError, match=r"drop_caption is 0\.5: give the empty caption's embedding"):
        sketch_objective(2.0, drop_picture=0.1, blur_picture=0.3, drop_caption=0.5)
    with pytest.raises(ValueError, match=r"sketch\.captioned is True"):
        Decoder(replace(DECODER, text=own, sketch=replace(CONFIG, captioned=True)))


def test_a_dropped_caption_is_the_empty_one():
    sketch = random(Sketch(replace(CONFIG, captioned=True)))
    batch = SeenPictures(torch.rand(6, 3, 16, 16), unit_rows(6), unit_rows(6, seed=1))
    empty = unit_rows(1, seed=2)[0]
    without = batch._replace(captions=empty.expand(6, 6))

    def loss(drop: float, rows: SeenPictures) -> float:
        objective = sketch_objective(2.0, drop_picture=0.0, blur_picture=0.0, empty=empty, drop_caption=drop)
        return objective(sketch, rows, Draws(range(6))).total.item()

    assert loss(1.0, batch) == pytest.approx(loss(0.0, without), rel=1e-6)
    assert loss(0.0, batch) != pytest.approx(loss(0.0, without), rel=1e-4)


def test_what_does_not_fit_the_decoder_is_refused():
    with pytest.raises(ValueError, match=r"unet\.canvas is 3"):
        Decoder(replace(DECODER, unet=replace(DECODER.unet, canvas=3)))
    with pytest.raises(ValueError, match=r"sketch\.resolution is 8"):
        Decoder(replace(DECODER, sketch=replace(CONFIG, resolution=8)))
    with pytest.raises(ValueError, match="piece: 5"):
        Sketch(replace(CONFIG, piece=5))


def test_a_sketch_that_knows_nothing_is_charged_the_baseline():
    sketch = Sketch(CONFIG)
    pictures = torch.rand(6, 3, 16, 16) * 2 - 1
    for parameter in sketch.to_pixels.parameters():
        nn.init.zeros_(parameter)
    objective = sketch_objective(2.0, drop_picture=0.1, blur_picture=0.3)
    loss = objective(sketch, SeenPictures(pictures, unit_rows(6)), Draws(range(6)))
    torch.testing.assert_close(loss.total, pictures.square().mean())
    assert loss.baseline == pytest.approx((pictures - pictures.mean(dim=0)).square().mean().item())


def test_a_dropped_embedding_is_nought():
    sketch = random(Sketch(CONFIG))
    batch = SeenPictures(torch.rand(6, 3, 16, 16), unit_rows(6))
    nothing = batch._replace(embeddings=torch.zeros(6, 6))

    def loss(drop: float, rows: SeenPictures) -> float:
        objective = sketch_objective(2.0, drop_picture=drop, blur_picture=0.0)
        return objective(sketch, rows, Draws(range(6))).total.item()

    assert loss(1.0, batch) == pytest.approx(loss(0.0, nothing), rel=1e-6)
    assert loss(0.0, batch) != pytest.approx(loss(0.0, nothing), rel=1e-4)


def test_shaking_is_alike_in_all_directions_of_the_sphere():
    z = torch.randn(3000, 6) * torch.tensor([3.0, 1, 0.5, 0.2, 0.1, 0.1]) + 1
    sphere = Whitening(6)
    sphere.fit(z, floor=1e-6)
    torch.testing.assert_close(
        shaken(sphere, z, torch.zeros(3000), Draws(range(3000))), z, atol=1e-3, rtol=1e-3
    )
    moved = sphere(shaken(sphere, z, torch.full((3000,), 0.5), Draws(range(3000)))) - sphere(z)
    torch.testing.assert_close(moved.std(dim=0), torch.full((6,), 0.5), atol=0.03, rtol=0)


def test_the_decoder_is_told_of_a_shaken_embedding():
    model = random(Decoder(DECODER))
    told: list[Tensor] = []
    assert isinstance(model, Decoder)
    assert model.sketch is not None
    model.sketch.register_forward_pre_hook(lambda _module, args: told.append(args[0]))
    caption = ClipTokens(torch.randn(6, 5, 10), torch.randn(6, 6), torch.ones(6, 5, dtype=torch.bool))
    objective = decoder_objective(
        lambda _ids: caption,
        empty=torch.zeros(7, dtype=torch.long),
        drop_picture=0.0,
        drop_caption=0.5,
        blur_picture=0.4,
        max_weight=4.0,
    )
    batch = PicturesAndCaptions(torch.rand(6, 3, 16, 16), unit_rows(6), torch.zeros(6, 7, dtype=torch.long))
    objective(model, batch, Draws(range(6)))
    off = (told[0] - model.told(batch.embeddings)).square().mean(dim=1).sqrt()
    assert (off > 0.001).all()
    assert (off < 1).all()
