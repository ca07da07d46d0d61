"""DALL-E mini as min-dalle and as Flax keep it, whole and in halves, and its words."""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from limner import checkpoint
from limner.dalle_mini import DalleMini, DalleMiniConfig, DalleMiniWords
from limner.errors import LimnerError
from limner.formats import convert, dalle_mini, network, opened, self_check, usable
from limner.formats.places import give, take
from limner.text import CutCaptionWarning

CONFIG = DalleMiniConfig(
    text_context=6,
    text_vocabulary=30,
    padding=1,
    image_vocabulary=19,
    codes=18,
    start=18,
    grid=3,
    width=128,
    hidden=20,
    heads=2,
    encoder_layers=2,
    decoder_layers=3,
)
SCALELESS = ("pre_self_attn_layer_norm", "pre_encoder_attn_layer_norm", "glu.ln0", "glu.ln1", "final_ln")
TEXT, IMAGE = torch.tensor([[0, 5, 9, 2, 1, 1]]), torch.arange(9)[None]


@pytest.fixture(scope="module")
def model() -> DalleMini:
    """Norms before projections have the scale that they were trained with, none."""
    torch.manual_seed(0)
    made = DalleMini(CONFIG).eval().requires_grad_(False)
    shapes = {name: tuple(tensor.shape) for name, tensor in made.state_dict().items()}
    state = {
        name: tensor.clone() for name, tensor in give(dalle_mini.places(CONFIG), made.state_dict()).items()
    }
    for name, tensor in state.items():
        if "norm" in name or "ln" in name:
            nn.init.normal_(tensor, std=0.2)
            tensor += name.endswith("weight")
        if name.endswith("weight") and any(f"{norm}.weight" in name for norm in SCALELESS):
            tensor.fill_(1)
    made.load_state_dict(dict(take(list(dalle_mini.places(CONFIG)), state, shapes).state))
    return made


def halves(model: DalleMini, *, scales: bool) -> dict[str, dict[str, Tensor]]:
    """By min-dalle's names; without `scales`, as they were published."""
    found: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in give(dalle_mini.places(CONFIG), model.state_dict()).items():
        half, _, inside = name.partition(":")
        if scales or not any(inside.endswith(f"{norm}.weight") for norm in SCALELESS):
            found[half][inside] = tensor
    return found


def written(folder: Path, files: Mapping[str, Mapping[str, Tensor]]) -> Path:
    for half, tensors in files.items():
        torch.save(dict(tensors), folder / f"{half}.pt")
    return folder


@pytest.mark.parametrize("scales", [True, False])
def test_torch(model, tmp_path, scales):
    found = usable(opened(written(tmp_path, halves(model, scales=scales))))
    assert found.format == "DALL-E mini"
    assert any("scales of 1 in 20 norms" in one for one in found.assumed) != scales
    assert found.parts[0].config == CONFIG
    assert self_check(found.parts[0]) == "a caption gives (4, 18)"
    assert torch.equal(network(found.parts[0])(TEXT, IMAGE), model(TEXT, IMAGE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_flax(flax, model, tmp_path, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in flax.stacked(halves(model, scales=False)).items()}
    (tmp_path / "flax_model.msgpack").write_bytes(flax.packed(flax.nested(tensors)))
    told = {"decoder_attention_heads": 2, "encoder_attention_heads": 2, "decoder_start_token_id": 7}
    (tmp_path / "config.json").write_text(json.dumps(told))
    found = usable(opened(tmp_path))
    assert (found.format, found.contents.kind) == ("DALL-E mini", "Flax msgpack")
    assert found.parts[0].config.start == 7
    again = network(found.parts[0])
    again.config = CONFIG
    exact = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.1, "atol": 0.3}
    torch.testing.assert_close(again(TEXT, IMAGE), model(TEXT, IMAGE), **exact)
    (written_,) = convert(found, tmp_path / "ours")
    config, _ = checkpoint.load(written_, DalleMiniConfig)
    assert config == found.parts[0].config


def test_half_of_it_says_what_is_missing(model, tmp_path):
    files = halves(model, scales=True)
    for half, other in (("encoder", "decoder"), ("decoder", "encoder")):
        torch.save(files[half], tmp_path / half)
        found = opened(tmp_path / half)
        assert f"{other}:embed_tokens.weight" in found.parts[0].taken.missing
        with pytest.raises(LimnerError, match=f"missing: {'decoder:lm' if half == 'encoder' else 'encoder'}"):
            usable(found)


def test_what_does_not_belong_is_said(model, tmp_path):
    files = halves(model, scales=True)
    torch.save({"embedding.weight": torch.zeros(3, 3)}, tmp_path / "detoker.pt")
    assert "detoker.pt is none of it: open it by its own path" in opened(written(tmp_path, files)).assumed
    torch.save(files["encoder"], tmp_path / "again.pt")
    with pytest.raises(LimnerError, match="holds two encoders"):
        opened(tmp_path)
    (tmp_path / "again.pt").unlink()
    torch.save(files["encoder"] | {"layers.1.fc9.weight": torch.zeros(2)}, tmp_path / "encoder.pt")
    with pytest.raises(LimnerError, match=r"left over: encoder:layers\.1\.fc9\.weight"):
        usable(opened(tmp_path))


def test_a_stack_that_flax_would_not_make_is_left_over(flax, model, tmp_path):
    """A norm with statistics, say: nothing here would compute it."""
    extra = {"model.encoder.layers.FlaxBartEncoderLayers.FlaxBartAttention_0.tau": torch.ones(2, 1, 2, 1, 1)}
    (tmp_path / "x").write_bytes(flax.packed(flax.nested(flax.stacked(halves(model, scales=False)) | extra)))
    with pytest.raises(LimnerError, match=r"left over: encoder:layers\.0\.self_attn\.tau"):
        usable(opened(tmp_path / "x"))


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"use_cosine_attention": True}, "its use_cosine_attention is True, and DALL-E mini's here False"),
        ({"ln_positions": "swinv2"}, "its ln_positions is 'swinv2'"),
        ({"decoder_attention_heads": 3}, "128 wide and would have 3 heads"),
        ({"decoder_attention_heads": 2, "encoder_attention_heads": 4}, "heads, in both halves"),
        ({"decoder_start_token_id": 19}, "begin with the token 19 of 19"),
    ],
)
def test_settings_are_believed_and_checked(model, tmp_path, told, says):
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(LimnerError, match=says):
        opened(written(tmp_path, halves(model, scales=True)))


