"""A whole unCLIP as diffusers saves it, of random weights: opened here it paints the same picture."""

import copy
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from limner.clip.tower import PIXEL_MEAN, PIXEL_STD
from limner.dalle2.decoder import ClipTokens
from limner.draws import Draws, mix
from limner.errors import LimnerError
from limner.formats import convert, network, opened, self_check, usable
from limner.formats.writing import to_diffusers
from limner.pipelines.dalle2 import Dalle2
from limner.pipelines.inversion import embed
from limner.pipelines.manipulations import vary
from limner.pipelines.settings import UNCLIP_AS_RELEASED, Commission
from limner.pipelines.stages import Imagined
from limner.text.bpe import _merges, byte_letters
from limner.weights import shipped

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
from diffusers.pipelines.deprecated.unclip import UnCLIPImageVariationPipeline, UnCLIPPipeline  # noqa: E402
from diffusers.pipelines.deprecated.unclip.text_proj import UnCLIPTextProjModel  # noqa: E402

# diffusers hands torch tensors to numpy in a way that numpy 2 frowns upon.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

EMBEDDING, CONTEXT, WORDS = 32, 77, 49_408
SMALL, LARGE = 16, 64
PROMPT, SEED = "a red apple on a table", 5


def randomised(model: nn.Module, std: float) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=std, generator=generator)
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.data.add_(1)
    return model.eval().requires_grad_(False)


def tokenizer() -> Any:
    merges = _merges()
    letters = byte_letters()
    pieces = [*letters, *(letter + "</w>" for letter in letters), *(one + two for one, two in merges)]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    return transformers.CLIPTokenizer(vocab=vocab, merges=list(merges), model_max_length=CONTEXT)


def text_encoder() -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=WORDS,
        hidden_size=EMBEDDING,
        intermediate_size=4 * EMBEDDING,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        projection_dim=EMBEDDING,
        hidden_act="quick_gelu",
        bos_token_id=WORDS - 2,
        eos_token_id=WORDS - 1,
    )
    return randomised(transformers.CLIPTextModelWithProjection(config), 0.15)


def image_encoder() -> Any:
    config = transformers.CLIPVisionConfig(
        image_size=24,
        patch_size=8,
        hidden_size=48,
        intermediate_size=192,
        num_hidden_layers=2,
        num_attention_heads=3,
        projection_dim=EMBEDDING,
        hidden_act="quick_gelu",
    )
    return randomised(transformers.CLIPVisionModelWithProjection(config), 0.15)


def upsampler() -> Any:
    return diffusers.UNet2DModel(
        sample_size=LARGE,
        in_channels=6,
        out_channels=3,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D",) * 2,
        up_block_types=("ResnetUpsampleBlock2D",) * 2,
        add_attention=False,
        flip_sin_to_cos=True,
        freq_shift=0,
    )


def scheduler(prediction: str, variance: str, bound: float = 1.0) -> Any:
    return diffusers.UnCLIPScheduler(
        prediction_type=prediction, variance_type=variance, clip_sample_range=bound
    )


def sharpened(scheduler: Any) -> None:
    """Their coefficients in float64, as limner's are: in float32 1 − ᾱ is off by 0.1 % at the last step."""
    edges = torch.arange(1001, dtype=torch.float64) / 1000
    signal = torch.cos((edges + 0.008) / 1.008 * torch.pi / 2).square()
    betas = (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
    torch.testing.assert_close(betas.float(), scheduler.betas, rtol=1e-4, atol=0)
    scheduler.betas, scheduler.alphas = betas, 1 - betas
    scheduler.alphas_cumprod = scheduler.alphas.cumprod(0)


def calm(network: Any, last: str = "conv_out") -> Any:
    """With a quiet last layer: random networks, guided eightfold, otherwise make chaos of rounding."""
    getattr(network, last).weight.data.mul_(0.3)
    return network


def decoding() -> dict[str, Any]:
    """What both of their pipelines have."""
    decoder = diffusers.UNet2DConditionModel(
        sample_size=SMALL,
        in_channels=3,
        out_channels=6,
        block_out_channels=(32, 64),
        layers_per_block=2,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        resnet_time_scale_shift="scale_shift",
        class_embed_type="identity",
        cross_attention_dim=24,
        attention_head_dim=16,
        flip_sin_to_cos=True,
        freq_shift=0,
    )
    text_proj = UnCLIPTextProjModel(
        clip_embeddings_dim=EMBEDDING, time_embed_dim=4 * 32, cross_attention_dim=24
    )
    return {
        "decoder": calm(randomised(decoder, 0.06)),
        "text_proj": randomised(text_proj, 0.1),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
        "super_res_first": calm(randomised(upsampler(), 0.06)),
        "super_res_last": calm(randomised(upsampler(), 0.04)),
        "decoder_scheduler": scheduler("epsilon", "learned_range"),
        "super_res_scheduler": scheduler("epsilon", "fixed_small_log"),
    }


@pytest.fixture(scope="module")
def pipeline() -> Any:
    prior = diffusers.PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        embedding_dim=EMBEDDING,
        num_embeddings=CONTEXT,
    )
    return UnCLIPPipeline(
        prior=calm(randomised(prior, 0.15), "proj_to_clip_embeddings"),
        prior_scheduler=scheduler("sample", "fixed_small_log", 5.0),
        **decoding(),
    )


