"""The diffusion losses by hand, on networks that say nothing yet, and how often conditions are dropped."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from limner.dalle2.decoder import ClipTextConfig, ClipTokens, Decoder, DecoderConfig
from limner.dalle2.objective import (
    Pictures,
    PicturesAndCaptions,
    decoder_objective,
    diffusion_loss,
    imprecise,
    noised,
    reduced,
    upsampler_objective,
    with_drops,
)
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig, enlarged
from limner.diffusion.spec import DiffusionSpec
from limner.draws import Draws
from limner.layers.corruptions import blurred, half_blurred
from limner.layers.unet import UNetConfig

X0 = DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False)
UNET = UNetConfig(
    in_channels=3,
    out_channels=3,
    channels=32,
    depth=1,
    multipliers=(1,),
    attention=(1,),
    head_width=32,
    context_width=8,
    scale_shift=True,
    dropout=0.0,
    patch=2,
    canvas=0,
)
CONFIG = DecoderConfig(
    resolution=4,
    embedding=6,
    picture_tokens=4,
    learned_null=False,
    text=ClipTextConfig(width=10, embedding=6),
    unet=UNET,
    diffusion=X0,
)
EMPTY = torch.tensor([28, 29, 0, 0])
ROWS = 12


def read(ids: Tensor) -> ClipTokens:
    """Some reading of token ids; which one does not matter here."""
    table = torch.randn(30, 10, generator=torch.Generator().manual_seed(0))
    tokens = table[ids]
    return ClipTokens(tokens=tokens, embedding=tokens.sum(dim=1)[:, :6], mask=ids > 0)


def batch(rows: int = ROWS) -> PicturesAndCaptions:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(rows, 3, 4, 4, generator=generator) * 2 - 1
    embeddings = nn.functional.normalize(torch.randn(rows, 6, generator=generator), dim=-1)
    ids = torch.tensor([28, 1, 29, 0]).repeat(rows, 1)
    ids[:, 1] = torch.arange(rows) % 27 + 1
    return PicturesAndCaptions(pictures, embeddings, ids)


def objective(
    max_weight: float | None = None,
    drop_picture: float = 0.1,
    drop_caption: float = 0.5,
    blur_picture: float = 0.0,
):
    return decoder_objective(
        read,
        empty=EMPTY,
        drop_picture=drop_picture,
        drop_caption=drop_caption,
        blur_picture=blur_picture,
        max_weight=max_weight,
    )


class Wrapped(nn.Module):
    """As a network looks in several processes: its calls pass through something else, which can listen."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calls: list[dict[str, Tensor]] = []

    def forward(self, x: Tensor, t: Tensor, **named: Tensor) -> Tensor:
        self.calls.append(named | {"x": x, "t": t})
        return self.module(x, t, **named)


def drawn(spec: DiffusionSpec, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Level, noise and ᾱ of each row, drawn as the decoder's objective draws: two coins before them."""
    draws = Draws(range(len(x0)))
    draws.bernoulli(0.1), draws.bernoulli(0.5)
    index, noise = draws.integers(1000), draws.normal(*x0.shape[1:])
    return index, noise, spec.levels().alpha_bar[index].float()


def column(values: Tensor) -> Tensor:
    return values[:, None, None, None]


@pytest.mark.parametrize("prediction", ["x0", "eps", "v"])
def test_loss_of_a_network_that_says_nothing(prediction):
    spec, given = replace(X0, prediction=prediction), batch()
    loss = objective()(Decoder(replace(CONFIG, diffusion=spec)), given, Draws(range(ROWS)))
    _, noise, alpha_bar = drawn(spec, given.pictures)
    signal, spread = column(alpha_bar.sqrt()), column((1 - alpha_bar).sqrt())
    truth = {
        "x0": given.pictures,
        "eps": noise,
        "v": signal * noise - spread * given.pictures,
    }[prediction]
    torch.testing.assert_close(loss.total, truth.square().mean())
    torch.testing.assert_close(loss.report["error"], truth.square().mean())
    # The best constant guess is the batch's mean.
    assert loss.baseline == pytest.approx((truth - truth.mean(dim=0)).square().mean().item(), rel=1e-5)


@pytest.mark.parametrize("most", [2.0, 20.0])
def test_pictures_weigh_the_more_the_less_noise_lies_on_them(most):
    """By min(1 / (1 - ᾱ), most): never less than 1, or the layout would not be learned."""
    given = batch()
    loss = objective(max_weight=most)(Decoder(CONFIG), given, Draws(range(ROWS)))
    _, _, alpha_bar = drawn(X0, given.pictures)
    weight = (1 / (1 - alpha_bar)).clamp(max=most)
    assert (weight == most).any()
    assert (weight < most).any()
    assert (weight >= 1).all()
    expected = (weight * given.pictures.square().mean(dim=(1, 2, 3))).mean()
    torch.testing.assert_close(loss.total, expected)
    centred = given.pictures - given.pictures.mean(dim=0)
    assert loss.baseline == pytest.approx((weight * centred.square().mean(dim=(1, 2, 3))).mean().item())


def test_weights_are_for_pictures_alone():
    eps = replace(CONFIG, diffusion=replace(X0, prediction="eps"))
    with pytest.raises(ValueError, match="max_weight: weighs x0 predictions, not 'eps'; use None"):
        objective(max_weight=5.0)(Decoder(eps), batch(), Draws(range(ROWS)))


def test_network_sees_the_noised_picture_and_its_time():
    given, model = batch(), Wrapped(Decoder(CONFIG))
    objective()(model, given, Draws(range(ROWS)))
    index, noise, alpha_bar = drawn(X0, given.pictures)
    expected = column(alpha_bar.sqrt()) * given.pictures + column((1 - alpha_bar).sqrt()) * noise
    torch.testing.assert_close(model.calls[0]["x"], expected)
    assert torch.equal(model.calls[0]["t"], index.float())
    # Unit embeddings come to entries of order one.
    torch.testing.assert_close(model.calls[0]["picture"], given.embeddings * 6**0.5)


LEARNED = replace(
    CONFIG,
    unet=replace(UNET, out_channels=6),
    diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="eps", learned_variance=True),
)


