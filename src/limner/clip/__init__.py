"""CLIP: a picture tower and a text tower that agree on which caption belongs to which picture.

Both towers end in one shared space where matching pairs point the same way. unCLIP paints from a picture's
place in that space, DALL-E 1 ranks its candidates by it, GLIDE is guided by it.
Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision".
"""

from limner.clip.attribution import Attribution, integrated_gradients
from limner.clip.classifiers import (
    ClassifierConfig,
    MlpClassifier,
    MlpConfig,
    Pooled,
    TokenClassifier,
    TokenConfig,
    Tokens,
    classifier,
    zero_shot_of_pairs,
)
from limner.clip.model import (
    Clip,
    ClipConfig,
    TextConfig,
    TextWithProjection,
    TextWithProjectionConfig,
    VisionConfig,
    spoken,
    trimmed,
    unit,
)
from limner.clip.objective import classifying_objective, contrastive_loss, contrastive_objective
from limner.clip.resnet import ResNetConfig
from limner.clip.tower import Features
from limner.clip.zero_shot import TEMPLATES, class_embeddings, probabilities

__all__ = [
    "TEMPLATES",
    "Attribution",
    "ClassifierConfig",
    "Clip",
    "ClipConfig",
    "Features",
    "MlpClassifier",
    "MlpConfig",
    "Pooled",
    "ResNetConfig",
    "TextConfig",
    "TextWithProjection",
    "TextWithProjectionConfig",
    "TokenClassifier",
    "TokenConfig",
    "Tokens",
    "VisionConfig",
    "class_embeddings",
    "classifier",
    "classifying_objective",
    "contrastive_loss",
    "contrastive_objective",
    "integrated_gradients",
    "probabilities",
    "spoken",
    "trimmed",
    "unit",
    "zero_shot_of_pairs",
]
