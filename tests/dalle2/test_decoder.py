"""z_i enters the decoder by two doors, captions by their own, and what is dropped leaves no trace."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from limner.dalle2.decoder import (
    Caption,
    ClipTextConfig,
    ClipTokens,
    Decoder,
    DecoderConfig,
    TokenIds,
    karlo,
    paper,
)
from limner.diffusion.spec import DiffusionSpec
from limner.glide import TextEncoderConfig
from limner.layers.unet import UNetConfig

UNET = UNetConfig(
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
    patch=1,
    canvas=0,
)
CONFIG = DecoderConfig(
    resolution=8,
    embedding=6,
    picture_tokens=4,
    learned_null=True,
    text=ClipTextConfig(width=10, embedding=6),
    unet=UNET,
    diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="x0", learned_variance=False),
)
GLIDE = replace(
    CONFIG,
    text=TextEncoderConfig(
        context=5, vocabulary=20, width=12, layers=1, heads=2, condition_width=UNET.embedding_width
    ),
)
KEEP = torch.tensor([True, True])


def decoder(config: DecoderConfig = CONFIG) -> Decoder:
    torch.manual_seed(0)
    model = Decoder(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def clip_tokens(seed: int = 0) -> ClipTokens:
    generator = torch.Generator().manual_seed(seed)
    return ClipTokens(
        tokens=torch.randn(2, 5, 10, generator=generator),
        embedding=torch.randn(2, 6, generator=generator),
        mask=torch.tensor([[True, True, False, False, False], [True] * 5]),
    )


def inputs(caption: Caption) -> dict[str, object]:
    generator = torch.Generator().manual_seed(9)
    return {
        "x": torch.randn(2, 3, 8, 8, generator=generator),
        "t": torch.tensor([10.0, 900.0]),
        "picture": torch.randn(2, 6, generator=generator),
        "keep_picture": KEEP,
        "caption": caption,
    }


CAPTIONS = {
    "clip": (CONFIG, clip_tokens()),
    "glide": (GLIDE, TokenIds(torch.tensor([[1, 2, 0, 0, 0], [3, 4, 5, 6, 7]]), clip_tokens().mask)),
}


def moves(before: Tensor, after: Tensor) -> bool:
    return bool(((after - before).abs().amax(dim=(1, 2, 3)) > 1e-4).all())


@pytest.mark.parametrize("kind", CAPTIONS)
@torch.no_grad()
def test_the_picture_enters_by_two_doors(kind):
    config, caption = CAPTIONS[kind]
    model, given = decoder(config), inputs(caption)
    other = given | {"picture": given["picture"] + 1}
    doors = {"condition": model.to_condition, "tokens": model.to_tokens}
    assert moves(model(**given), model(**other))
    for door in doors.values():  # with one shut, the other still tells them apart
        weight = door.weight.clone()
        door.weight.zero_()
        assert moves(model(**given), model(**other))
        door.weight.copy_(weight)
    for door in doors.values():
        door.weight.zero_()
    assert torch.equal(model(**given), model(**other))


@pytest.mark.parametrize("kind", CAPTIONS)
@torch.no_grad()
def test_a_dropped_picture_is_the_null_embedding(kind):
    config, caption = CAPTIONS[kind]
    model, given = decoder(config), inputs(caption)
    dropped = model(**given | {"keep_picture": torch.tensor([False, True])})
    null = given["picture"].clone()
    null[0] = model.null
    torch.testing.assert_close(dropped, model(**given | {"picture": null}))
    other = given["picture"].clone()
    other[0] += 3
    again = model(**given | {"keep_picture": torch.tensor([False, True]), "picture": other})
    assert torch.equal(again, dropped)
    assert not torch.allclose(dropped[0], model(**given)[0], atol=1e-4)
    torch.testing.assert_close(dropped[1], model(**given)[1])


def test_null_is_zero_and_stays_or_is_learned():
    for learned in (False, True):
        model = Decoder(replace(CONFIG, learned_null=learned))
        assert not model.null.any()
        assert model.null.requires_grad == learned
    assert not paper().learned_null
    assert karlo().learned_null
    model = decoder()
    given = inputs(clip_tokens()) | {"keep_picture": torch.tensor([False, True])}
    model(**given).square().sum().backward()
    assert model.null.grad.any()


@torch.no_grad()
def test_hidden_words_are_not_read_but_the_four_tokens_always_are():
    model, given = decoder(), inputs(clip_tokens())
    before, caption = model(**given), clip_tokens()
    hidden = ~caption.mask[..., None]
    shouted = caption._replace(tokens=caption.tokens + 40 * hidden)
    torch.testing.assert_close(model(**given | {"caption": shouted}), before)
    nothing = caption._replace(mask=torch.zeros_like(caption.mask))
    model.to_condition.weight.zero_()  # leaves z_i the tokens alone
    moved = {"caption": nothing, "picture": given["picture"] + 1}
    assert moves(model(**given | {"caption": nothing}), model(**given | moved))


@torch.no_grad()
def test_tokens_are_four_rows_before_the_caption():
    model, given = decoder(), inputs(clip_tokens())
    seen: list[Tensor] = []
    model.unet.register_forward_pre_hook(
        lambda _module, _args, named: seen.extend((named["context"], named["context_mask"])), with_kwargs=True
    )
    model(**given)
    context, mask = seen
    assert context.shape == (2, 4 + 5, 12)
    torch.testing.assert_close(context[:, :4].flatten(1), model.to_tokens(given["picture"]))
    torch.testing.assert_close(context[:, 4:], model.text(clip_tokens())[0])
    assert mask[:, :4].all()
    assert torch.equal(mask[:, 4:], clip_tokens().mask)


@torch.no_grad()
def test_glides_padding_is_read():
    config, caption = CAPTIONS["glide"]
    model, given = decoder(config), inputs(caption)
    before = model(**given)
    model.text.padding += torch.randn(5, 12)
    after = model(**given)
    assert not torch.allclose(after[0], before[0], atol=1e-4)
    torch.testing.assert_close(after[1], before[1])  # whose caption fills the context


@pytest.mark.parametrize("kind", CAPTIONS)
@torch.no_grad()
def test_the_caption_is_read(kind):
    config, caption = CAPTIONS[kind]
    model, given = decoder(config), inputs(caption)
    if isinstance(caption, TokenIds):
        others = [caption._replace(ids=(caption.ids + 3) % 20)]
    else:
        others = [
            caption._replace(tokens=clip_tokens(1).tokens),
            caption._replace(embedding=caption.embedding + 1),
        ]
    for other in others:
        assert moves(model(**given), model(**given | {"caption": other}))


@torch.no_grad()
def test_a_canvas_is_a_third_door_for_the_picture():
    with_canvas = replace(CONFIG, unet=replace(UNET, canvas=2))
    model, given = decoder(with_canvas), inputs(clip_tokens())
    for way in (model.to_condition, model.to_tokens):  # the two doors of the paper, shut
        nn.init.zeros_(way.weight)
    before = model(**given)
    assert moves(before, model(**given | {"picture": torch.ones(2, 6)}))
    dropped = given | {"keep_picture": ~KEEP}
    assert not moves(model(**dropped), model(**dropped | {"picture": torch.ones(2, 6)}))
    assert model.to_canvas.weight.shape == (2 * 8 * 8, 6)
    assert decoder().to_canvas is None


def test_a_decoder_needs_a_width_for_its_tokens():
    with pytest.raises(ValueError, match=r"unet.context_width: the decoder's attention reads tokens"):
        Decoder(replace(CONFIG, unet=replace(UNET, context_width=None)))