def test_learned_variance_by_hand():
    """A silent network guesses no noise and the middle variance; its share of the bound is in bits."""
    given = batch()
    loss = objective()(Decoder(LEARNED), given, Draws(range(ROWS)))
    index, noise, _ = drawn(LEARNED.diffusion, given.pictures)
    assert index.min() > 0  # the bound's other kind of term, at level 0, is proved with the schedule
    levels = LEARNED.diffusion.levels()
    alpha_bar, before, beta = levels.alpha_bar[index], levels.alpha_bar[index - 1], levels.betas[index]
    x0, noise = given.pictures.double(), noise.double()
    x_t = column(alpha_bar.sqrt()) * x0 + column((1 - alpha_bar).sqrt()) * noise
    of_x0 = column(before.sqrt() * beta / (1 - alpha_bar))
    guess = x_t / column(alpha_bar.sqrt())
    true_variance = beta * (1 - before) / (1 - alpha_bar)
    variance = (true_variance.log() + beta.log()).mul(0.5).exp()
    gap = (of_x0 * (x0 - guess)).square()
    nats = 0.5 * (
        column((variance / true_variance).log() - 1 + true_variance / variance) + gap / column(variance)
    )
    expected = noise.square().mean() + nats.mean() / torch.log(torch.tensor(2.0))
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-4)
    assert loss.report["error"].item() == pytest.approx(noise.square().mean().item(), rel=1e-5)


def test_learned_variance_teaches_both_halves_and_the_mean_only_by_its_error():
    given, model = batch(), Decoder(LEARNED)
    objective()(model, given, Draws(range(ROWS))).total.backward()
    weight = model.unet.head.bias.grad
    mean, variance = weight[:12].clone(), weight[12:].clone()  # 3 channels of 2×2 pixels each
    assert torch.isfinite(weight).all()
    assert mean.any()
    assert variance.any()
    plain = Decoder(
        replace(CONFIG, diffusion=replace(LEARNED.diffusion, learned_variance=False), learned_null=False)
    )
    objective()(plain, given, Draws(range(ROWS))).total.backward()
    torch.testing.assert_close(mean, plain.unet.head.bias.grad)


@pytest.mark.parametrize("level", [0, 1, 500, 999])
def test_learned_variance_is_finite_at_every_level(level):
    spec, x0 = LEARNED.diffusion, batch().pictures
    n = noised(spec, x0, Draws(range(ROWS)))
    index = torch.full((ROWS,), level)
    alpha_bar = spec.levels().alpha_bar.float()[index]
    x_t = column(alpha_bar.sqrt()) * x0 + column((1 - alpha_bar).sqrt()) * n.noise
    n = replace(n, x_t=x_t, index=index, alpha_bar=alpha_bar, t=index.float())
    for scale in (0.0, 1.0):
        output = (scale * torch.randn(ROWS, 6, 4, 4)).requires_grad_()
        loss = diffusion_loss(spec, x0, n, output, max_weight=None)
        loss.total.backward()
        assert torch.isfinite(loss.total)
        assert torch.isfinite(output.grad).all()


