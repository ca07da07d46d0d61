"""The dVAE's encoder and decoder against OpenAI's released code, from the same random weights.

Its state dicts are renamed and nothing else, which is also how published weights would be read.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from limner.checkpoint import load_into
from limner.dvae import DVae, DVaeConfig, drawn_in, drawn_out
from limner.dvae.model import Decoder, Encoder, paper

CONFIG = replace(paper(), resolution=32, vocabulary=512, codebook=16, widths=(64, 128, 256, 512))
PLACES = (
    (r"^blocks\.input\.", "{first}."),
    (r"^blocks\.output\.conv\.", "out."),
    (r"^blocks\.group_(\d+)\.block_(\d+)\.id_path\.", "groups.{0}.{1}.skip."),
    (r"^blocks\.group_(\d+)\.block_(\d+)\.res_path\.conv_(\d+)\.", "groups.{0}.{1}.convs.{2}."),
)


def renamed(state: Mapping[str, Tensor], *, first: str) -> dict[str, Tensor]:
    """OpenAI's names → limner's: theirs count from one and say `w` and `b`."""
    return {_renamed(name, first): tensor for name, tensor in state.items()}


def _renamed(name: str, first: str) -> str:
    for pattern, place in PLACES:
        if found := re.match(pattern, name):
            numbers = [int(number) - 1 for number in found.groups()]
            rest = name[found.end() :]
            return place.format(*numbers, first=first) + {"w": "weight", "b": "bias"}[rest]
    raise AssertionError(f"no place for {name}")


@pytest.fixture(scope="module")
def theirs(dall_e: ModuleType) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder, tiny, with biases that are not zero."""
    torch.manual_seed(0)
    encoder = dall_e.encoder.Encoder(n_hid=64, vocab_size=512)
    decoder = dall_e.decoder.Decoder(n_hid=64, n_init=16, vocab_size=512)
    for module in (encoder, decoder):
        for name, parameter in module.named_parameters():
            if name.endswith(".b"):
                nn.init.normal_(parameter, std=0.1)
    return encoder, decoder


@pytest.fixture(scope="module")
def dvae(theirs: tuple[nn.Module, nn.Module]) -> DVae:
    model = DVae(CONFIG)
    encoder, decoder = theirs
    load_into(model.encoder, renamed(encoder.state_dict(), first="stem"))
    load_into(model.decoder, renamed(decoder.state_dict(), first="codebook"))
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_pixels(dall_e: ModuleType, pictures: Tensor) -> None:
    torch.testing.assert_close(drawn_in(pictures), dall_e.utils.map_pixels((pictures + 1) / 2))
    values = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(drawn_out(values), 2 * dall_e.utils.unmap_pixels(values) - 1)


def test_encoder(
    dall_e: ModuleType, theirs: tuple[nn.Module, nn.Module], dvae: DVae, pictures: Tensor
) -> None:
    with torch.no_grad():
        expected = theirs[0](dall_e.utils.map_pixels((pictures + 1) / 2))
    torch.testing.assert_close(dvae.logits(pictures), expected.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)
    assert torch.equal(dvae.tokens(pictures), expected.argmax(dim=1))


def test_decoder(theirs: tuple[nn.Module, nn.Module], dvae: DVae) -> None:
    soft = torch.randn(2, 512, 4, 5, generator=torch.Generator().manual_seed(3)).mul(3).softmax(dim=1)
    with torch.no_grad():
        expected = theirs[1](soft)
    torch.testing.assert_close(dvae.decoder(soft.permute(0, 2, 3, 1)), expected, rtol=1e-5, atol=1e-5)


def test_there_and_back(
    dall_e: ModuleType, theirs: tuple[nn.Module, nn.Module], dvae: DVae, pictures: Tensor
) -> None:
    """The released notebook: map, encode, argmax, one-hot, decode, sigmoid of the first three, unmap."""
    encoder, decoder = theirs
    with torch.no_grad():
        tokens = encoder(dall_e.utils.map_pixels((pictures + 1) / 2)).argmax(dim=1)
        one_hot = nn.functional.one_hot(tokens, 512).permute(0, 3, 1, 2).float()
        expected = dall_e.utils.unmap_pixels(torch.sigmoid(decoder(one_hot)[:, :3]))
    torch.testing.assert_close((dvae.reconstruct(pictures) + 1) / 2, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_published_shapes_are_a_renaming(dall_e: ModuleType, part: str) -> None:
    """At full size every tensor of theirs has one place here, of the same shape, and none is left over."""
    config: DVaeConfig = paper()
    kind = {"encoder": dall_e.encoder.Encoder, "decoder": dall_e.decoder.Decoder}[part]
    with torch.device("meta"):
        ours = {"encoder": Encoder, "decoder": Decoder}[part](config)
        other = kind(device=torch.device("meta"))
    state = renamed(other.state_dict(), first={"encoder": "stem", "decoder": "codebook"}[part])
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in ours.state_dict().items()}
    assert len(shapes) == len(other.state_dict()) == {"encoder": 74, "decoder": 76}[part]
