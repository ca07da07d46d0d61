"""What several of these tests look with, or look at."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from limner import checkpoint
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.dalle2.decoder import ClipTextConfig, Decoder, DecoderConfig
from limner.dalle2.prior_diffusion import Prior, PriorConfig
from limner.dalle2.upsampler import Upsampler, UpsamplerConfig
from limner.data.sample import sample_dir
from limner.diffusion.spec import DiffusionSpec
from limner.evaluation.features import WIDTH, Trunk, load_trunk
from limner.evaluation.recognition import Judge, Recogniser, RecogniserConfig, load_judge
from limner.layers.unet import UNetConfig
from limner.recipes import recogniser

SPEC = DiffusionSpec(schedule="cosine", steps=100, prediction="x0", learned_variance=False)


def tiny_clip_config() -> ClipConfig:
    return ClipConfig(
        vision=VisionConfig(resolution=32, patch=16, width=32, layers=1, heads=2),
        text=TextConfig(context=32, vocabulary=600, width=32, layers=1, heads=2),
        embedding=16,
        activation="quick_gelu",
    )


@pytest.fixture
def clip() -> Clip:
    torch.manual_seed(0)
    return Clip(tiny_clip_config()).eval()


def unet(channels: int, context: int | None) -> UNetConfig:
    return UNetConfig(
        in_channels=channels,
        out_channels=3,
        channels=32,
        depth=1,
        multipliers=(1,),
        attention=() if context is None else (1,),
        head_width=32,
        context_width=context,
        scale_shift=True,
        dropout=0.0,
        patch=8,
        canvas=0,
    )


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole painter, very small, that has learned nothing."""
    torch.manual_seed(0)
    folder: Path = tmp_path_factory.mktemp("untrained")
    prior = PriorConfig(
        embedding=16, text_width=32, context=32, width=32, layers=1, heads=2, scale=2.0, diffusion=SPEC
    )
    text = ClipTextConfig(width=32, embedding=16)
    decoder = DecoderConfig(
        resolution=32,
        embedding=16,
        picture_tokens=1,
        learned_null=False,
        text=text,
        unet=unet(3, 32),
        diffusion=SPEC,
    )
    upsampler = UpsamplerConfig(low=32, high=64, unet=unet(6, None), diffusion=SPEC)
    checkpoint.save(folder / "clip", Clip(tiny_clip_config()).state_dict(), tiny_clip_config())
    checkpoint.save(folder / "prior", Prior(prior).state_dict(), prior)
    checkpoint.save(folder / "decoder", Decoder(decoder).state_dict(), decoder)
    checkpoint.save(folder / "upsampler", Upsampler(upsampler).state_dict(), upsampler)
    return folder


@pytest.fixture(scope="session")
def trunk() -> Trunk:
    return load_trunk()


@pytest.fixture(scope="session")
def judge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy judge, trained on the shipped drawings of its own two sets."""
    out: Path = tmp_path_factory.mktemp("judge")
    recogniser.run(recogniser.toy(), folders=[sample_dir("judge")], out=out, resume=False, device="cpu")
    return out


@pytest.fixture(scope="session")
def judge(judge_folder: Path) -> Judge:
    return load_judge(judge_folder)


@pytest.fixture(scope="session")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judge of two of the names that the sample holds out and one other, which has learned nothing."""
    out: Path = tmp_path_factory.mktemp("blind")
    config = RecogniserConfig(
        names=("melon", "cow", "turtle"),
        hexcodes=("1F348", "1F404", "1F422"),
        features=WIDTH,
        side=64,
        dropout=0.0,
    )
    torch.manual_seed(0)
    checkpoint.save(out / "model", Recogniser(config).state_dict(), config)
    return out


def tiny() -> ModuleType:
    """The module that writes tiny lines."""
    source = Path(__file__).parents[1] / "pipelines" / "tiny_line.py"
    spec = importlib.util.spec_from_file_location("tiny_line", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def dalle1_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny line of DALL-E 1, which has learned nothing."""
    folder: Path = tiny().write_dalle1(tmp_path_factory.mktemp("dalle1") / "line")
    return folder


@pytest.fixture(scope="session")
def glide_line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of GLIDE."""
    folder: Path = tiny().write_glide(tmp_path_factory.mktemp("glide") / "line")
    return folder
