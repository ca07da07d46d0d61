"""The residual picture towers give open_clip's features from the same random weights, name by name."""

from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from limner.clip import Clip, ResNetConfig
from limner.clip.model import rn50, rn50x4, rn50x16, rn50x64, rn101
from limner.clip.resnet import ResNetTower

# Pieces of the published names and what stands in their place here, replaced from the top downwards.
PIECES = {
    "visual.attnpool.positional_embedding": "vision.pool.positions",
    "visual.attnpool.q_proj": "vision.pool.query",
    "visual.attnpool.k_proj": "vision.pool.key",
    "visual.attnpool.v_proj": "vision.pool.value",
    "visual.attnpool.c_proj": "vision.pool.out",
    "visual.conv1": "vision.stem.0.conv",
    "visual.conv2": "vision.stem.1.conv",
    "visual.conv3": "vision.stem.2.conv",
    "visual.bn1": "vision.stem.0.norm",
    "visual.bn2": "vision.stem.1.norm",
    "visual.bn3": "vision.stem.2.norm",
    "visual.layer1": "vision.stages.0",
    "visual.layer2": "vision.stages.1",
    "visual.layer3": "vision.stages.2",
    "visual.layer4": "vision.stages.3",
    ".conv1": ".narrow.conv",
    ".conv2": ".mix.conv",
    ".conv3": ".widen.conv",
    ".bn1": ".narrow.norm",
    ".bn2": ".mix.norm",
    ".bn3": ".widen.norm",
    ".downsample.0": ".skip.conv",
    ".downsample.1": ".skip.norm",
    "transformer.resblocks": "text.transformer.blocks",
    ".attn.in_proj_": ".attention.qkv.",
    ".attn.out_proj": ".attention.out",
    ".ln_1": ".norm_attention",
    ".ln_2": ".norm_mlp",
    ".mlp.c_fc": ".widen",
    ".mlp.c_proj": ".narrow",
    "ln_final": "text.norm_out",
    "token_embedding": "text.embed",
    "positional_embedding": "text.positions",
    "text_projection": "text.projection",
    "logit_scale": "log_scale",
}
SMALL = ResNetConfig(resolution=64, width=16, blocks=(1, 2, 3, 1), heads=8)


def renamed(name: str) -> str:
    """A published name → ours; no tensor is reshaped on the way."""
    for theirs, ours in PIECES.items():
        name = name.replace(theirs, ours)
    return name


def their_tower(open_clip: ModuleType, config: ResNetConfig, embedding: int) -> nn.Module:
    return open_clip.modified_resnet.ModifiedResNet(
        layers=list(config.blocks),
        output_dim=embedding,
        heads=config.heads,
        image_size=config.resolution,
        width=config.width,
    )


def scattered(tower: nn.Module) -> nn.Module:
    """Weights that keep the size of what passes, and norms whose every number counts."""
    draw = torch.Generator().manual_seed(0)
    for module in tower.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5, generator=draw)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.bias, generator=draw)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 1.2, generator=draw)
            nn.init.normal_(module.bias, std=0.1, generator=draw)
            nn.init.normal_(module.running_mean, std=0.1, generator=draw)
            nn.init.uniform_(module.running_var, 0.5, 2.0, generator=draw)
    return tower.eval().requires_grad_(False)


@pytest.mark.parametrize(("config", "embedding"), [(SMALL, 20), (rn50().vision, 1024)], ids=["small", "RN50"])
def test_features(open_clip: ModuleType, config: ResNetConfig, embedding: int) -> None:
    theirs = scattered(their_tower(open_clip, config, embedding))
    ours = ResNetTower(config, embedding=embedding).eval().requires_grad_(False)
    state = {renamed(f"visual.{name}"): tensor for name, tensor in theirs.state_dict().items()}
    ours.load_state_dict({name.removeprefix("vision."): tensor for name, tensor in state.items()})
    # Fields of colour, for the averages of noise are all alike.
    fields = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pictures = nn.functional.interpolate(fields, size=config.resolution)
    expected: Tensor = theirs(((pictures + 1) / 2 - ours.mean) / ours.std)
    # Features of size one, which the two pictures do not share.
    assert 0.1 < expected.std() < 10
    assert (expected[0] - expected[1]).abs().max() > 0.05
    torch.testing.assert_close(ours(pictures).pooled, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("preset", [rn50, rn101, rn50x4, rn50x16, rn50x64])
def test_every_published_tensor_has_one_place(open_clip: ModuleType, preset) -> None:
    config = preset()
    text = config.text
    with torch.device("meta"):
        visual = their_tower(open_clip, config.vision, config.embedding)
        words = open_clip.transformer.TextTransformer(
            context_length=text.context,
            vocab_size=text.vocabulary,
            width=text.width,
            heads=text.heads,
            layers=text.layers,
            output_dim=config.embedding,
        )
        ours = {name: tensor.shape for name, tensor in Clip(config).state_dict().items()}
    published = {f"visual.{name}": tensor.shape for name, tensor in visual.state_dict().items()}
    published |= {name: tensor.shape for name, tensor in words.state_dict().items()}
    published["logit_scale"] = torch.Size()
    assert len({renamed(name) for name in published}) == len(published)
    assert {renamed(name): shape for name, shape in published.items()} == ours
