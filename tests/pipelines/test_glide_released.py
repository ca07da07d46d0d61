"""GLIDE as it was released, from files in that layout to pictures; networks are tiny and random.

What was released paints 64 and 256 pixels, which no weight says: here these sizes are 16 and 32. The loops
that pictures are compared with are the published ones, written down again from ᾱ on.
"""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import limner
from limner.cli import main
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.formats import convert, glide, opened
from limner.glide import GlideConfig
from limner.pipelines import GlideSettings
from limner.pipelines.folders import model_of
from limner.pipelines.glide import Glide
from limner.pipelines.known import box_mask
from limner.pipelines.settings import GLIDE, GLIDE_AS_RELEASED, commissions
from limner.pipelines.stages import Drawn
from limner.text import ClipTokenizer, Gpt2Tokenizer

QUICK = replace(GLIDE_AS_RELEASED, steps=3, upsampler_steps=2)
CLIP_FILES = ("clip_image_enc.pt", "clip_text_enc.pt")


@pytest.fixture(scope="module")
def folder(tiny, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, size in (("BASE", 16), ("LARGE", 32), ("TRIED", 16)):
            patch.setattr(glide, name, size)
        yield tiny.write_released_glide(tmp_path_factory.mktemp("released") / "glide", base=16, large=32)


@pytest.fixture(scope="module")
def painter(folder):
    return limner.load(folder)


def some(folder: Path, where: Path, *files: str) -> Path:
    """A folder with these of its files."""
    where.mkdir()
    for file in files:
        (where / file).symlink_to(folder / file)
    return where


def pixels(image):
    return np.asarray(image).astype(int)


# --- the published loops -----------------------------------------------------------------------------


class Spaced:
    """Coefficients of a shortened process: β from the ᾱ that are left, and everything else from β."""

    def __init__(self, alpha_bar: np.ndarray, used: list[int]) -> None:
        self.times = used
        kept = alpha_bar[used]
        self.before = np.append(1.0, kept[:-1])
        self.betas = 1 - kept / self.before
        self.kept = np.cumprod(1 - self.betas)
        self.variance = self.betas * (1 - self.before) / (1 - self.kept)
        self.log_variance = np.log(np.append(self.variance[1], self.variance[1:]))

    def ask(self, model, x: Tensor, i: int) -> tuple[Tensor, Tensor, Tensor]:
        """x̂_0 within [−1, 1], the mean of the step down, and its learned variance."""
        eps, share = model(x, torch.full((len(x),), float(self.times[i]))).split(3, dim=1)
        share = (share + 1) / 2
        log_variance = share * math.log(self.betas[i]) + (1 - share) * self.log_variance[i]
        x0 = (math.sqrt(1 / self.kept[i]) * x - math.sqrt(1 / self.kept[i] - 1) * eps).clamp(-1, 1)
        first = self.betas[i] * math.sqrt(self.before[i]) / (1 - self.kept[i])
        second = (1 - self.before[i]) * math.sqrt(1 - self.betas[i]) / (1 - self.kept[i])
        return x0, first * x0 + second * x, log_variance.exp()

    def p_sample_loop(self, model, x: Tensor, draws: Draws, toward=None) -> Tensor:
        for i in reversed(range(len(self.times))):
            _, mean, variance = self.ask(model, x, i)
            if i == 0:
                # They steer here as well, by a variance that is next to nothing; limner does not.
                return mean
            if toward is not None:
                mean = mean + variance * toward(x, float(self.times[i]))
            x = mean + variance.sqrt() * draws.normal(*x.shape[1:])
        raise AssertionError

    def ddim_sample_loop(self, model, x: Tensor) -> Tensor:
        for i in reversed(range(len(self.times))):
            x0, _, _ = self.ask(model, x, i)
            eps = (math.sqrt(1 / self.kept[i]) * x - x0) / math.sqrt(1 / self.kept[i] - 1)
            x = math.sqrt(self.before[i]) * x0 + math.sqrt(1 - self.before[i]) * eps
        return x


def cosine() -> np.ndarray:
    def signal(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return np.cumprod([1 - min(1 - signal((i + 1) / 1000) / signal(i / 1000), 0.999) for i in range(1000)])


def words(prompt: str) -> tuple[Tensor, Tensor]:
    """As `padded_tokens_and_mask`: the end token behind the caption, and False."""
    ids = Gpt2Tokenizer().encode(prompt)[:16]
    row = ids + [50_256] * (16 - len(ids))
    return torch.tensor([row]), torch.tensor([[True] * len(ids) + [False] * (16 - len(ids))])


@torch.no_grad()
def test_the_base_paints_as_the_published_loop(painter):
    """Ancestral, every level the network's own variance; guided on ε, of which there are three channels."""
    settings, prompt = replace(GLIDE_AS_RELEASED, steps=12), "An oil painting of a corgi"
    read = painter.read(commissions(prompt, count=1, seed=4))
    found = painter.draw(read, settings).pictures
    full, empty = words(prompt), words("")

    def model(x: Tensor, t: Tensor) -> Tensor:
        told = painter.base(x, t, ids=full[0], mask=full[1])
        not_told = painter.base(x, t, ids=empty[0], mask=empty[1])
        eps = not_told[:, :3] + 3.0 * (told[:, :3] - not_told[:, :3])
        return torch.cat([eps, told[:, 3:]], dim=1)

    draws = Draws([mix(4, "base")])
    used = [round(i * 999 / 11) for i in range(12)]
    expected = Spaced(cosine(), used).p_sample_loop(model, draws.normal(3, 16, 16), draws)
    torch.testing.assert_close(found, expected.clamp(-1, 1), rtol=1e-4, atol=1e-4)
    assert found.std() > 0.1


def test_noised_clip_leads_as_in_the_published_loop(painter):
    """Without the empty caption; its words have a beginning and an end."""
    settings = replace(GLIDE_AS_RELEASED, steps=6, guidance_kind="clip")
    found = painter.draw(painter.read(commissions("a corgi", count=1, seed=4)), settings).pictures
    ids, mask = words("a corgi")
    with torch.no_grad():
        z_t = F.normalize(painter.clip.encode_text(ClipTokenizer()(["a corgi"], 20)).pooled, dim=-1)

    def toward(x: Tensor, t: float) -> Tensor:
        x = x.detach().requires_grad_()
        z_i = F.normalize(painter.clip.encode_image(x, torch.tensor([t])).pooled, dim=-1)
        (gradient,) = torch.autograd.grad(100 * (z_t * z_i).sum(), x)
        return 3.0 * gradient

    draws = Draws([mix(4, "base")])
    used = [round(i * 999 / 5) for i in range(6)]
    loop = Spaced(cosine(), used)
    model = torch.no_grad()(lambda x, t: painter.base(x, t, ids=ids, mask=mask))
    expected = loop.p_sample_loop(model, draws.normal(3, 16, 16), draws, toward)
    torch.testing.assert_close(found, expected.clamp(-1, 1), rtol=1e-4, atol=1e-4)
    plain = painter.draw(
        painter.read(commissions("a corgi", count=1, seed=4)), replace(settings, clip_guidance=0.0)
    )
    assert (plain.pictures - found).abs().max() > 1e-2


@torch.no_grad()
def test_the_upsampler_enlarges_as_the_published_loop(painter):
    """DDIM at the levels of "fast27", linear β, a little less noise to begin with, eight bits to enlarge."""
    small = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = commissions("a corgi", count=1, seed=4)
    found = painter.enlarge(Drawn(commissions=wanted, pictures=small), GLIDE_AS_RELEASED).pictures
    ids, mask = words("a corgi")
    low = ((small + 1) * 127.5).round() / 127.5 - 1
    assert (low - small).abs().max() > 1e-3

    def model(x: Tensor, t: Tensor) -> Tensor:
        return painter.upsampler(x, t, ids=ids, mask=mask, low=low)

    used = [
        *(0, 22, 44, 66, 88, 111, 133, 155, 177, 199),
        *(200, 222, 244, 266, 288, 311, 333, 355, 377, 399),
        *(400, 500, 599, 600, 799, 800, 997),
    ]
    alpha_bar = np.cumprod(1 - np.linspace(0.0001, 0.02, 1000))
    noise = 0.997 * Draws([mix(4, "upsampler")]).normal(3, 32, 32)
    expected = Spaced(alpha_bar, used).ddim_sample_loop(model, noise)
    torch.testing.assert_close(found, expected.clamp(-1, 1), rtol=1e-4, atol=1e-4)
    assert found.std() > 0.1


# --- painting ----------------------------------------------------------------------------------------


def test_a_folder_of_all_six_files_paints(folder, painter):
    assert model_of(folder) == "glide"
    assert isinstance(painter, Glide)
    assert painter.sizes == (16, 32)
    assert painter.usual == GLIDE_AS_RELEASED
    assert isinstance(painter.base_tokenizer, Gpt2Tokenizer)
    assert not painter.base.config.inpaint
    (image,) = painter.paint("A corgi", settings=QUICK)
    assert image.size == (32, 32)
    assert (pixels(image) == pixels(painter.paint("a corgi", settings=QUICK)[0])).all()
    told = painter.metadata(commissions("a", count=1, seed=0)[0], size=32, settings=painter.usual)
    said = json.loads(told["settings"])
    assert (said["upsampler_steps"], said["upsampler_temperature"]) == ("fast27", 0.997)
    named = limner.load("glide", weights=folder)
    assert named.digest == painter.digest == told["weights"]
    half = limner.load(folder, precision="bf16").paint("a corgi", size=16, settings=QUICK)
    assert half[0].size == (16, 16)


def test_ticks_count_the_levels_that_have_a_name(painter):
    ticks = []
    settings = replace(GLIDE_AS_RELEASED, steps=2)
    painter.paint("a corgi", settings=settings, on_tick=ticks.append)
    assert {tick.total for tick in ticks} == {29}
    assert len(ticks) == 29


def test_other_networks_mend(painter):
    assert painter.mending.base.config.inpaint
    assert painter.mending.upsampler.config.inpaint
    assert painter.mending is painter.mending
    assert painter.mending.clip is painter.clip
    assert painter.mending.digest != painter.digest
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    mask = box_mask((32, 32), (4, 8, 20, 28))
    (mended,) = painter.inpaint(image, mask, "a corgi", settings=QUICK)
    known = np.asarray(mask) == 0
    assert (pixels(mended)[known] == pixels(image)[known]).all()
    assert np.abs(pixels(mended)[~known] - pixels(image)[~known]).max() > 10
    assert painter.redraw(image, "a corgi", strength=0.5, size=16, settings=QUICK)[0].size == (16, 16)


def test_what_convert_writes_paints_the_same(folder, painter, tmp_path):
    written = convert(opened(folder), tmp_path / "ours")
    assert [one.name for one in written] == ["base", "upsampler", "base_inpaint", "upsampler_inpaint", "clip"]
    assert model_of(tmp_path / "ours") == "glide"
    ours = limner.load(tmp_path / "ours")
    assert ours.usual == GLIDE_AS_RELEASED
    settings = replace(QUICK, guidance_kind="both")
    one, two = (each.paint("a corgi", settings=settings)[0] for each in (painter, ours))
    assert np.abs(pixels(one) - pixels(two)).max() <= 1
    assert ours.mending.base.config.inpaint
    shutil.rmtree(tmp_path / "ours" / "clip")
    assert limner.load(tmp_path / "ours").clip is None
    shutil.rmtree(tmp_path / "ours" / "upsampler")
    shutil.rmtree(tmp_path / "ours" / "upsampler_inpaint")
    with pytest.raises(LimnerError, match="holds base, base_inpaint and no upsampler"):
        limner.load(tmp_path / "ours")


def test_a_converted_pair_that_mends_is_a_painter(folder, tmp_path):
    """Without a base, and with no words beside it but GPT-2's."""
    two = some(folder, tmp_path / "two", "base_inpaint.pt", "upsample_inpaint.pt")
    convert(opened(two), tmp_path / "ours")
    assert model_of(tmp_path / "ours") == "glide"
    ours = limner.load(tmp_path / "ours")
    assert ours.clip is None
    assert ours.mending is ours
    image, mask = Image.new("RGB", (32, 32)), box_mask((32, 32), (0, 0, 9, 9))
    assert ours.inpaint(image, mask, "a corgi", settings=QUICK)[0].size == (32, 32)


def test_two_files_are_enough_and_what_is_missing_is_said(folder, tmp_path):
    painter = limner.load(some(folder, tmp_path / "two", "base.pt", "upsample.pt"))
    assert painter.paint("a corgi", size=16, settings=QUICK)
    for settings in (replace(QUICK, guidance_kind="clip"), replace(QUICK, guidance_kind="both")):
        with pytest.raises(ValueError, match="these weights have no noised CLIP to guide: put both of its"):
            painter.paint("a corgi", settings=settings)
    image, mask = Image.new("RGB", (32, 32)), box_mask((32, 32), (0, 0, 9, 9))
    with pytest.raises(ValueError, match="base is a network that paints and does not mend"):
        painter.inpaint(image, mask, "a corgi", settings=QUICK)
    three = limner.load(some(folder, tmp_path / "three", "base.pt", "upsample.pt", "base_inpaint.pt"))
    with pytest.raises(ValueError, match="upsampler is a network that paints and does not mend"):
        three.inpaint(image, mask, "a corgi", settings=QUICK)
    mends = limner.load(some(folder, tmp_path / "mends", "base_inpaint.pt", "upsample_inpaint.pt"))
    assert mends.mending is mends
    assert mends.paint("a corgi", size=16, settings=QUICK)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (("base.pt", *CLIP_FILES), r"holds base, clip and no upsampler, and GLIDE paints with a base and an"),
        (("upsample.pt",), r"holds upsampler and no base, .* put both there \(base\.pt, upsample\.pt\)"),
        (
            ("base.pt", "upsample.pt", "clip_image_enc.pt"),
            r"the text encoder \(clip_text_enc\.pt\) is not here",
        ),
        (CLIP_FILES, "is GLIDE noised CLIP, and no GLIDE"),
    ],
)
def test_too_little_is_one_line(folder, tmp_path, files, says):
    with pytest.raises(LimnerError, match=says):
        limner.load("glide", weights=some(folder, tmp_path / "some", *files))


