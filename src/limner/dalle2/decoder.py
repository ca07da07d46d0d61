"""unCLIP's decoder: from a CLIP picture embedding (and the caption) to a 64×64 picture."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from limner.dalle2.sketch import Sketch, SketchConfig
from limner.diffusion.spec import DiffusionSpec
from limner.glide import TextEncoder, TextEncoderConfig
from limner.layers.unet import UNet, UNetConfig


@dataclass(frozen=True, kw_only=True)
class ClipTextConfig:
    """Read the caption through CLIP's own text tower, as Karlo does: token `width`, `embedding` width."""

    width: int
    embedding: int


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """`resolution` of the picture; `embedding` of CLIP; `picture_tokens` made of it, 4 in the paper.

    `text`: GLIDE's own encoder of token ids, as in the paper, or the frozen CLIP tower's tokens.
    `learned_null`: whether the embedding that stands for "no picture" is learned rather than zero.
    `raw`: whether embeddings are told as CLIP has them, length and all, as Karlo does. `sketch`: of the
    network that lays its idea of the picture on the U-Net's canvas, None without one.
    """

    resolution: int
    embedding: int
    picture_tokens: int
    learned_null: bool
    text: TextEncoderConfig | ClipTextConfig
    unet: UNetConfig
    diffusion: DiffusionSpec
    raw: bool = False
    sketch: SketchConfig | None = None


class TokenIds(NamedTuple):
    """A caption for GLIDE's encoder: `ids` (B, context) and which of them are real, `mask`."""

    ids: Tensor
    mask: Tensor


class ClipTokens(NamedTuple):
    """A caption as CLIP's text tower reads it: `tokens` (B, L, w), pooled `embedding` (B, d), `mask`.

    The embedding is unit, but for networks that take it raw.
    """

    tokens: Tensor
    embedding: Tensor
    mask: Tensor


Caption = TokenIds | ClipTokens


class ClipTextReader(nn.Module):
    """CLIP's text tokens → normed rows for attention, its pooled embedding → the time embedding."""

    def __init__(self, config: ClipTextConfig, *, context_width: int, condition_width: int) -> None:
        super().__init__()
        self.rows = nn.Sequential(nn.Linear(config.width, context_width), nn.LayerNorm(context_width))
        self.pool = nn.Linear(config.embedding, condition_width)

    def forward(self, caption: ClipTokens) -> tuple[Float[Tensor, "b l d"], Float[Tensor, "b e"]]:
        """Rows for attention and one vector for the time embedding."""
        return self.rows(caption.tokens), self.pool(caption.embedding)


