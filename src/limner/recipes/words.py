"""Words learned from the captions of a gallery, as they stand in batches, kept beside the model."""

from pathlib import Path

from limner.data.loader import Gallery
from limner.errors import LimnerError
from limner.text import CaptionTokenizer

VOCABULARY = "bpe.json"
# Captions that words are learned from; drawn as batches are.
HEARD = 20_000


def vocabulary(
    gallery: Gallery, size: int, *, seed: int, kept: Path, init_from: Path | None = None
) -> CaptionTokenizer:
    """Words learned from captions as batches have them, grounds and all; those `kept` where there are some.

    Weights from the folder `init_from` know the words that lie beside them: others would be other ids.
    Raises LimnerError where those kept are others, or more than `size`, that is, of another run.
    """
    if init_from is not None:
        theirs = CaptionTokenizer.load(init_from / VOCABULARY)
        if kept.exists() and not theirs.same(CaptionTokenizer.load(kept)):
            raise LimnerError(
                f"{kept} has other words than {init_from}: its folder already holds a run, so choose another "
                "--out"
            )
        theirs.save(kept)
    elif not kept.exists():
        heard = gallery.draw(seed=seed, step=-2, rows=range(HEARD)).captions
        CaptionTokenizer.train(heard, size).save(kept)
    tokenizer = CaptionTokenizer.load(kept)
    if tokenizer.vocab_size > size:
        raise LimnerError(
            f"{kept} has {tokenizer.vocab_size} words, and this model knows {size}: it is from another run, "
            "so choose another --out"
        )
    return tokenizer
