"""DALL-E mini from files in the layouts that are public to pictures; networks are tiny and random.

Words are four, a picture is 3 × 3 codes of 2 × 2 pixels. What guidance and pixels come to is min-dalle's own
loop, written down again.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import limner
from limner import checkpoint
from limner.autoregression import Sampling
from limner.cli import main
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.dalle_mini import DalleMini as Network
from limner.dalle_mini import DalleMiniConfig, sample
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.formats import convert, dalle_mini, network, opened, taming, usable
from limner.formats.places import give
from limner.pipelines import TokenSettings
from limner.pipelines.dalle_mini import DalleMini
from limner.pipelines.folders import model_of
from limner.pipelines.loading import mapped
from limner.pipelines.memory import MemoryWarning
from limner.pipelines.settings import DALLE_MINI_AS_RELEASED, checked_arithmetic, commissions
from limner.pipelines.stages import Developed, Ranked, Read, Written
from limner.text import UnknownCharacterWarning
from limner.vqgan import Decoder, VqGan, VqGanConfig

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "Ġ", *"abcdefghijklmnopqrstuvwxyz,", "Ġa", "ca", "Ġca", "Ġcat"]
MERGES = ["Ġ a", "c a", "Ġ ca", "Ġca t"]
CONFIG = DalleMiniConfig(
    text_context=8,
    text_vocabulary=40,
    padding=1,
    image_vocabulary=13,
    codes=12,
    start=12,
    grid=3,
    width=64,
    hidden=20,
    heads=1,
    encoder_layers=1,
    decoder_layers=2,
)
VQGAN = VqGanConfig(
    resolution=256,
    stem=32,
    widths=(32, 64),
    depth=1,
    attention=(2,),
    latent=8,
    codes=12,
    width=6,
    choice="nearest",
    pixels="unit",
)


@pytest.fixture(scope="module")
def transformer() -> Network:
    torch.manual_seed(0)
    made = Network(CONFIG).eval().requires_grad_(False)
    for name, tensor in made.state_dict().items():
        if "norm" not in name:
            tensor.normal_(std=0.3)
    return made


@pytest.fixture(scope="module")
def vqgan() -> VqGan:
    """Pictures that go beyond black and white, so that it matters where they are cut off."""
    torch.manual_seed(1)
    made = VqGan(VQGAN).eval().requires_grad_(False)
    for tensor in made.state_dict().values():
        tensor += 0.1 * torch.randn_like(tensor)
    made.decoder.codebook.codes.normal_()
    made.decoder.out.weight *= 3
    return made


def words(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(PIECES)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")
    return folder


def halves(model: Network) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {"encoder": {}, "decoder": {}}
    for name, tensor in give(dalle_mini.places(CONFIG), model.state_dict()).items():
        half, _, inside = name.partition(":")
        found[half][inside] = tensor
    return found


def detoker(vqgan: VqGan) -> dict[str, Tensor]:
    return give(taming.detoker_places(VQGAN), vqgan.decoder.state_dict())


def flaxed(vqgan: VqGan, *, ones: bool) -> dict[str, Tensor]:
    """By vqgan-jax's names, kernels height × width × in × out; norms once had three dimensions of one."""
    found: dict[str, Tensor] = {}
    for name, tensor in give(taming.places(VQGAN), vqgan.state_dict()).items():
        *path, end = name.split(".")
        joined: list[str] = []
        for one in path:
            if one.isdigit():
                joined[-1] += f"_{one}"
            else:
                joined.append(one)
        if end == "weight":
            norm = "norm" in path[-1]
            end = "embedding" if "embedding" in path else "scale" if norm else "kernel"
            if path[-1] in "qkv" or path[-1] == "proj_out":
                tensor = tensor.reshape(*tensor.shape[:2], 1, 1)
        tensor = tensor.permute(2, 3, 1, 0) if end == "kernel" else tensor
        if ones and "norm" in path[-1]:
            tensor = tensor.reshape(1, 1, 1, -1)
        found[".".join([*joined, end])] = tensor
    return found


@pytest.fixture(scope="module")
def folder(transformer, vqgan, tmp_path_factory) -> Path:
    """What min-dalle's users have, in one folder."""
    made = words(tmp_path_factory.mktemp("released") / "mini")
    for half, tensors in halves(transformer).items():
        torch.save(tensors, made / f"{half}.pt")
    torch.save(detoker(vqgan), made / "detoker.pt")
    return made


