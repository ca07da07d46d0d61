"""Checkpoints as others save them, from random weights: opened here they give the same outputs."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from limner.autoregression import Sampling
from limner.clip import Clip, ClipConfig
from limner.clip.tower import PIXEL_MEAN, PIXEL_STD
from limner.dalle2.prior_relative import RelativePrior
from limner.dalle_mini import DalleMini, ImageReader, stream
from limner.dalle_pytorch import ConvolutionalVae, DallePytorch
from limner.draws import Draws
from limner.dvae import DVae, drawn_in
from limner.errors import LimnerError
from limner.formats import Assumptions, convert, network, opened, self_check, usable
from limner.formats.writing import to_huggingface
from limner.pipelines.loading import loaded

END = 49
SIDE, PATCH, WIDTH, CONTEXT = 24, 8, 128, 12


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def ids() -> Tensor:
    rows = torch.zeros(3, CONTEXT, dtype=torch.int64)
    for row, words in zip(rows, ([5, 7, 3], [], [9] * 10), strict=True):
        row[: len(words) + 2] = torch.tensor([END - 1, *words, END])
    return rows


def normalised(pictures: Tensor) -> Tensor:
    """As others are fed."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PIXEL_MEAN, PIXEL_STD))
    return ((pictures + 1) / 2 - mean) / std


def randomised(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.15, generator=generator)
        if parameter.ndim == 1 and name.endswith("weight"):
            parameter.data.add_(1)
    return model.eval().requires_grad_(False)


def clip_of(path: Path, assumptions: Assumptions | None = None) -> Clip:
    found = usable(opened(path, assumptions))
    assert [part.name for part in found.parts] == ["clip"]
    assert found.parts[0].taken.unused == ()
    assert "gives" in self_check(found.parts[0])
    clip = network(found.parts[0])
    assert isinstance(clip, Clip)
    return clip


def agree(
    clip: Clip, pictures: Tensor, ids: Tensor, theirs: tuple[Tensor, Tensor], within: float = 1e-5
) -> None:
    with torch.no_grad():
        ours = clip.encode_image(pictures).pooled, clip.encode_text(ids).pooled
    for one, other in zip(ours, theirs, strict=True):
        assert float((one - other).abs().max()) <= within * max(1.0, float(other.abs().max()))


# --- OpenAI and open_clip --------------------------------------------------------------------------


def of_resnet(package: ModuleType) -> nn.Module:
    """A residual tower of two blocks in two of its stages, its statistics those of some batch."""
    vision = package.model.CLIPVisionCfg(layers=[2, 1, 2, 1], width=16, head_width=64, image_size=64)
    text = package.model.CLIPTextCfg(context_length=CONTEXT, vocab_size=END + 1, width=64, heads=1, layers=2)
    model = randomised(package.model.CLIP(20, vision, text, quick_gelu=True))
    generator = torch.Generator().manual_seed(2)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.2, generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2, generator=generator)
    return model


def of_open_clip(
    package: ModuleType, kind: str, *, quick: bool, head_width: int = 64, mlp_ratio: float = 4.0
) -> nn.Module:
    vision = package.model.CLIPVisionCfg(
        layers=2,
        width=WIDTH,
        head_width=head_width,
        patch_size=PATCH,
        image_size=SIDE,
        mlp_ratio=mlp_ratio,
    )
    text = package.model.CLIPTextCfg(context_length=CONTEXT, vocab_size=END + 1, width=64, heads=1, layers=2)
    return randomised(getattr(package.model, kind)(20, vision, text, quick_gelu=quick))


def embeddings(model: Any, pictures: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return model.encode_image(normalised(pictures)), model.encode_text(ids)


SETTINGS: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 20,
        "vision_cfg": {
            "image_size": SIDE,
            "layers": 2,
            "width": WIDTH,
            "patch_size": PATCH,
            "head_width": 32,
        },
        "text_cfg": {"context_length": CONTEXT, "vocab_size": 50, "width": 64, "heads": 1, "layers": 2},
    },
    "preprocess_cfg": {"mean": list(PIXEL_MEAN), "std": list(PIXEL_STD)},
}


