"""ruDALL-E's own transformer from random weights, saved, opened here: the same logits, loss and masks."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from limner.dalle1.rudalle import START, RuDalle, RuDalleReader, mask_of
from limner.errors import LimnerError
from limner.formats import Assumptions, network, opened, self_check, usable

TEXT, GRID, WORDS, CODES = 9, 12, 40, 30


def model(package: ModuleType, release: str, layers: int) -> Any:
    made = package.DalleModel(
        device="cpu",
        num_layers=layers,
        vocab_size=WORDS,
        hidden_size=64,
        num_attention_heads=4,
        embedding_dropout_prob=0.1,
        attention_dropout_prob=0.1,
        output_dropout_prob=0.1,
        text_seq_length=TEXT,
        image_tokens_per_dim=GRID,
        image_vocab_size=CODES,
        cogview_sandwich_layernorm=True,
        cogview_pb_relax=True,
        hf_version=release,
    )
    generator = torch.Generator().manual_seed(0)
    for name, parameter in made.named_parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
        if "layernorm.weight" in name or name == "to_logits.0.weight":
            parameter.data.add_(1)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokens() -> tuple[Tensor, Tensor]:
    """A short caption, a long one, and images."""
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(4, WORDS - TEXT, (2, TEXT), generator=generator)
    text[:, 0] = START
    text[0, 4:] = 0
    return text, torch.randint(CODES, (2, GRID**2), generator=generator)


def theirs(made: Any, text: Tensor, image: Tensor) -> Tensor:
    n = TEXT + GRID**2
    logits, _ = made(torch.cat([text, image], dim=1), torch.ones(2, 1, n, n).tril())
    return logits


@pytest.mark.parametrize(("release", "layers"), [("v2", 4), ("v3", 4), ("v3", 6)])
def test_the_same_logits(
    rudalle: ModuleType, tokens: tuple[Tensor, Tensor], tmp_path: Path, release: str, layers: int
) -> None:
    """With six layers the last is a column's, and no window is looked through."""
    made = model(rudalle, release, layers)
    torch.save(made.state_dict(), tmp_path / "pytorch_model.bin")
    found = usable(opened(tmp_path / "pytorch_model.bin", Assumptions(heads=4)))
    assert found.format == "ruDALL-E"
    assert found.assumed == ()
    assert found.parts[0].taken.unused == ()
    assert self_check(found.parts[0]) == f"a caption gives ({CODES},)"
    ours = network(found.parts[0])
    assert isinstance(ours, RuDalle)
    assert ours.config.release == release
    for kind, name in (("row", "row_mask"), ("column", "col_mask"), ("convolution", "conv_mask")):
        assert torch.equal(mask_of(ours.config, kind), getattr(made.transformer, name))
    text, image = tokens
    logits = theirs(made, text, image)
    of_text, of_image = ours(text, image)
    # The position that the first image token is drawn from: v3's last of the caption, v2's one later.
    begin = TEXT if release == "v2" else TEXT - 1
    torch.testing.assert_close(of_text, logits[:, :begin, :WORDS], rtol=1e-4, atol=1e-4)
    expected = logits[:, begin : begin + GRID**2, WORDS:]
    torch.testing.assert_close(of_image, expected, rtol=1e-4, atol=1e-4)
    # As it is sampled: the caption and some of the image first, the rest one by one.
    reader = RuDalleReader(ours, text)
    torch.testing.assert_close(reader.read(image[:, :20]), expected[:, 20], rtol=1e-4, atol=1e-4)
    for place in range(20, 60):
        step = reader.read(image[:, place : place + 1])
        torch.testing.assert_close(step, expected[:, place + 1], rtol=1e-4, atol=1e-4)


def test_masks_say_which_release_it_is(rudalle: ModuleType, tmp_path: Path) -> None:
    state = model(rudalle, "v2", layers=2).state_dict()
    torch.save(state, tmp_path / "x")
    with pytest.raises(LimnerError, match="has other masks than v3"):
        opened(tmp_path / "x", Assumptions(heads=4, release="v3"))
    bare = {name: tensor for name, tensor in state.items() if not name.endswith("_mask")}
    torch.save(bare, tmp_path / "bare")
    assert opened(tmp_path / "bare", Assumptions(heads=4)).assumed[0].startswith("release v3, for there are")
    told = opened(tmp_path / "bare", Assumptions(heads=4, release="v2"))
    assert told.parts[0].config.release == "v2"
    assert told.assumed == ()
    state["transformer.row_mask"][-1, 0] = False
    torch.save(state, tmp_path / "odd")
    with pytest.raises(LimnerError, match="has other masks than v2's nor v3's"):
        opened(tmp_path / "odd", Assumptions(heads=4))
