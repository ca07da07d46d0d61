"""GLIDE's noised CLIP: what it computes, written down a second time from the released layout, in parts."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor

from limner import checkpoint
from limner.cli import main
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig, unit
from limner.errors import LimnerError
from limner.formats import glide_clip, network, opened, self_check, usable
from limner.formats.places import Place, give, take
from limner.glide import toward_caption
from limner.pipelines.embedding import reader
from limner.text import ClipTokenizer

CONFIG = ClipConfig(
    vision=VisionConfig(resolution=16, patch=4, width=128, layers=2, heads=2, times=50),
    text=TextConfig(context=12, vocabulary=700, width=64, layers=1, heads=1),
    embedding=24,
    activation="gelu",
)
EOT = 599


def released() -> dict[str, dict[str, Tensor]]:
    """Random numbers in the layout of the two files."""
    with torch.device("meta"):
        shapes = give(glide_clip.places(CONFIG), Clip(CONFIG).state_dict())
    generator = torch.Generator().manual_seed(0)
    files: dict[str, dict[str, Tensor]] = {"image": {}, "text": {}}
    for name, like in shapes.items():
        half, _, key = name.partition(":")
        files[half][key] = 0.2 * torch.randn(like.shape, generator=generator) + key.endswith(".g")
    return files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("clip")
    for name, tensors in released().items():
        torch.save(tensors, where / f"clip_{name}_enc.pt")
    return where


# --- the published formula ---------------------------------------------------------------------------


def layer_norm(x: Tensor, w: dict[str, Tensor], at: str) -> Tensor:
    mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{at}.g"] + w[f"{at}.b"]


def block(x: Tensor, w: dict[str, Tensor], at: str, mask: Tensor) -> Tensor:
    """Queries and values with a bias, keys without; √d divided out of both sides; exact GELU."""
    attn = f"{at}.f_attn"
    r = layer_norm(x, w, f"{attn}.ln")
    q = r @ w[f"{attn}.f_q.w"].T + w[f"{attn}.f_q.b"]
    k = r @ w[f"{attn}.f_k.w"].T
    v = r @ w[f"{attn}.f_v.w"].T + w[f"{attn}.f_v.b"]
    q, k, v = (rearrange(one, "b n (h d) -> b h n d", d=64) for one in (q, k, v))
    weights = (q / 64**0.25) @ (k / 64**0.25).mT + mask
    seen = rearrange(weights.softmax(-1) @ v, "b h n d -> b n (h d)")
    x = x + seen @ w[f"{attn}.f_c.w"].T + w[f"{attn}.f_c.b"]
    mlp = f"{at}.f_mlp"
    h = layer_norm(x, w, f"{mlp}.ln") @ w[f"{mlp}.f_1.w"].T + w[f"{mlp}.f_1.b"]
    h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
    return x + h @ w[f"{mlp}.f_2.w"].T + w[f"{mlp}.f_2.b"]


def image_embedding(w: dict[str, Tensor], pixels: Tensor, t: Tensor) -> Tensor:
    """Pixels from 0 to 255; the row of the time stands where a class token would."""
    mean, std = ([122.77093945, 116.74601272, 104.09373519], [68.50053285, 66.63215831, 70.32316309])
    x = (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    x = rearrange(F.conv2d(x, w["blocks.input.patch_proj"], stride=4), "b c h w -> b (h w) c")
    x = torch.cat([w["blocks.input.w_t"][t][:, None], x], dim=1) + w["blocks.input.w_pos"]
    x = layer_norm(x, w, "blocks.input.ln")
    for number in range(2):
        x = block(x, w, f"blocks.block_{number}", torch.zeros(()))
    return layer_norm(x[:, 0], w, "blocks.output.ln") @ w["blocks.output.f.w"].T


def text_embedding(w: dict[str, Tensor], ids: Tensor, lengths: Tensor) -> Tensor:
    """Causal; what stands at the end token, which is the last of `lengths`."""
    x = w["blocks.input.w_voc"][ids] + w["blocks.input.w_pos"]
    mask = torch.full((ids.shape[1], ids.shape[1]), -1e10).triu(1)
    x = block(x, w, "blocks.block_0", mask)
    x = x[torch.arange(len(x)), lengths - 1]
    return layer_norm(x, w, "blocks.output.ln") @ w["blocks.output.f.w"].T


def captions() -> tuple[Tensor, Tensor]:
    rows = torch.zeros(3, 12, dtype=torch.int64)
    lengths = torch.tensor([5, 2, 12])
    for row, length in zip(rows, lengths.tolist(), strict=True):
        row[:length] = torch.tensor([598, *range(40, 38 + length), EOT])
    return rows, lengths


def test_it_is_what_the_published_formula_computes(folder):
    found = usable(opened(folder))
    assert found.format == "GLIDE noised CLIP"
    assert found.parts[0].config == CONFIG
    assert self_check(found.parts[0]) == "a picture gives (24,) and a caption gives (24,)"
    clip, files = network(found.parts[0]), released()
    assert isinstance(clip, Clip)
    assert clip.scale.item() == pytest.approx(100)
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    t, (ids, lengths) = torch.tensor([0, 20, 49]), captions()
    z_i = image_embedding(files["image"], (pictures + 1) * 127.5, t)
    z_t = text_embedding(files["text"], ids, lengths)
    torch.testing.assert_close(clip.encode_image(pictures, t.float()).pooled, z_i, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(clip.encode_text(ids).pooled, z_t, rtol=1e-5, atol=2e-5)


def test_what_guides_is_the_gradient_of_a_hundred_cosines(folder):
    """In double precision, for gradients lose digits."""
    clip = network(opened(folder).parts[0]).double()
    assert isinstance(clip, Clip)
    files = {half: {key: w.double() for key, w in file.items()} for half, file in released().items()}
    t, (ids, lengths) = torch.tensor([0, 20, 49]), captions()
    noise = torch.randn(3, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    x = noise.clone().requires_grad_()
    z_i = image_embedding(files["image"], (x + 1) * 127.5, t)
    z_t = text_embedding(files["text"], ids, lengths)
    (expected,) = torch.autograd.grad(math.exp(math.log(100)) * (unit(z_t) * unit(z_i)).sum(), x)
    steer = toward_caption(clip, clip.encode_text(ids).pooled, 3.0)
    # Both normalise pixels by numbers that were rounded, each in its own units.
    assert (steer(noise, t.double()) - 3 * expected).abs().max() < 1e-5 * 3 * expected.abs().max()


def test_a_bias_of_keys_changes_nothing(folder):
    """So that what is filled with zeros may be anything, and is left out when it is written back."""
    clip = network(opened(folder).parts[0])
    assert isinstance(clip, Clip)
    pictures, t = torch.rand(2, 3, 16, 16), torch.tensor([3.0, 4.0])
    before = clip.encode_image(pictures, t).pooled
    bias = clip.get_parameter("vision.transformer.blocks.0.attention.qkv.bias")
    assert bias[128:256].abs().max() == 0
    bias[128:256] = torch.randn(128)
    torch.testing.assert_close(clip.encode_image(pictures, t).pooled, before, rtol=1e-4, atol=1e-4)


def test_there_and_back(folder):
    taken = opened(folder).parts[0].taken
    back = give(glide_clip.places(CONFIG), taken.state)
    theirs = {f"{half}:{key}": tensor for half, file in released().items() for key, tensor in file.items()}
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.items())


def test_what_they_do_not_have_is_filled():
    places = [Place("a", ("x", None, "y"), filled=2.0), Place("b", (None,), filled=7.0)]
    tensors = {"x": torch.zeros(1, 3), "y": torch.ones(1, 3)}
    found = take(places, tensors, {"a": (3, 3), "b": ()})
    assert (found.missing, found.wrong, found.unused) == ((), (), ())
    assert found.state["a"].tolist() == [[0.0] * 3, [2.0] * 3, [1.0] * 3]
    assert found.state["b"].item() == 7
    assert give(places, found.state).keys() == {"x", "y"}
    wrong = take(places, tensors | {"y": torch.ones(2, 3)}, {"a": (3, 3), "b": ()})
    assert wrong.wrong == ("x (1, 3) and y (2, 3) where (3, 3) is needed",)


def test_each_file_alone_says_what_the_other_is_for(folder, capsys):
    assert main(["open", str(folder / "clip_image_enc.pt"), "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["parts"]["clip"]["config"]["vision"]["times"] == 50
    assert "the text encoder (clip_text_enc.pt) is not here, and without it no caption is read" in said.err
    assert said.err.count("\n") == 1
    assert main(["open", str(folder / "clip_text_enc.pt")]) == 2
    assert "the image encoder (clip_image_enc.pt) is not here" in capsys.readouterr().err


def test_two_of_a_kind_are_refused(tmp_path):
    for name in ("one", "two"):
        save_file(released()["text"], tmp_path / f"{name}.safetensors")
    with pytest.raises(LimnerError, match="holds two text encoders"):
        opened(tmp_path)


def test_it_becomes_a_clip_of_ours_that_ranks_nothing(folder, tmp_path, capsys):
    out = tmp_path / "ours"
    assert main(["convert", str(folder), "--out", str(out)]) == 0
    assert checkpoint.load(out, ClipConfig)[0] == CONFIG
    for weights in (folder, out):
        with pytest.raises(LimnerError, match="the CLIP that guides GLIDE, which reads noised pictures"):
            reader(weights, "cpu")
    assert main(["convert", str(folder), "--to", "huggingface", "--out", str(tmp_path / "no")]) == 2
    assert "parts of limner's own" in capsys.readouterr().err


def test_its_words_are_clips_in_a_longer_table():
    """[SOT], ids, [EOT], zeros; the end is the largest id though the table goes on."""
    rows = ClipTokenizer()(["a photo of a cat"], 77)
    assert rows[0, :9].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407, 0, 0]
    assert rows.argmax(-1).item() == 6