@pytest.mark.parametrize("kept", ["archive", "before 1.6", "safetensors", "traced", "half"])
def test_openai_clip(open_clip: ModuleType, pictures: Tensor, ids: Tensor, tmp_path: Path, kept: str) -> None:
    model = of_open_clip(open_clip, "CLIP", quick=True)
    state, path = model.state_dict(), tmp_path / "weights"
    if kept == "archive":
        torch.save(state, path)
    elif kept == "before 1.6":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif kept == "safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    elif kept == "half":
        sizes = {"input_resolution": SIDE, "context_length": CONTEXT, "vocab_size": END + 1}
        halves = {name: tensor.half() for name, tensor in state.items()}
        model.load_state_dict({name: tensor.float() for name, tensor in halves.items()})
        torch.save(halves | {name: torch.tensor(size) for name, size in sizes.items()}, path)
    else:
        with pytest.warns(), torch.no_grad():  # TorchScript is deprecated, but OpenAI's weights are in it
            torch.jit.save(torch.jit.trace(model, (normalised(pictures), ids), check_trace=False), path)
    found = opened(path)
    assert found.format == "OpenAI CLIP"
    assert (
        found.contents.kind
        == {
            "archive": "torch archive",
            "before 1.6": "torch pickle",
            "safetensors": "safetensors",
            "traced": "TorchScript archive",
            "half": "torch archive",
        }[kept]
    )
    agree(clip_of(path), pictures, ids, embeddings(model, pictures, ids))


@pytest.mark.parametrize("traced", [False, True])
def test_openai_clip_with_a_residual_tower(
    open_clip: ModuleType, ids: Tensor, tmp_path: Path, traced: bool
) -> None:
    model, path = of_resnet(open_clip), tmp_path / "weights"
    pictures = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    if traced:
        with pytest.warns(), torch.no_grad():
            torch.jit.save(torch.jit.trace(model, (normalised(pictures), ids), check_trace=False), path)
    else:
        torch.save(model.state_dict(), path)
    agree(clip_of(path), pictures, ids, embeddings(model, pictures, ids))


@pytest.mark.parametrize(("kind", "mlp_ratio"), [("CLIP", 4.0), ("CustomTextCLIP", 4.0), ("CLIP", 4.9231)])
def test_open_clip_by_its_settings(
    open_clip: ModuleType, pictures: Tensor, ids: Tensor, tmp_path: Path, kind: str, mlp_ratio: float
) -> None:
    """Exact GELU and heads of 32, which only open_clip_config.json knows; an MLP as ViT-bigG has it."""
    model = of_open_clip(open_clip, kind, quick=False, head_width=32, mlp_ratio=mlp_ratio)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(SETTINGS))
    assert opened(tmp_path).assumed == ()
    agree(clip_of(tmp_path), pictures, ids, embeddings(model, pictures, ids))


def test_open_clip_as_a_training_leaves_it(
    open_clip: ModuleType, pictures: Tensor, ids: Tensor, tmp_path: Path
) -> None:
    model = of_open_clip(open_clip, "CLIP", quick=False, head_width=32)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.AdamW([torch.zeros(3, requires_grad=True)]).state_dict()
    torch.save(
        {"epoch": 3, "name": "run", "state_dict": state, "optimizer": optimizer}, tmp_path / "epoch_3.pt"
    )
    told = Assumptions(activation="gelu", head_width=32)
    agree(clip_of(tmp_path / "epoch_3.pt", told), pictures, ids, embeddings(model, pictures, ids))


# --- Hugging Face ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_model() -> Any:
    transformers = pytest.importorskip("transformers")
    vision = {"image_size": SIDE, "patch_size": PATCH, "hidden_size": 48, "intermediate_size": 192}
    text = {"vocab_size": END + 1, "max_position_embeddings": CONTEXT, "hidden_size": 32}
    text |= {"intermediate_size": 128, "bos_token_id": END - 1, "eos_token_id": END, "pad_token_id": 0}
    config = transformers.CLIPConfig(
        projection_dim=20,
        vision_config=vision | {"num_hidden_layers": 2, "num_attention_heads": 3, "projection_dim": 20},
        text_config=text | {"num_hidden_layers": 3, "num_attention_heads": 4, "projection_dim": 20},
    )
    return randomised(transformers.CLIPModel(config))