@pytest.fixture(scope="module")
def painter(folder) -> DalleMini:
    return limner.load(folder)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def copied(folder: Path, where: Path, *without: str) -> Path:
    return shutil.copytree(folder, where, ignore=lambda *_: set(without))


def same(one: DalleMini, other: DalleMini) -> None:
    settings = TokenSettings(guidance=4.0, top_k=6)
    first, second = (each.paint("a cat", settings=settings, stages=True) for each in (one, other))
    (_, tokens, developed), (_, again, redeveloped) = list(first), list(second)
    assert torch.equal(tokens.tokens, again.tokens)
    torch.testing.assert_close(developed.pictures, redeveloped.pictures, rtol=1e-5, atol=1e-5)


# --- the figure --------------------------------------------------------------------------------------


def test_the_steps_are_min_dalles(painter, transformer, vqgan):
    """Ids, then codes of guided logits, then pixels that min-dalle cuts to 0 and 1 and takes 255 times."""
    settings = TokenSettings(guidance=16.0, top_k=5)
    read, written, developed = painter.paint("A cat, b", seed=5, settings=settings, stages=True)
    assert [type(one) for one in (read, written, developed)] == [Read, Written, Developed]
    # The pieces by hand: Ġcat, then the comma and b, each with its space but the comma.
    ids = [0, PIECES.index("Ġa"), PIECES.index("Ġcat"), PIECES.index(","), 4, PIECES.index("b"), 2, 1]
    assert read.ids.tolist() == [ids]
    nothing = torch.tensor([[0, 2, 1, 1, 1, 1, 1, 1]])
    draws, chosen = Draws([mix(5, "dalle_mini")]), []
    for _ in range(9):
        image = torch.tensor([[*chosen, 0]])
        empty, full = (transformer(text, image)[0, -1, :12] for text in (nothing, read.ids))
        logits = empty * (1 - 16.0) + full * 16.0
        kept = logits >= logits.sort(descending=True).values[4]
        logits = logits.masked_fill(~kept, -torch.inf)
        chosen.append(int((logits + draws.gumbel(12)[0]).argmax()))
    assert written.tokens.flatten().tolist() == chosen
    painted = vqgan.decoder.out  # the last layer, whose output is what min-dalle cuts
    raw = []
    hook = painted.register_forward_hook(lambda _module, _given, out: raw.append(out))
    vqgan.decoder(vqgan.decoder.codebook.codes[written.tokens])
    hook.remove()
    assert float(raw[0].min()) < 0
    assert float(raw[0].max()) > 1
    theirs = (raw[0][0].permute(1, 2, 0).clip(0, 1) * 255).numpy()
    (image,) = developed.images()
    # They cut what is left behind the point, and limner rounds.
    assert np.abs(pixels(image) - theirs).max() <= 0.51


def test_as_it_is_painted_by_the_room(painter, folder, transformer):
    (image,) = painter.paint("a cat", seed=3)
    tokens = sample(
        transformer,
        painter.words(["a cat"], 8),
        nothing=painter.words.nothing(8),
        draws=Draws([mix(3, "dalle_mini")]),
        sampling=Sampling(top_k=256),
        guidance=16.0,
    )
    assert image.size == (6, 6) == (painter.sizes * 2)
    assert (pixels(image) == pixels(painter.paint("a cat", seed=3)[0])).all()
    decoder = network(usable(opened(folder)).parts[1])
    assert isinstance(decoder, Decoder)
    expected = ((decoder.decode(tokens)[0] + 1) * 127.5).round().permute(1, 2, 0)
    assert np.abs(pixels(image) - expected.numpy()).max() <= 1
    assert painter.usual == DALLE_MINI_AS_RELEASED == TokenSettings(guidance=16.0, top_k=256)


