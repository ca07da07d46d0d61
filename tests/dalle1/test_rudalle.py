"""ruDALL-E beside its weights: who depends on whom, what is remembered, the tensors of the published one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from limner.autoregression import Sampling
from limner.dalle1.rudalle import PADDING, RuDalle, RuDalleConfig, malevich, mask_of, sample, window
from limner.draws import Draws
from limner.errors import LimnerError
from limner.formats import FORMATS, Assumptions, opened, rudalle, self_check, usable
from limner.formats.contents import Contents
from limner.formats.places import give


def tiny(release: str) -> RuDalleConfig:
    return RuDalleConfig(
        text=5,
        text_vocabulary=20,
        image_vocabulary=7,
        grid=4,
        width=16,
        layers=4,
        heads=2,
        kernel=3,
        release="v2" if release == "v2" else "v3",
    )


def made(release: str) -> RuDalle:
    torch.manual_seed(0)
    return RuDalle(tiny(release)).eval().requires_grad_(False)


def tokens() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    text = torch.tensor([[2, 9, 3, 0, 0], [2, 5, 6, 7, 3]])
    return text, torch.randint(7, (2, 16), generator=generator)


@pytest.mark.parametrize("release", ["v2", "v3"])
def test_a_token_changes_what_comes_after_it_and_nothing_before(release):
    model, (text, image) = made(release), tokens()
    before = model(text, image)
    for place in (0, 5, 14):
        other = image.clone()
        other[:, place] = (other[:, place] + 1) % 7
        moved = (model(text, other).image - before.image).abs().amax(dim=(0, 2)) > 1e-6
        assert not moved[: place + 1].any()
        assert moved[place + 1]
    other = text.clone()
    other[1, 2] = 8
    after = model(other, image)
    moved = (after.text - before.text).abs().amax(dim=2)[1] > 1e-6
    # v2's logits begin with the caption's first id, v3's with its second.
    seen = 3 if release == "v2" else 2
    assert moved.tolist() == [place >= seen for place in range(len(moved))]
    assert (after.image - before.image)[1].abs().amax(dim=1).min() > 1e-6
    assert torch.equal(after.image[0], before.image[0])


@pytest.mark.parametrize(("release", "pairs"), [("v2", 62_464), ("v3", 52_354)])
def test_the_published_window(release, pairs):
    seen = window(128, 32, 11, release)
    assert int(seen[128:, 128:].sum()) == pairs
    assert torch.equal(seen[:128], torch.ones(1152, 1152, dtype=torch.bool).tril()[:128])
    assert bool(seen[128:, :128].all())
    # The last of a row sees the first of it, and the last row the first, on v2's torus alone.
    assert bool(seen[128 + 31, 128]) == bool(seen[128 + 31 * 32, 128]) == (release == "v2")


@pytest.mark.parametrize("release", ["v2", "v3"])
def test_pictures_are_the_same_alone_and_among_others(release):
    model, (text, _) = made(release), tokens()
    both = sample(model, text, draws=Draws([3, 4]), sampling=Sampling())
    assert both.shape == (2, 4, 4)
    assert torch.equal(sample(model, text[1:], draws=Draws([4]), sampling=Sampling()), both[1:])
    # By the model itself: greedy sampling takes the likeliest of the logits of the whole sequence.
    greedy = sample(model, text, draws=Draws([3, 4]), sampling=Sampling(temperature=0.0)).flatten(1)
    assert torch.equal(model(text, greedy).image.argmax(dim=2), greedy)


def test_padding_has_an_id_for_each_place():
    model, (text, image) = made("v3"), tokens()
    state = model.state_dict()
    state["embed_text.weight"][15 + 3] += torch.arange(16)
    changed = RuDalle(tiny("v3")).eval()
    changed.load_state_dict(state)
    with torch.no_grad():
        moved = (changed(text, image).image - made("v3")(text, image).image).abs().amax(dim=(1, 2))
    assert text[0, 3] == PADDING != text[1, 3]
    assert (moved > 1e-6).tolist() == [True, False]


@pytest.mark.parametrize("release", ["v2", "v3"])
def test_every_tensor_of_the_published_one_has_its_place(release):
    config = malevich(release)
    with torch.device("meta"):
        model: nn.Module = RuDalle(config)
    tensors = give(rudalle.places(config), model.state_dict())
    assert tensors["transformer.layers.23.attention.query_key_value.weight"].shape == (6144, 2048)
    assert tensors["to_logits.1.weight"].shape == (16_512 + 8192, 2048)
    assert tensors["text_pos_embeddings.weight"].shape == (129, 2048)
    masks = {f"transformer.{name}": torch.ones(1152, 1152, device="meta") for name in rudalle.MASKS}
    contents = Contents(path=Path("x.bin"), kind="", tensors=tensors | masks, settings={}, said={}, size=0)
    assert [one for one in FORMATS if one.fits(contents)] == [rudalle.FORMAT]
    (part,) = rudalle.read(contents, Assumptions(release="v2" if release == "v2" else "v3")).parts
    assert part.config == config
    assert (part.taken.missing, part.taken.wrong, part.taken.unused) == ((), (), ())
    assert part.parameters == 1_310_410_880
    # What no weights say: Malevich's heads are 128 wide, those of the 12 billion 64.
    assert rudalle.read(contents, Assumptions()).assumed[0] == "16 heads, by its width"
    with pytest.raises(LimnerError, match="2048 wide, which 5 heads do not divide: give --heads"):
        rudalle.read(contents, Assumptions(heads=5))


@pytest.mark.parametrize("release", ["v2", "v3"])
def test_a_file_is_known_by_its_masks(release, tmp_path):
    config = replace(tiny(release), grid=12, kernel=11)
    model = RuDalle(config)
    tensors = give(rudalle.places(config), model.state_dict())
    masks = {name: mask_of(config, kind) for name, kind in rudalle.MASKS.items()}
    # Older files keep them beside the embeddings, as numbers; newer ones in the transformer, as truths.
    old = {name: mask.float() for name, mask in masks.items()}
    new = {f"transformer.{name}": mask for name, mask in masks.items()}
    for number, beside in enumerate((old, new)):
        torch.save(tensors | beside, tmp_path / f"{number}")
        found = usable(opened(tmp_path / f"{number}", Assumptions(heads=2)))
        assert found.parts[0].config == config
        assert self_check(found.parts[0]) == "a caption gives (7,)"


def test_doors():
    model, (text, image) = made("v3"), tokens()
    with pytest.raises(ValueError, match="text: 4 positions, but this model pads to 5"):
        model(text[:, :4], image)
    with pytest.raises(ValueError, match="image: 16 tokens to go on from, but there are 16"):
        model.image_rows(image)