@pytest.fixture(scope="module")
def folder(pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("karlo")
    pipeline.save_pretrained(path)
    return path


def draws_of(size: int) -> Draws:
    """limner's chance at each stage, told apart by the shape of what is drawn."""
    key = {EMBEDDING: ("prior", 0), SMALL: ("decoder",), LARGE: ("upsampler",)}[size]
    return Draws([mix(SEED, *key)], device=torch.device("cpu"))


@pytest.fixture
def chance(monkeypatch: pytest.MonkeyPatch) -> dict[int, Draws]:
    """Their schedulers draw what limner draws."""
    draws = {size: draws_of(size) for size in (EMBEDDING, SMALL, LARGE)}

    def drawn(shape: torch.Size, **_: Any) -> Tensor:
        return draws[shape[-1]].normal(*shape[1:])

    monkeypatch.setattr("diffusers.schedulers.scheduling_unclip.randn_tensor", drawn)
    return draws


def theirs(pipeline: Any, chance: dict[int, Draws], **told: Any) -> np.ndarray[Any, Any]:
    """Their picture, 0 to 255."""
    latents = {
        "decoder_latents": chance[SMALL].normal(3, SMALL, SMALL),
        "super_res_latents": chance[LARGE].normal(3, LARGE, LARGE),
    }
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(**told, **latents, output_type="np").images[0] * 255


@pytest.mark.parametrize("sharp", [False, True])
def test_the_same_picture(pipeline: Any, folder: Path, chance: dict[int, Draws], sharp: bool) -> None:
    """At the pipeline's own settings: 25, 25 and 7 steps, guidance 4 and 8, the last network at the end."""
    found = opened(folder)
    assert found.format == "unCLIP of diffusers"
    assert [part.name for part in found.parts] == ["text_encoder", "prior", "decoder", "upsampler"]
    assert found.complaints == []
    assert found.assumed == ()
    assert all("gives" in self_check(part) for part in usable(found).parts)
    painter = Dalle2.load(folder)
    (picture,) = painter.paint(PROMPT, seed=SEED)
    other = copy.deepcopy(pipeline)
    if sharp:
        for name in ("prior", "decoder", "super_res"):
            sharpened(getattr(other, f"{name}_scheduler"))
    expected = theirs(other, chance, prompt=PROMPT, prior_latents=chance[EMBEDDING].normal(EMBEDDING))
    assert expected.std() > 20
    off = np.abs(np.asarray(picture, dtype=np.float64) - expected)
    if sharp:
        # Half a level is limner's rounding to whole ones.
        assert off.max() <= 0.51
    else:
        assert (off <= 1).mean() >= 0.99


def test_converted_it_paints_the_same(folder: Path, tmp_path: Path) -> None:
    convert(opened(folder), tmp_path / "ours")
    painter = Dalle2.load(tmp_path / "ours")
    direct = Dalle2.load(folder)
    assert painter.usual == UNCLIP_AS_RELEASED
    for one, other in zip(painter.paint(PROMPT, seed=1), direct.paint(PROMPT, seed=1), strict=True):
        assert np.abs(np.asarray(one, dtype=np.int16) - np.asarray(other, dtype=np.int16)).max() <= 1
    with pytest.raises(LimnerError, match="does not look at pictures"):
        vary(painter, painter.paint(PROMPT)[0])


def test_to_vary_pictures(chance: dict[int, Draws], tmp_path: Path) -> None:
    """Their pipeline without a prior: what CLIP sees is the embedding, and limner's own is the same."""
    other = UnCLIPImageVariationPipeline(
        image_encoder=image_encoder(), feature_extractor=transformers.CLIPImageProcessor(), **decoding()
    )
    other.save_pretrained(tmp_path / "as it is")
    odd = changed(
        tmp_path / "as it is",
        tmp_path / "odd",
        "feature_extractor",
        "preprocessor_config.json",
        image_mean=[0.5] * 3,
    )
    with pytest.raises(LimnerError, match="its pictures have the image_mean"):
        opened(odd)
    found = opened(tmp_path / "as it is")
    assert [part.name for part in found.parts] == ["clip", "decoder", "upsampler"]
    assert found.assumed == ("a scale of 100 between CLIP's towers, as in all that OpenAI published",)
    painter = Dalle2.load(tmp_path / "as it is")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    seen = embed(painter, [image])
    expected = other.image_encoder(normalised(image)).image_embeds
    torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="these weights have none"):
        painter.paint(PROMPT)
    drawn = painter.draw(
        understood := painter.understand([Commission("", SEED)]),
        Imagined(
            commissions=understood.commissions,
            embeddings=seen,
            candidates=seen[:, None],
            scores=torch.ones(1, 1),
        ),
        UNCLIP_AS_RELEASED,
    )
    (picture,) = painter.enlarge(drawn, UNCLIP_AS_RELEASED).images()
    expected_pixels = theirs(other, chance, image_embeddings=expected)
    assert np.abs(np.asarray(picture, dtype=np.float64) - expected_pixels).max() <= 1.0


