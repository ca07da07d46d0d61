"""GLIDE's networks: a U-Net that reads the caption, from noise alone or above a small picture.

Both may also see what is known of a picture that is to be mended.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from limner.diffusion.spec import DiffusionSpec
from limner.glide.text import TextEncoder, TextEncoderConfig
from limner.layers.patch_transformer import PatchTransformer, PatchTransformerConfig
from limner.layers.unet import UNet, UNetConfig

COLOURS = 3
# What is known of a picture takes its colours and whether they are known.
KNOWN = COLOURS + 1


@dataclass(frozen=True, kw_only=True)
class GlideConfig:
    """`resolution` in pixels; `low`: side of the picture that is enlarged, None for the base.

    `inpaint`: whether the network also sees what is known of the picture.
    """

    resolution: int
    low: int | None
    inpaint: bool
    text: TextEncoderConfig
    backbone: UNetConfig | PatchTransformerConfig
    diffusion: DiffusionSpec

    def __post_init__(self) -> None:
        """Refuse parts that do not fit."""
        wanted = COLOURS + (KNOWN if self.inpaint else 0) + (0 if self.low is None else COLOURS)
        if self.backbone.in_channels != wanted:
            raise ValueError(
                f"backbone.in_channels: {self.backbone.in_channels}, but this network sees {wanted}"
            )
        for name, given, needed in (
            (
                "backbone.out_channels",
                self.backbone.out_channels,
                COLOURS * (1 + self.diffusion.learned_variance),
            ),
            ("backbone.context_width", self.backbone.context_width, self.text.width),
            ("text.condition_width", self.text.condition_width, self.backbone.embedding_width),
        ):
            if given != needed:
                raise ValueError(f"{name}: {given}, where the other part has {needed}; give the same")
        if self.low is not None and self.resolution % self.low:
            raise ValueError(f"low: {self.low} does not divide the resolution, {self.resolution}")


class Caption(NamedTuple):
    """A caption that has been read, which is done once for all steps of a picture.

    `rows` as the backbone's `read` leaves them, (…, B, …, L, …) for each of its attention blocks; a vector
    (B, e) for the time embedding; and, where the backbone has one, the canvas (B, k, h, w).
    """

    rows: tuple[Tensor, ...]
    pooled: Tensor
    canvas: Tensor | None


class Known(NamedTuple):
    """What is known of a picture: pictures (B, 3, H, W), and `mask` (B, 1, H, W), 1 where they are known."""

    pictures: Tensor
    mask: Tensor


class Glide(nn.Module):
    """(x_t, t, caption) → prediction, and the small picture or what is known beside x_t where there is one.

    Channels come in the order of the published weights: x_t, known colours, mask, small picture. Where the
    U-Net has a canvas, the caption's last row is laid out on it, linearly; the paper's networks are deep
    enough to do without.
    """

    def __init__(self, config: GlideConfig) -> None:
        super().__init__()
        self.config = config
        self.text = TextEncoder(config.text)
        backbone = config.backbone
        self.backbone: UNet | PatchTransformer
        self.backbone = UNet(backbone) if isinstance(backbone, UNetConfig) else PatchTransformer(backbone)
        self.to_canvas = None
        if backbone.canvas:
            side = config.resolution // backbone.patch
            self.to_canvas = nn.Linear(config.text.width, backbone.canvas * side**2)

    def read(self, ids: Int[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Caption:
        """Read captions once; a picture takes many steps and its caption stays."""
        rows, pooled = self.text(ids, mask)
        canvas = None
        if self.to_canvas is not None:
            side = self.config.resolution // self.config.backbone.patch
            canvas = rearrange(self.to_canvas(rows[:, -1]), "b (k h w) -> b k h w", h=side, w=side)
        return Caption(self.backbone.read(rows.to(self.dtype)), pooled, canvas)

    @property
    def dtype(self) -> torch.dtype:
        """Of the backbone's weights, which need not be that of the encoder's."""
        return next(self.backbone.parameters()).dtype

    def forward(
        self,
        x: Float[Tensor, "b 3 h w"],
        t: Float[Tensor, "b"],
        *,
        ids: Int[Tensor, "b l"],
        mask: Bool[Tensor, "b l"],
        low: Float[Tensor, "b 3 h2 w2"] | None = None,
        known: Known | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Read and predict."""
        return self.predict(x, t, caption=self.read(ids, mask), low=low, known=known)

    def predict(
        self,
        x: Float[Tensor, "b 3 h w"],
        t: Float[Tensor, "b"],
        *,
        caption: Caption,
        low: Float[Tensor, "b 3 h2 w2"] | None = None,
        known: Known | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Predict from the noised picture: ε, and where it is learned the fraction of variance behind it.

        `low` is needed by an upsampler and by no other; `known` is for networks that mend, and None says that
        nothing is known.
        """
        parts = [x]
        if self.config.inpaint:
            parts += beside(known, x)
        elif known is not None:
            raise ValueError("known: this network was not trained to mend; use one with inpaint=True")
        if (low is None) != (self.config.low is None):
            raise ValueError(
                "low: an upsampler enlarges a small picture, and needs it"
                if low is None
                else "low: this network paints from noise alone; leave it out"
            )
        if low is not None:
            parts.append(F.interpolate(low, size=x.shape[-2:], mode="bilinear", align_corners=False))
        out: Tensor = self.backbone(
            torch.cat(parts, dim=1).to(self.dtype),
            t,
            condition=caption.pooled.to(self.dtype),
            context=caption.rows,
            canvas=caption.canvas,
        )
        return out


def beside(known: Known | None, x: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
    """Known colours and their mask as channels; what is unknown is zero in both."""
    if known is None:
        return [torch.zeros_like(x), torch.zeros_like(x[:, :1])]
    mask = known.mask.to(x)
    return [known.pictures * mask, mask]


def mending(base: Glide) -> Glide:
    """A network with `base`'s weights that also sees what is known, and begins by not minding it.

    The four new channels begin with weight zero, so that fine-tuning starts from what `base` can do (Nichol
    et al. 2021, section 2.4). Raises ValueError for a network that mends already.
    """
    config = base.config
    if config.inpaint:
        raise ValueError("base: this network sees what is known already")
    backbone = replace(config.backbone, in_channels=config.backbone.in_channels + KNOWN)
    model = Glide(replace(config, inpaint=True, backbone=backbone))
    state = {name: value.clone() for name, value in base.state_dict().items()}
    stem = "backbone.stem.weight"
    state[stem] = widened(state[stem], patch=config.backbone.patch, canvas=config.backbone.canvas)
    model.load_state_dict(state)
    return model


def widened(weight: Float[Tensor, "o i k k2"], *, patch: int, canvas: int) -> Float[Tensor, "o i2 k k2"]:
    """A first convolution with zeros for the known colours and their mask, which stand behind x_t's."""
    pixels, rest = weight[:, : weight.shape[1] - canvas], weight[:, weight.shape[1] - canvas :]
    folded = rearrange(pixels, "o (c p) h w -> o c p h w", p=patch**2)
    new = folded.new_zeros(folded.shape[0], KNOWN, *folded.shape[2:])
    whole = torch.cat([folded[:, :COLOURS], new, folded[:, COLOURS:]], dim=1)
    return torch.cat([rearrange(whole, "o c p h w -> o (c p) h w"), rest], dim=1)


def paper() -> GlideConfig:
    """The 3.5 B base of the paper (section 4.1): 3,554,414,086 parameters."""
    return published(channels=512, text_width=2048, text_layers=24)


def filtered() -> GlideConfig:
    """The base that was released, trained on filtered pictures: 385,030,726 parameters."""
    return published(channels=192, text_width=512, text_layers=16)


def filtered_upsampler() -> GlideConfig:
    """The released 64 → 256: 398,361,286 parameters."""
    return published(channels=192, text_width=512, text_layers=16, upsampler=True)


def published(*, channels: int, text_width: int, text_layers: int, upsampler: bool = False) -> GlideConfig:
    """The shape that all published sizes share (section 4.1, and the released code for the upsampler)."""
    backbone = UNetConfig(
        in_channels=2 * COLOURS if upsampler else COLOURS,
        out_channels=2 * COLOURS,
        channels=channels,
        depth=2 if upsampler else 3,
        multipliers=(1, 1, 2, 2, 4, 4) if upsampler else (1, 2, 3, 4),
        attention=(8, 16, 32) if upsampler else (2, 4, 8),
        head_width=64,
        context_width=text_width,
        scale_shift=True,
        dropout=0.1,
        patch=1,
        canvas=0,
    )
    text = TextEncoderConfig(
        context=128,
        vocabulary=50_257,
        width=text_width,
        layers=text_layers,
        heads=text_width // 64,
        condition_width=4 * channels,
    )
    spec = DiffusionSpec(
        schedule="linear" if upsampler else "cosine",
        steps=1000,
        prediction="eps",
        learned_variance=True,
    )
    return GlideConfig(
        resolution=256 if upsampler else 64,
        low=64 if upsampler else None,
        inpaint=False,
        text=text,
        backbone=backbone,
        diffusion=spec,
    )
