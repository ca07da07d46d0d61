"""Naming pictures without training for it: a class is where CLIP puts its name, said in several ways.

Radford et al. 2021, sections 3.1.2 and 3.1.4. One wording has its own neighbours ("a crane" is a bird or a
machine); the mean of several is nearer to what they have in common.
"""

import re
from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from limner.clip.model import Clip, unit
from limner.data.words import named
from limner.text import ClipTokenizer

TEMPLATES = (
    "a {}",
    "{}",
    "an icon of a {}",
    "a picture of a {}",
    "a drawing of a {}",
    "a {} on a plain ground",
)

# Captions that the text tower reads at once.
READ_AT_ONCE = 256

_WITH_ARTICLE = re.compile(r"\ban? \{\}", re.IGNORECASE)


def said(template: str, label: str) -> str:
    """The label in a sentence: where the template has "a {}", with the article that it takes, if any.

    "an icon of a {}" makes "an icon of an apple", "an icon of grapes", "an icon of the flag of France".
    """
    return _WITH_ARTICLE.sub(lambda _: named(label), template).replace("{}", label)


def class_embeddings(
    clip: Clip, tokenizer: ClipTokenizer, labels: Sequence[str], templates: Sequence[str] = TEMPLATES
) -> Float[Tensor, "classes d"]:
    """A unit vector for each label: of every template the unit embedding, their mean, to length one again.

    Embeddings are averaged, not probabilities, so an ensemble costs no more per picture than one wording.
    Computed where the model is.
    """
    device = clip.log_scale.device
    texts = [said(template, label) for label in labels for template in templates]
    ids = tokenizer(texts, clip.config.text.context).to(device)
    each = torch.cat([unit(clip.encode_text(chunk).pooled) for chunk in ids.split(READ_AT_ONCE)])
    return unit(rearrange(each, "(c t) d -> c t d", t=len(templates)).mean(dim=1))


def probabilities(
    images: Float[Tensor, "n d"], classes: Float[Tensor, "classes d"], scale: Float[Tensor, ""]
) -> Float[Tensor, "n classes"]:
    """How likely each picture shows each class: softmax of exp(τ)·I·Cᵀ, of unit embeddings (figure 1)."""
    return (scale * images @ classes.T).softmax(dim=-1)