# --- words -----------------------------------------------------------------------------------------

PIECES = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "Ġ",
    *"abcdefghijklmnopqrstuvwxyz,",
    "Ġa",
    "ca",
    "Ġca",
    "Ġcat",
    "at",
]
MERGES = [("Ġ", "a"), ("c", "a"), ("Ġ", "ca"), ("Ġca", "t"), ("a", "t")]
VOCABULARY = {piece: number for number, piece in enumerate(PIECES)}


def by_rank(word: str) -> list[int]:
    """min-dalle's way: the pair of the lowest rank is merged, the first of equals, until none is known."""
    pieces = ["Ġ", *word]
    while len(pieces) > 1:
        ranks = [MERGES.index(p) if p in MERGES else len(MERGES) for p in pairwise(pieces)]
        if min(ranks) == len(MERGES):
            break
        i = ranks.index(min(ranks))
        pieces = [*pieces[:i], pieces[i] + pieces[i + 1], *pieces[i + 2 :]]
    return [VOCABULARY[piece] for piece in pieces]


@pytest.mark.parametrize("whole", [True, False])
def test_words_are_cut_as_min_dalle_cuts_them(tmp_path, whole):
    (tmp_path / "vocab.json").write_text(json.dumps(VOCABULARY))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, MERGES)) + "\n")
    if whole:
        model = models.BPE(vocab=VOCABULARY, merges=MERGES, unk_token="<unk>")
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        (tmp_path / "vocab.json").unlink()
    words = DalleMiniWords.beside(tmp_path)
    text = "A Cat  sat acat"
    expected = [one for word in text.lower().split() for one in by_rank(word)]
    assert words.encode(text) == expected
    assert words.encode("Çat ☃") == by_rank("cat")
    assert words(["a", ""], 5).tolist() == [[0, VOCABULARY["Ġa"], 2, 1, 1], [0, 2, 1, 1, 1]]
    assert words.nothing(4).tolist() == [0, 2, 1, 1]
    with pytest.warns(CutCaptionWarning, match="1 of 1 texts cut to 3 tokens"):
        assert words([text], 5)[0].tolist() == [0, *expected[:3], 2]
    with pytest.raises(ValueError, match="give a list of strings"):
        words("a", 5)


def test_words_that_are_not_there_or_broken(tmp_path):
    with pytest.raises(LimnerError, match=r"lacks vocab\.json"):
        DalleMiniWords.beside(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0}))
    with pytest.raises(LimnerError, match=r"lacks merges\.txt"):
        DalleMiniWords.beside(tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(LimnerError, match=r"cannot be read.*they have no '<s>'"):
        DalleMiniWords.beside(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(LimnerError, match="cannot be read"):
        DalleMiniWords.beside(tmp_path)