def test_what_does_not_paint_is_said(folder, tmp_path):
    with pytest.raises(LimnerError, match="is GLIDE noised CLIP, which paints nothing"):
        limner.load(some(folder, tmp_path / "clip", *CLIP_FILES))
    with pytest.raises(ValueError, match=r"weights is .* and model is .* weights already: give one"):
        limner.load(folder, weights=folder)
    with pytest.raises(ValueError, match="model is '/nowhere': choose dalle1, dalle2, dfgan or glide"):
        limner.load("/nowhere")


def test_other_words_are_not_guessed(folder, tmp_path):
    where = some(folder, tmp_path / "some", "upsample.pt")
    tensors = torch.load(folder / "base.pt")
    tensors["token_embedding.weight"] = tensors["token_embedding.weight"][:300].clone()
    torch.save(tensors, where / "base.pt")
    with pytest.raises(LimnerError, match="the base knows 300 words, and GPT-2's are 50257"):
        limner.load(where)
    where = some(folder, tmp_path / "others", "base.pt", "upsample.pt", "clip_image_enc.pt")
    tensors = torch.load(folder / "clip_text_enc.pt")
    tensors["blocks.input.w_voc"] = tensors["blocks.input.w_voc"][:600].clone()
    torch.save(tensors, where / "clip_text_enc.pt")
    with pytest.raises(
        LimnerError, match="its CLIP reads 600 kinds of tokens, and CLIP's own vocabulary has"
    ):
        limner.load(where)