def test_conditions_are_dropped_independently_at_the_asked_rates():
    """10 % without picture, 50 % without caption, hence 5 % without either, of 3000 rows."""
    rows, steps = 60, 50
    given, model = batch(rows), Wrapped(Decoder(replace(CONFIG, unet=replace(UNET, attention=()))))
    with torch.no_grad():
        for step in range(steps):
            objective()(model, given, Draws.for_step(0, step, range(rows)))
    no_picture = torch.cat([~call["keep_picture"] for call in model.calls]).float()
    empty = read(EMPTY[None]).embedding
    no_caption = torch.cat([(call["caption"].embedding == empty).all(dim=1) for call in model.calls]).float()
    for rate, expected in (
        (no_picture, 0.1),
        (no_caption, 0.5),
        (no_picture * no_caption, 0.05),
        (no_picture * (1 - no_caption), 0.05),
    ):
        error = (expected * (1 - expected) / (rows * steps)) ** 0.5
        assert rate.mean().item() == pytest.approx(expected, abs=4 * error)


def test_imprecise_embeddings_lie_at_the_cosine_that_the_docstring_says():
    wide = nn.functional.normalize(torch.randn(400, 256, generator=torch.Generator().manual_seed(2)), dim=-1)
    noise = torch.randn(400, 256, generator=torch.Generator().manual_seed(3))
    for blur in (0.0, 0.4, 0.8):
        seen = imprecise(wide, torch.full((400,), blur), noise)
        torch.testing.assert_close(seen.norm(dim=1), torch.ones(400))
        cosine = (seen * wide).sum(dim=1).mean().item()
        assert cosine == pytest.approx((1 + blur**2) ** -0.5, abs=0.01)


def test_the_decoder_sees_imprecise_embeddings_if_asked_to_and_exact_ones_if_not():
    given, scale = batch(), CONFIG.embedding**0.5
    for blur in (0.0, 0.8):
        model = Wrapped(Decoder(CONFIG))
        objective(blur_picture=blur)(model, given, Draws(range(ROWS)))
        seen = model.calls[0]["picture"] / scale
        torch.testing.assert_close(seen.norm(dim=1), torch.ones(ROWS))
        assert ((seen * given.embeddings).sum(dim=1) > 0.9999).all().item() is (blur == 0)


def test_drops_at_the_ends():
    ids = batch(3).ids
    assert torch.equal(with_drops(ids, EMPTY, torch.tensor([False] * 3)), ids)
    dropped = with_drops(ids, EMPTY, torch.tensor([True, False, True]))
    assert torch.equal(dropped, torch.stack([EMPTY, ids[1], EMPTY]))


def test_half_a_batch_is_the_half_of_the_whole():
    """Rows draw for themselves, so that two processes with half a batch each see what one sees."""
    given, model = batch(), Decoder(CONFIG)
    nn.init.normal_(model.unet.head.weight)

    def part(rows: range) -> float:
        mine = PicturesAndCaptions(*(part[rows.start : rows.stop] for part in given))
        return objective(20.0)(model, mine, Draws.for_step(0, 3, rows)).total.item()

    halves = (part(range(6)) + part(range(6, 12))) / 2
    assert part(range(12)) == pytest.approx(halves, rel=1e-5)


def test_upsampler_learns_from_blurred_and_sharp_reductions():
    unet = replace(UNET, in_channels=6, attention=(), context_width=None)
    config = UpsamplerConfig(low=2, high=8, unet=unet, diffusion=X0)
    model = Wrapped(Upsampler(config))
    pictures = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    blurs = partial(half_blurred, sigma=0.6)
    loss = upsampler_objective(blurs, max_weight=None)(model, Pictures(pictures), Draws(range(40)))
    torch.testing.assert_close(loss.total, pictures.square().mean())
    sharp, seen = reduced(pictures, 4), model.calls[0]["low"]
    soft = blurred(sharp, 0.6)
    is_sharp = (seen == sharp).flatten(1).all(dim=1)
    is_soft = (seen == soft).flatten(1).all(dim=1)
    assert (is_sharp ^ is_soft).all()
    assert 10 <= is_soft.sum() <= 30
    # What the network is given is as large as x_t and within the range of pictures.
    assert enlarged(seen, pictures.shape[-2:]).shape == pictures.shape