def normalised(image: Image.Image) -> Tensor:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return (pixels - mean) / std


def test_there_and_back_to_diffusers(pipeline: Any, folder: Path, tmp_path: Path) -> None:
    """Converted to limner's own and written for them again: they load it, and all of it is as it was."""
    convert(opened(folder), tmp_path / "ours")
    again = UnCLIPPipeline.from_pretrained(to_diffusers(tmp_path / "ours", tmp_path / "back"))
    for name in ("prior", "decoder", "text_proj", "text_encoder", "super_res_first", "super_res_last"):
        one, other = getattr(again, name), getattr(pipeline, name)
        assert one.state_dict().keys() == other.state_dict().keys()
        assert all(torch.equal(tensor, other.state_dict()[key]) for key, tensor in one.state_dict().items())
        if name != "text_encoder":
            mine, theirs_ = (json.loads(json.dumps(dict(network.config))) for network in (one, other))
            same = {key for key in mine if key[0] != "_" and mine[key] != theirs_[key]}
            assert same <= {"attention_head_dim", "mid_block_type"}, (name, same)
    for name in ("prior", "decoder", "super_res"):
        one, other = (dict(getattr(some, f"{name}_scheduler").config) for some in (again, pipeline))
        assert {key: one[key] for key in one if key[0] != "_"} == {
            key: other[key] for key in other if key[0] != "_"
        }
    assert again.tokenizer(PROMPT).input_ids == pipeline.tokenizer(PROMPT).input_ids
    found = opened(tmp_path / "back")
    assert found.complaints == []
    assert [part.config for part in found.parts] == [part.config for part in opened(folder).parts]