class Decoder(nn.Module):
    """(x_t, t, z_i, caption) → prediction.

    z_i enters twice (Ramesh et al. 2022, section 2.1): projected and added to the time embedding, and as
    four tokens before the text tokens that every attention block reads. Where the U-Net has a canvas, z_i is
    also laid out on it, linearly, or by a `sketch`, which may read the caption too, and whose whitened z_i
    then goes in at the other two doors as well; the paper's networks are deep enough to do without.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        condition, context = config.unet.embedding_width, config.unet.context_width
        if context is None:
            raise ValueError("unet.context_width: the decoder's attention reads tokens, so it needs a width")
        self.to_condition = nn.Linear(config.embedding, condition)
        self.to_tokens = nn.Linear(config.embedding, config.picture_tokens * context)
        self.null = nn.Parameter(torch.zeros(config.embedding), requires_grad=config.learned_null)
        self.text: TextEncoder | ClipTextReader
        if isinstance(config.text, TextEncoderConfig):
            self.text = TextEncoder(config.text)
        else:
            self.text = ClipTextReader(config.text, context_width=context, condition_width=condition)
        self.to_canvas = self.sketch = None
        if config.sketch is not None:
            self.sketch = Sketch(config.sketch)
            fits = [
                ("sketch.embedding", config.sketch.embedding, config.embedding),
                ("sketch.resolution", config.sketch.resolution, config.resolution),
                ("unet.canvas", config.unet.canvas, 3 * config.unet.patch**2),
            ]
            if config.sketch.captioned:
                if not isinstance(config.text, ClipTextConfig):
                    raise ValueError(
                        "sketch.captioned is True: only captions read through CLIP have an embedding, so "
                        "leave it out, or give a ClipTextConfig as text"
                    )
                fits.append(("text.embedding", config.text.embedding, config.embedding))
            for name, given, wanted in fits:
                if given != wanted:
                    raise ValueError(
                        f"{name} is {given}: with a sketch on its canvas this decoder takes {wanted}"
                    )
        elif config.unet.canvas:
            side = config.resolution // config.unet.patch
            self.to_canvas = nn.Linear(config.embedding, config.unet.canvas * side**2)
        self.unet = UNet(config.unet)

    def told(self, embeddings: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """`forward`'s `picture`: raw embeddings as they are, unit ones times √d, of entries of order one."""
        return embeddings if self.config.raw else embeddings * self.config.embedding**0.5

    def forward(
        self,
        x: Float[Tensor, "b 3 h w"],
        t: Float[Tensor, "b"],
        *,
        picture: Float[Tensor, "b d"],
        keep_picture: Bool[Tensor, "b"],
        caption: Caption,
    ) -> Float[Tensor, "b c h w"]:
        """Predict from the noised picture.

        `picture`: CLIP's embedding as it is `told`; rows where `keep_picture` is False are replaced by the
        null embedding. A dropped caption is the *empty* caption.
        """
        z = torch.where(rearrange(keep_picture, "b -> b 1"), picture, self.null)
        if isinstance(caption, TokenIds):
            rows, pooled = self.text(caption.ids, caption.mask)
            mask = None
        else:
            rows, pooled = self.text(caption)
            picture_mask = caption.mask.new_ones(len(x), self.config.picture_tokens)
            mask = torch.cat([picture_mask, caption.mask], dim=1)
        canvas = None
        if self.sketch is not None:
            patch = self.config.unet.patch
            heard = None
            if self.sketch.config.captioned and isinstance(caption, ClipTokens):
                heard = caption.embedding
            drawn = self.sketch(z, heard)
            canvas = rearrange(drawn, "b c (h p) (w q) -> b (c p q) h w", p=patch, q=patch)
            z = self.sketch.sphere(z)
        elif self.to_canvas is not None:
            side = self.config.resolution // self.config.unet.patch
            canvas = rearrange(self.to_canvas(z), "b (k h w) -> b k h w", h=side, w=side)
        tokens = rearrange(self.to_tokens(z), "b (n d) -> b n d", n=self.config.picture_tokens)
        out: Tensor = self.unet(
            x,
            t,
            condition=self.to_condition(z) + pooled,
            context=torch.cat([tokens, rows], dim=1),
            context_mask=mask,
            canvas=canvas,
        )
        return out


def paper() -> DecoderConfig:
    """GLIDE's 3.5 B network with z_i's projections, as in the paper's table 3: 3,564,910,086 parameters."""
    unet = UNetConfig(
        in_channels=3,
        out_channels=6,
        channels=512,
        depth=3,
        multipliers=(1, 2, 3, 4),
        attention=(2, 4, 8),
        head_width=64,
        context_width=2048,
        scale_shift=True,
        dropout=0.1,
        patch=1,
        canvas=0,
    )
    text = TextEncoderConfig(
        context=128,
        vocabulary=50_257,
        width=2048,
        layers=24,
        heads=32,
        condition_width=unet.embedding_width,
    )
    return DecoderConfig(
        resolution=64,
        embedding=1024,
        picture_tokens=4,
        learned_null=False,
        text=text,
        unet=unet,
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="eps", learned_variance=True),
    )


def karlo() -> DecoderConfig:
    """Karlo's decoder on CLIP ViT-L/14: 893,318,086 parameters."""
    unet = UNetConfig(
        in_channels=3,
        out_channels=6,
        channels=320,
        depth=3,
        multipliers=(1, 2, 3, 4),
        attention=(2, 4, 8),
        head_width=64,
        context_width=1536,
        scale_shift=True,
        dropout=0.0,
        patch=1,
        canvas=0,
    )
    return DecoderConfig(
        resolution=64,
        embedding=768,
        picture_tokens=4,
        learned_null=True,
        text=ClipTextConfig(width=768, embedding=768),
        unet=unet,
        diffusion=DiffusionSpec(schedule="cosine", steps=1000, prediction="eps", learned_variance=True),
        raw=True,
    )