def hf_embeddings(model: Any, pictures: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        seen = model.vision_model(pixel_values=normalised(pictures)).pooler_output
        read = model.text_model(input_ids=ids).pooler_output
        return model.visual_projection(seen), model.text_projection(read)


@pytest.mark.parametrize("shards", [1, 4])
def test_hugging_face(clip_model: Any, pictures: Tensor, ids: Tensor, tmp_path: Path, shards: int) -> None:
    clip_model.save_pretrained(tmp_path, max_shard_size="1GB" if shards == 1 else "150KB")
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shards > 1)
    found = opened(tmp_path)
    assert (found.format, found.assumed) == ("Hugging Face CLIPModel", ())
    agree(clip_of(tmp_path), pictures, ids, hf_embeddings(clip_model, pictures, ids))


def test_hugging_face_as_a_pickle_without_settings(
    clip_model: Any, pictures: Tensor, ids: Tensor, tmp_path: Path
) -> None:
    state = clip_model.state_dict() | {"text_model.embeddings.position_ids": torch.arange(CONTEXT)[None]}
    torch.save(state, tmp_path / "pytorch_model.bin")
    with pytest.raises(LimnerError, match="the text tower is 32 wide and would have 0 heads"):
        opened(tmp_path / "pytorch_model.bin", Assumptions(head_width=16))
    settings = {"text_config": {"num_attention_heads": 4}}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    found = opened(tmp_path / "pytorch_model.bin", Assumptions(head_width=16))
    assert found.assumed == ("activation quick_gelu, for there is no config.json that says so",)
    clip = network(found.parts[0])
    assert isinstance(clip, Clip)
    agree(clip, pictures, ids, hf_embeddings(clip_model, pictures, ids))