def test_a_line_of_limners_own_paints_by_its_path(glide_line, line, dalle1_line):
    assert [model_of(one) for one in (glide_line, line, dalle1_line)] == ["glide", "dalle2", "dalle1"]
    own = limner.load(glide_line)
    assert own.digest == limner.load("glide", weights=glide_line).digest
    assert own.usual == GLIDE == GlideSettings()


# --- the commands ------------------------------------------------------------------------------------


def told_of(path: str) -> dict[str, str]:
    with Image.open(path) as picture:
        return dict(picture.text)


def test_paint_by_a_path(folder, painter, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["paint", "a corgi", "--model", str(folder), "--device", "cpu", "--out", str(out)]
    assert main([*command, "--steps", "2", "--size", "16"]) == 0
    told = told_of(capsys.readouterr().out.strip())
    said = json.loads(told["settings"])
    assert (said["sampler"], said["steps"], said["guidance"]) == ("ancestral", 2, 3.0)
    assert told["weights"] == painter.digest
    assert main([*command, "--top-k", "3"]) == 2
    assert "top_k is 3, of which only dalle1 and dalle_mini know" in capsys.readouterr().err
    assert main([*command, "--weights", str(folder)]) == 2
    assert "weights already: give one" in capsys.readouterr().err


def test_inpaint_with_those_that_mend(folder, painter, tmp_path, capsys):
    picture = tmp_path / "room.png"
    Image.new("RGB", (64, 64), "red").save(picture)
    options = ["--weights", str(folder), "--device", "cpu", "--steps", "2", "--size", "16"]
    command = ["inpaint", str(picture), "8,16,40,56", "a corgi", "--out", str(tmp_path / "out")]
    assert main([*command, *options]) == 0
    told = told_of(capsys.readouterr().out.strip())
    assert told["weights"] == painter.mending.digest
    assert json.loads(told["settings"])["upsampler_temperature"] == 0.997


def test_opening_says_all_that_is_there(folder, capsys):
    assert main(["open", str(folder)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "GLIDE base, upsampler, base_inpaint, upsampler_inpaint, clip: 6 files" in said
    assert "clip works: a picture gives (16,) and a caption gives (16,)" in said
    assert all(isinstance(part.config, GlideConfig) for part in opened(folder).parts[:4])