def test_what_theirs_cannot_be_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(LimnerError, match="takes unit embeddings"):
        to_diffusers(shipped("dalle2"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@torch.no_grad()
def test_every_network_by_itself(pipeline: Any, folder: Path) -> None:
    """The words' tower, the prior, the decoder with its two ways in, both upsamplers: each within 1e-4."""
    text, prior, decoder, upsampler = (network(part) for part in opened(folder).parts)
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(2, *shape, generator=generator)

    ids = torch.zeros(2, CONTEXT, dtype=torch.int64)
    ids[:, :3] = torch.tensor([[WORDS - 2, 320, WORDS - 1], [WORDS - 2, WORDS - 1, 0]])
    said = pipeline.text_encoder(ids)
    pooled, tokens = text.encode_text(ids)
    close(pooled, said.text_embeds)
    close(tokens, said.last_hidden_state)

    mask = torch.arange(CONTEXT) < torch.tensor([[3], [2]])
    x, t = drawn(EMBEDDING), torch.tensor([40.0, 900.0])
    close(
        prior(x, t, tokens=tokens, caption=pooled, mask=mask),
        pipeline.prior(x, t, pooled, tokens, mask).predicted_image_embedding,
    )
    close(prior.embeddings(x), pipeline.prior.post_process_latents(x))

    z, noised = drawn(EMBEDDING), drawn(3, SMALL, SMALL)
    rows, condition = pipeline.text_proj(
        image_embeddings=z,
        prompt_embeds=pooled,
        text_encoder_hidden_states=tokens,
        do_classifier_free_guidance=False,
    )
    seen = torch.cat([torch.ones(2, 4, dtype=torch.bool), mask], dim=1)
    keep = torch.ones(2, dtype=torch.bool)
    close(
        decoder(noised, t, picture=z, keep_picture=keep, caption=ClipTokens(tokens, pooled, mask)),
        pipeline.decoder(noised, t, rows, class_labels=condition, attention_mask=seen).sample,
    )

    large, low = drawn(3, LARGE, LARGE), drawn(3, SMALL, SMALL)
    size = {"size": (LARGE, LARGE), "mode": "bicubic", "antialias": True}
    pair = torch.cat([large, torch.nn.functional.interpolate(low, **size)], dim=1)
    for theirs_, time in ((pipeline.super_res_first, 500), (pipeline.super_res_last, 0)):
        close(upsampler(large, torch.full((2,), float(time)), low=low), theirs_(pair, time).sample)


def close(one: Tensor, other: Tensor) -> None:
    assert one.shape == other.shape
    assert float((one - other).abs().max()) <= 1e-4 * max(1.0, float(other.abs().max()))


@torch.no_grad()
def test_the_words_tower_alone(pipeline: Any, tmp_path: Path) -> None:
    """CLIPTextModelWithProjection in a folder of its own."""
    pipeline.text_encoder.save_pretrained(tmp_path)
    found = opened(tmp_path)
    assert found.format == "Hugging Face CLIPTextModelWithProjection"
    assert found.assumed == ()
    (part,) = usable(found).parts
    assert "caption gives" in self_check(part)
    ids = torch.tensor([[WORDS - 2, 320, WORDS - 1]])
    close(network(part).encode_text(ids).pooled, pipeline.text_encoder(ids).text_embeds)


def changed(folder: Path, out: Path, part: str, file: str, **settings: Any) -> Path:
    """The same folder, but for some settings of a part."""
    out.mkdir()
    for one in folder.iterdir():
        if one.name != part:
            (out / one.name).symlink_to(one)
    shutil.copytree(folder / part, out / part)
    told = json.loads((out / part / file).read_text()) | settings
    (out / part / file).write_text(json.dumps(told))
    return out


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("decoder", "norm_num_groups", 16),
        ("decoder", "act_fn", "mish"),
        ("decoder", "flip_sin_to_cos", False),
        ("decoder", "attention_head_dim", 0),
        ("decoder", "sample_size", 0),
        ("decoder", "sample_size", "64"),
        ("decoder", "sample_size", 10**9),
        ("super_res_first", "sample_size", [64, 32]),
        ("super_res_last", "norm_eps", 1e-6),
        ("prior", "added_emb_type", None),
        ("prior", "num_attention_heads", 1.5),
        ("prior", "attention_head_dim", 7),
        ("text_proj", "clip_extra_context_tokens", 99),
        ("decoder_scheduler", "num_train_timesteps", -1),
        ("decoder_scheduler", "prediction_type", "flow"),
        ("super_res_scheduler", "beta_schedule", "linear"),
        ("prior_scheduler", "clip_sample_range", float("nan")),
        ("prior_scheduler", "clip_sample_range", -1),
    ],
)
def test_settings_that_would_give_something_else_are_refused(
    folder: Path, tmp_path: Path, part: str, name: str, value: Any
) -> None:
    file = "scheduler_config.json" if part.endswith("scheduler") else "config.json"
    with pytest.raises(LimnerError, match=re.escape(str(value))):
        opened(changed(folder, tmp_path / "changed", part, file, **{name: value}))


@pytest.mark.parametrize("value", [SMALL, [SMALL, SMALL]])
def test_height_and_width_that_are_one(folder: Path, tmp_path: Path, value: Any) -> None:
    found = opened(changed(folder, tmp_path / "changed", "decoder", "config.json", sample_size=value))
    assert {part.name: part for part in found.parts}["decoder"].config.resolution == SMALL
    assert found.assumed == ()


@pytest.mark.parametrize(
    "part", ["decoder", "text_proj", "text_encoder", "super_res_first", "super_res_last"]
)
def test_half_an_unclip_says_what_it_lacks(folder: Path, tmp_path: Path, part: str) -> None:
    for one in folder.iterdir():
        if one.name != part:
            (tmp_path / one.name).symlink_to(one)
    with pytest.raises(LimnerError, match=f"is an unCLIP without {part}: give a whole one"):
        opened(tmp_path)


def test_what_is_not_in_the_index_is_nobody_s_business(folder: Path, tmp_path: Path) -> None:
    """A safety checker of junk, and a second file of the same weights in half precision."""
    for one in folder.iterdir():
        (tmp_path / one.name).symlink_to(one)
    (tmp_path / "safety_checker").mkdir()
    (tmp_path / "safety_checker" / "model.bin").write_bytes(b"junk")
    (tmp_path / "prior").unlink()
    shutil.copytree(folder / "prior", tmp_path / "prior")
    weights = tmp_path / "prior" / "diffusion_pytorch_model.safetensors"
    weights.with_name("diffusion_pytorch_model.fp16.safetensors").write_bytes(b"junk")
    assert opened(tmp_path).complaints == []