def test_there_and_back_to_hugging_face(
    clip_model: Any, pictures: Tensor, ids: Tensor, tmp_path: Path
) -> None:
    """Converted, loaded as limner's own, written for them, read by them: the same embeddings throughout."""
    transformers = pytest.importorskip("transformers")
    clip_model.save_pretrained(tmp_path / "theirs")
    (ours,) = convert(opened(tmp_path / "theirs"), tmp_path / "ours")
    clip = loaded(ours, ClipConfig, Clip, torch.device("cpu"))
    expected = hf_embeddings(clip_model, pictures, ids)
    agree(clip, pictures, ids, expected)
    again = transformers.CLIPModel.from_pretrained(to_huggingface(ours, tmp_path / "back")).eval()
    for one, other in zip(hf_embeddings(again, pictures, ids), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    assert {name: tuple(t.shape) for name, t in again.state_dict().items()} == {
        name: tuple(t.shape) for name, t in clip_model.state_dict().items()
    }


# --- the dVAE --------------------------------------------------------------------------------------


@pytest.mark.parametrize("newer", [True, False])
def test_dvae(dall_e: ModuleType, tmp_path: Path, newer: bool) -> None:
    torch.manual_seed(0)
    encoder = randomised(dall_e.encoder.Encoder(n_hid=64, vocab_size=512))
    decoder = randomised(dall_e.decoder.Decoder(n_hid=64, n_init=16, vocab_size=512))
    for module, name in ((encoder, "one.pkl"), (decoder, "another.pkl")):
        torch.save(module, tmp_path / name, _use_new_zipfile_serialization=newer)
    found = usable(opened(tmp_path))
    assert found.format == "OpenAI dVAE"
    assert found.parts[0].taken.unused == ()
    assert "gives (3, 64, 64)" in self_check(found.parts[0])
    dvae = network(found.parts[0])
    assert isinstance(dvae, DVae)
    pictures = torch.rand(2, 3, 32, 40, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        expected = encoder(dall_e.utils.map_pixels((pictures + 1) / 2))
        torch.testing.assert_close(dvae.logits(pictures).permute(0, 3, 1, 2), expected, rtol=1e-5, atol=1e-4)
        soft = expected.softmax(dim=1)
        painted = dvae.decoder(soft.permute(0, 2, 3, 1))
        torch.testing.assert_close(painted, decoder(soft), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(drawn_in(pictures), dall_e.utils.map_pixels((pictures + 1) / 2))


def test_half_a_dvae_says_what_is_missing(dall_e: ModuleType, tmp_path: Path) -> None:
    torch.save(dall_e.encoder.Encoder(n_hid=64, vocab_size=512), tmp_path / "encoder.pkl")
    found = opened(tmp_path / "encoder.pkl")
    assert "decoder:blocks.input.w" in found.parts[0].taken.missing
    assert len(found.complaints) == 1


# --- DALL-E mini -----------------------------------------------------------------------------------


def tiny_min_dalle(min_dalle: ModuleType, folder: Path) -> tuple[nn.Module, nn.Module, DalleMini]:
    """Both halves of theirs, and what limner makes of their files."""
    sizes = {"layer_count": 2, "embed_count": 128, "attention_head_count": 2, "glu_embed_count": 200}
    encoder = randomised(
        min_dalle.dalle_bart_encoder.DalleBartEncoder(
            text_vocab_count=300, text_token_count=64, device="cpu", **sizes
        )
    )
    decoder = randomised(
        min_dalle.dalle_bart_decoder.DalleBartDecoder(image_vocab_count=16384, device="cpu", **sizes)
    )
    torch.save(encoder.state_dict(), folder / "encoder.pt")
    torch.save(decoder.state_dict(), folder / "decoder.pt")
    model = network(usable(opened(folder)).parts[0])
    assert isinstance(model, DalleMini)
    return encoder, decoder, model


def test_dalle_mini(min_dalle: ModuleType, tmp_path: Path) -> None:
    """Token by token, each with a memory of its own; min-dalle's is always of 64 words and 256 tokens."""
    encoder, decoder, model = tiny_min_dalle(min_dalle, tmp_path)
    text = torch.ones(2, 64, dtype=torch.int64)
    text[0, :2] = torch.tensor([0, 2])
    text[1, :6] = torch.tensor([0, 7, 99, 201, 55, 2])
    image = torch.randint(0, 16384, (1, 5), generator=torch.Generator().manual_seed(1))
    fed = torch.cat([torch.full((1, 1), 16384), image], dim=1)
    memory = torch.zeros(2, 4, 256, 128)
    reader = ImageReader(model, text)
    with torch.inference_mode():
        read = encoder(text)
        seen = (text != 1)[:, None, None, :]
        for n in range(6):
            logits, memory = decoder(seen, read, memory, fed[:, n : n + 1], torch.tensor([n]))
            ours = reader.read(image[:, n - 1 : n].expand(2, -1) if n else image[:, :0].expand(2, -1))
            torch.testing.assert_close(ours, logits[:, -1, :16384], rtol=1e-5, atol=1e-4)


def test_dalle_mini_writes_under_guidance(min_dalle: ModuleType, tmp_path: Path) -> None:
    """The likeliest token of each step, by min-dalle's own sampler, which keeps the first and draws it."""
    encoder, decoder, model = tiny_min_dalle(min_dalle, tmp_path)
    text = torch.ones(2, 64, dtype=torch.int64)
    text[0, :2] = torch.tensor([0, 2])
    text[1, :6] = torch.tensor([0, 7, 99, 201, 55, 2])
    columns = stream(
        model,
        text[1:],
        nothing=text[0],
        draws=Draws([0]),
        sampling=Sampling(temperature=0.0),
        guidance=16.0,
    )
    memory, token = torch.zeros(2, 4, 256, 128), torch.full((1,), 16384)
    found = []
    with torch.inference_mode():
        read, seen = encoder(text), (text != 1)[:, None, None, :]
        for n, ours in zip(range(6), columns, strict=False):
            token, memory = decoder.sample_tokens(
                settings=torch.tensor([1.0, 1.0, 16.0]),
                attention_mask=seen,
                encoder_state=read,
                attention_state=memory,
                prev_tokens=token[:, None],
                token_index=torch.tensor([n]),
            )
            assert torch.equal(ours, token)
            found.append(int(token))
    # They are not all one token that anything would write.
    assert len(set(found)) > 1


# --- DALLE2-pytorch --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choices",
    [
        {"num_timesteps": 100},
        {"normformer": True, "norm_in": True, "num_text_embeds": 2, "num_time_embeds": 3, "self_cond": True},
        {"num_image_embeds": 2, "rotary_emb": False, "norm_out": False, "final_proj": False},
    ],
    ids=["plain", "more", "less"],
)
def test_dalle2_pytorch_prior(dalle2_pytorch: ModuleType, tmp_path: Path, choices: dict[str, Any]) -> None:
    """With every choice that its network has, told of a caption and not; beyond 128 positions."""
    net = dalle2_pytorch.DiffusionPriorNetwork(
        dim=64, depth=2, dim_head=48, heads=2, max_text_len=140, **choices
    )
    frequencies = [name for name, _ in net.named_parameters() if name.endswith("freqs")]
    turned = {name: net.state_dict()[name].clone() for name in frequencies}
    randomised(net).load_state_dict(turned, strict=False)
    prior = dalle2_pytorch.DiffusionPrior(net=net, clip=None, image_embed_dim=64, timesteps=100)
    told = {"prior": {"net": choices}}
    torch.save({"model": prior.state_dict(), "config": told}, tmp_path / "prior.pth")
    ours = network(usable(opened(tmp_path / "prior.pth")).parts[0])
    assert isinstance(ours, RelativePrior)
    generator = torch.Generator().manual_seed(1)
    x, guess, caption = torch.randn(3, 3, 64, generator=generator)
    mask = torch.arange(77)[None] < torch.tensor([5, 77, 1])[:, None]
    tokens = torch.randn(3, 77, 64, generator=generator) * mask[..., None]
    times = torch.tensor([0, 5, 99])
    for known in (True, False):
        dropped = {"text_cond_drop_prob": 1 - int(known), "image_cond_drop_prob": 1 - int(known)}
        wanted = net(x, times, text_embed=caption, text_encodings=tokens, self_cond=guess, **dropped)
        found = ours(
            x,
            times.float(),
            tokens=tokens,
            caption=caption,
            mask=mask,
            known=torch.full((3,), known),
            guess=guess,
        )
        assert float((found - wanted).abs().max()) <= 1e-5 * max(1.0, float(wanted.abs().max()))


# --- DALLE-pytorch ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "choices",
    [
        {},
        {"attn_types": ("axial_row", "axial_col", "conv_like", "full")},
        {"rotary_emb": False, "shift_tokens": False, "sandwich_norm": True, "stable": True},
        {"reversible": True, "share_input_output_emb": True},
        {"shared_attn_ids": (0, 1, 0, 1), "shared_ff_ids": (0, 0, 1, 1), "optimize_for_inference": True},
    ],
    ids=["defaults", "sparse", "older", "reversible", "shared"],
)
def test_dalle_pytorch(dalle_pytorch: ModuleType, tmp_path: Path, choices: dict[str, Any]) -> None:
    """Text and image logits of whole sequences and of those that have begun, and codes there and back."""
    sizes = {"image_size": 32, "num_layers": 2, "num_tokens": 20, "codebook_dim": 16, "hidden_dim": 12}
    told = {"num_text_tokens": 30, "text_seq_len": 6, "dim": 48, "depth": 4, "heads": 2, "dim_head": 24}
    vae_params, hparams = sizes | {"num_resnet_blocks": 1}, told | choices
    vae = dalle_pytorch.DiscreteVAE(**vae_params)
    theirs = randomised(dalle_pytorch.DALLE(vae=vae, **hparams))
    file = {"hparams": hparams, "vae_params": vae_params, "weights": theirs.state_dict(), "version": "1.6.6"}
    torch.save(file, tmp_path / "dalle.pt")
    model, autoencoder = (network(part) for part in usable(opened(tmp_path / "dalle.pt")).parts)
    assert isinstance(model, DallePytorch)
    assert isinstance(autoencoder, ConvolutionalVae)
    generator = torch.Generator().manual_seed(1)
    text = torch.randint(1, 30, (3, 6), generator=generator)
    text[0, 3:] = 0
    text[2] = 0
    image = torch.randint(0, 20, (3, 64), generator=generator)
    for given in (63, 13, 0):
        wanted = theirs(text.clone(), image[:, : given + 1 if given == 63 else given])
        found = model(text, image[:, :given])
        for ours, part in ((found.text, wanted[:, :6, :36]), (found.image, wanted[:, 6:, 36:])):
            assert float((ours - part).abs().max()) <= 1e-5 * max(1.0, float(part.abs().max()))
    pictures = torch.rand(2, 3, 32, 32, generator=generator)
    codes = autoencoder.encode(pictures * 2 - 1)
    assert torch.equal(codes.flatten(1), vae.get_codebook_indices(pictures))
    torch.testing.assert_close(autoencoder.decode(codes), vae.decode(codes.flatten(1)))