def test_neighbours_and_turns_change_nothing(painter, monkeypatch):
    settings = TokenSettings(guidance=2.0)
    alone = [painter.paint("b", seed=seed, settings=settings)[0] for seed in (4, 5, 6)]
    several = painter.paint(["a cat", "b"], count=3, seed=4, settings=settings)
    for one, other in zip(alone, several[3:], strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() <= 1
    each = painter.bytes_each(settings)
    monkeypatch.setattr("limner.pipelines.dalle_mini.free_bytes", lambda _: int(2.5 * each))
    with pytest.warns(MemoryWarning, match="of 6 pictures 2 fit into memory at once"):
        turns = painter.paint(["a cat", "b"], count=3, seed=4, settings=settings)
    for one, other in zip(several, turns, strict=True):
        assert np.abs(pixels(one) - pixels(other)).max() <= 1
    monkeypatch.setattr("limner.pipelines.dalle_mini.free_bytes", lambda _: each // 2)
    with pytest.raises(LimnerError, match="0 pictures fit into memory"):
        painter.paint("a cat", settings=settings)


def test_memory_is_what_the_caches_take(painter):
    """Keys and values of two layers, 9 places and 8 words, each picture with its words and without."""
    assert painter.bytes_each(TokenSettings(guidance=16.0)) == 2 * 2 * 2 * 64 * (9 + 8) * 4
    assert painter.bytes_each(TokenSettings(guidance=1.0)) == 2 * 2 * 64 * (9 + 8) * 4


def test_ticks_count_rows_and_pictures(painter):
    ticks = []
    painter.paint("a cat", count=2, on_tick=ticks.append)
    assert [(tick.doing, tick.done, tick.total) for tick in ticks] == [
        ("writing", 2, 8),
        ("writing", 4, 8),
        ("writing", 6, 8),
        ("developing", 8, 8),
    ]


def test_clip_keeps_the_best_where_there_is_a_choice(folder, tmp_path):
    where = copied(folder, tmp_path / "with-clip")
    config = ClipConfig(
        vision=VisionConfig(resolution=8, patch=4, width=64, layers=1, heads=1),
        text=TextConfig(context=16, vocabulary=600, width=64, layers=1, heads=1),
        embedding=32,
        activation="gelu",
    )
    torch.manual_seed(0)
    checkpoint.save(where / "clip", Clip(config).state_dict(), config)
    painter = limner.load(where)
    settings = TokenSettings(candidates=4)
    *_, developed, ranked = painter.paint(["a cat", "b"], count=2, settings=settings, stages=True)
    assert isinstance(ranked, Ranked)
    assert len(developed.images()) == 8
    scores = painter.rank(developed, count=4, of=4).scores.view(2, 4)
    assert torch.equal(ranked.scores.view(2, 2), scores[:, :2])
    assert (scores.diff(dim=1) <= 0).all()
    images = painter.paint(["a cat", "b"], count=2, settings=settings)
    assert [one.tobytes() for one in images] == [one.tobytes() for one in ranked.images()]
    told = painter.metadata(ranked.commissions[0], settings=settings, score=float(ranked.scores[0]))
    assert (told["candidates"], told["score"]) == ("4", f"{ranked.scores[0]:.4f}")


# --- where it lies -----------------------------------------------------------------------------------


def test_a_folder_is_a_painter(folder, painter):
    assert model_of(folder) == "dalle_mini"
    found = usable(opened(folder))
    assert [(part.name, part.config) for part in found.parts] == [("dalle_mini", CONFIG), ("detoker", VQGAN)]
    said = f"{folder / 'detoker.pt'}: pixels from 0 to 1, as DALL-E mini shows them to its VQGAN"
    assert said in found.assumed
    assert limner.load("dalle_mini", weights=folder).digest == painter.digest


@pytest.mark.parametrize("where", ["within", "beside", "root"])
def test_min_dalles_own_folders(painter, folder, tmp_path, where):
    """It keeps a folder for the transformer and one for the VQGAN beside it."""
    root = tmp_path / "pretrained"
    mini = copied(folder, root / "dalle_bart_mini", "detoker.pt")
    vqgan = (mini if where == "within" else root) / "vqgan"
    vqgan.mkdir()
    shutil.copy(folder / "detoker.pt", vqgan)
    again = limner.load(root if where == "root" else mini)
    assert again.digest == painter.digest
    same(again, painter)


@pytest.mark.parametrize("kept", ["taming", "flax", "flax, older"])
def test_a_whole_vqgan_will_do(flax, painter, folder, vqgan, tmp_path, kept):
    """Its pixels are DALL-E mini's all the same."""
    mini = copied(folder, tmp_path / "mini", "detoker.pt")
    (mini / "vqgan").mkdir()
    if kept == "taming":
        state = give(taming.places(VQGAN), vqgan.state_dict())
        torch.save({"state_dict": state | {"loss.logvar": torch.zeros(())}}, mini / "vqgan" / "last.ckpt")
    else:
        tensors = flaxed(vqgan, ones=kept == "flax, older")
        (mini / "vqgan" / "flax_model.msgpack").write_bytes(flax.packed(flax.nested(tensors)))
    found = usable(opened(mini))
    assert [(part.name, part.config) for part in found.parts][1] == ("vqgan", VQGAN)
    same(limner.load(mini), painter)


@pytest.mark.parametrize("place", ["vqgan/flax_model.msgpack", "detoker.pt", "last.ckpt", "vqgan.msgpack"])
def test_flax_paints_whatever_its_vqgan_is_kept_as(flax, painter, transformer, vqgan, tmp_path, place):
    mini = words(tmp_path / "mini")
    tensors = flax.stacked(halves(transformer))
    (mini / "flax_model.msgpack").write_bytes(flax.packed(flax.nested(tensors)))
    (mini / "config.json").write_text(json.dumps({"decoder_attention_heads": 1, "use_bias": False}))
    file = mini / place
    file.parent.mkdir(exist_ok=True)
    if file.suffix == ".msgpack":
        file.write_bytes(flax.packed(flax.nested(flaxed(vqgan, ones=False))))
    else:
        state = give(taming.places(VQGAN), vqgan.state_dict())
        torch.save(detoker(vqgan) if place == "detoker.pt" else state, file)
    same(limner.load(mini), painter)
    (mini / "merges.txt").unlink()
    with pytest.raises(LimnerError, match=r"mini lacks merges\.txt"):
        limner.load(mini)


def test_what_convert_writes_paints_the_same(folder, painter, vqgan, tmp_path):
    written = convert(opened(folder), tmp_path / "ours")
    assert [one.name for one in written] == ["dalle_mini", "detoker"]
    assert sorted(one.name for one in (tmp_path / "ours" / "dalle_mini").iterdir()) == [
        "config.json",
        "merges.txt",
        "model.safetensors",
        "vocab.json",
    ]
    assert model_of(tmp_path / "ours") == "dalle_mini"
    ours = limner.load(tmp_path / "ours")
    same(ours, painter)
    mini = copied(folder, tmp_path / "mini", "detoker.pt")
    torch.save(give(taming.places(VQGAN), vqgan.state_dict()), mini / "vqgan.ckpt")
    convert(opened(mini), tmp_path / "whole")
    same(limner.load(tmp_path / "whole"), painter)


def test_nothing_of_it_is_copied(folder, tmp_path, monkeypatch):
    """Mega has ten gigabytes: what was read of the file is what computes."""
    ours = convert(opened(folder), tmp_path / "ours")[0]
    read, load = {}, checkpoint.load

    def noted(*arguments):
        config, state = load(*arguments)
        read.update(state)
        return config, state

    monkeypatch.setattr(checkpoint, "load", noted)
    model = mapped(ours, DalleMiniConfig, Network, torch.device("cpu"))
    places = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    assert places == {name: tensor.data_ptr() for name, tensor in read.items()}
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_what_is_missing_is_one_line(folder, tmp_path):
    bare = copied(folder, tmp_path / "bare", "detoker.pt")
    with pytest.raises(LimnerError, match=r"bare has no VQGAN, .* put min-dalle's detoker\.pt there, or"):
        limner.load(bare)
    mute = copied(folder, tmp_path / "mute", "vocab.json", "merges.txt")
    with pytest.raises(LimnerError, match=r"mute lacks vocab\.json: DALL-E mini's words are in"):
        limner.load(mute)
    half = copied(folder, tmp_path / "half", "decoder.pt")
    with pytest.raises(LimnerError, match=r"dalle_mini: missing: decoder:"):
        limner.load(half)
    shutil.copy(folder / "detoker.pt", bare / "one.pt")
    shutil.copy(folder / "detoker.pt", bare / "two.pt")
    with pytest.raises(LimnerError, match=r"holds two VQGANs, one\.pt and two\.pt: leave one"):
        limner.load(bare)
    convert(opened(folder), tmp_path / "ours")
    shutil.rmtree(tmp_path / "ours" / "detoker")
    with pytest.raises(LimnerError, match="ours holds no detoker and no vqgan: put min-dalle's"):
        limner.load(tmp_path / "ours")
    with pytest.raises(LimnerError, match=r"no weights at .*nowhere: give a folder that holds DALL-E mini"):
        limner.load("dalle_mini", weights=tmp_path / "nowhere")
    with pytest.raises(ValueError, match="model is 'dalle_mini', whose weights do not ship: give the path"):
        limner.load("dalle_mini")
    with pytest.raises(LimnerError, match="is min-dalle detoker, and no DALL-E mini"):
        limner.load("dalle_mini", weights=folder / "detoker.pt")


def test_one_of_both_is_asked_for(folder, tmp_path):
    for name in ("dalle_bart_mini", "dalle_bart_mega"):
        copied(folder, tmp_path / "pretrained" / name, "detoker.pt")
    with pytest.raises(
        LimnerError, match=r"pretrained holds two (en|de)coders: give a folder with one of each"
    ):
        limner.load(tmp_path / "pretrained")


def test_parts_of_different_families_are_refused(folder, vqgan, tmp_path):
    other = copied(folder, tmp_path / "other")
    torch.save(
        detoker(vqgan) | {"embedding.weight": torch.zeros(9, 6)},
        other / "detoker.pt",
    )
    with pytest.raises(LimnerError, match="the VQGAN has 9 codes where 12 are written"):
        limner.load(other)
    more = copied(folder, tmp_path / "more")
    pieces: Mapping[str, int] = json.loads((more / "vocab.json").read_text())
    (more / "vocab.json").write_text(json.dumps({**pieces, "zz": 40}))
    with pytest.raises(LimnerError, match="there are 41 words where the network knows 40; mini's and mega's"):
        limner.load(more)


# --- at the door -------------------------------------------------------------------------------------


def test_words_that_it_does_not_have(painter):
    with pytest.raises(ValueError, match=r"prompt is '猫', of which DALL-E mini reads nothing"):
        painter.paint("猫")
    with pytest.warns(UnknownCharacterWarning, match="no word of this model holds 猫 ☃: it is left out"):
        painter.paint(["a 猫", "b ☃ é 猫"])
    with pytest.raises(ValueError, match="size is 64: choose 6"):
        painter.paint("a cat", size=64)
    with pytest.raises(ValueError, match="candidates is 1, fewer than the 2 pictures wanted"):
        painter.paint("a cat", count=2, settings=replace(painter.usual, candidates=1))
    with pytest.raises(ValueError, match="precision is 'bf16': dalle_mini has no U-Net"):
        checked_arithmetic("dalle_mini", precision="bf16", compile=False)


def told_of(path: str) -> dict[str, str]:
    with Image.open(path) as picture:
        return dict(picture.text)


def test_the_command(folder, painter, tmp_path, capsys):
    command = [
        "paint",
        "a cat",
        "b",
        "--model",
        str(folder),
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*command, "--count", "2", "--seed", "7", "--guidance", "10"]) == 0
    paths = capsys.readouterr().out.split()
    assert [Path(path).name for path in paths] == [
        "a-cat-seed7-1.png",
        "a-cat-seed8-2.png",
        "b-seed7-1.png",
        "b-seed8-2.png",
    ]
    settings = replace(painter.usual, guidance=10.0)
    images = painter.paint(["a cat", "b"], count=2, seed=7, settings=settings)
    for path, image in zip(paths, images, strict=True):
        with Image.open(path) as saved:
            assert saved.tobytes() == image.tobytes()
    assert told_of(paths[1]) == painter.metadata(commissions("a cat", count=2, seed=7)[1], settings=settings)
    told = json.loads(told_of(paths[1])["settings"])
    assert told == {"size": 6, "guidance": 10.0, "temperature": 1.0, "top_k": 256, "top_p": None}
    assert main([*command, "--sheet", "--temperature", "0", "--top-k", "3", "--top-p", "0.9"]) == 0
    sheet = told_of(capsys.readouterr().out.strip())
    assert "score" not in sheet


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--steps", "3"], "steps is 3, of which only dalle2 and glide know"),
        (["--precision", "bf16"], "precision is 'bf16': dalle_mini has no U-Net"),
        (["--weights", "x"], "weights already: give one"),
        (["--size", "256"], "size is 256: choose 6"),
        (["--top-k", "0"], "top_k is 0: give a whole number from 1"),
        (["--candidates", "1", "--count", "2"], "candidates is 1, fewer than the 2"),
    ],
)
def test_the_command_refuses_in_one_line(folder, tmp_path, capsys, options, says):
    out = ["--device", "cpu", "--out", str(tmp_path / "out")]
    assert main(["paint", "a cat", "--model", str(folder), *out, *options]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert says in said.err
    assert not (tmp_path / "out").exists()
