import pytest
import torch

from limner.clip import Clip, unit
from limner.data.sample import sample_dir
from limner.evaluation.prior_cosine import compared, every, prior_cosine
from limner.evaluation.retrieval import read
from limner.text import ClipTokenizer

NOWHERE = torch.zeros(8)
NOWHERE[0] = 1


def truth(rows: int = 60) -> torch.Tensor:
    """Pictures in a cone about the first axis, as CLIP's are."""
    return unit(NOWHERE + 0.8 * unit(torch.randn(rows, 8, generator=torch.Generator().manual_seed(0))))


def concepts(rows: int = 60) -> list[str]:
    return [str(row) for row in range(rows)]


def test_a_prior_that_knows_is_told_from_one_that_does_not():
    z = truth()
    knows = compared(truth=z, prior=z, mean_picture=z.mean(dim=0), captions=-z, concepts=concepts(), seed=0)
    assert knows.prior.value == pytest.approx(1)
    assert knows.caption.value == pytest.approx(-1)
    # Predicting the mean looks like much, and is nothing: that is why it stands beside.
    assert 0.6 < knows.mean_picture.value < 0.95
    assert knows.other_caption.value < knows.mean_picture.value

    mean = z.mean(dim=0).expand(60, -1)
    blind = compared(
        truth=z, prior=mean, mean_picture=z.mean(dim=0), captions=-z, concepts=concepts(), seed=0
    )
    assert blind.prior.value == pytest.approx(blind.mean_picture.value)
    assert blind.prior.value == pytest.approx(blind.other_caption.value)


@pytest.mark.parametrize("seed", range(20))
def test_another_caption_is_never_ones_own(seed: int):
    # Orthogonal pictures: the cosine with any other is zero, with its own one.
    z = torch.eye(5)
    found = compared(
        truth=z, prior=z, mean_picture=torch.ones(5), captions=z, concepts=concepts(5), seed=seed
    )
    assert found.other_caption.value == 0
    assert found.mean_picture.value == pytest.approx(5**-0.5)


def test_lengths_do_not_matter_and_groups_widen_the_interval():
    z = truth()
    noisy = z + 0.5 * truth().roll(1, dims=0)
    alone = compared(truth=z, prior=noisy, mean_picture=NOWHERE, captions=z, concepts=concepts(), seed=0)
    longer = compared(
        truth=3 * z, prior=7 * noisy, mean_picture=NOWHERE, captions=z, concepts=concepts(), seed=0
    )
    assert longer.prior.value == pytest.approx(alone.prior.value)
    # Sorted, so that neighbours are alike, and six neighbours are one concept.
    order = torch.cosine_similarity(z, noisy).argsort()
    grouped = compared(
        truth=z[order],
        prior=noisy[order],
        mean_picture=NOWHERE,
        captions=z,
        concepts=[str(row // 6) for row in range(60)],
        seed=0,
    )
    assert grouped.prior.high - grouped.prior.low > 1.5 * (alone.prior.high - alone.prior.low)


def test_on_real_pictures_an_imagination_of_captions_equals_the_caption_baseline(clip: Clip):
    tokenizer = ClipTokenizer(600)
    asked: list[str] = []

    def imagine(captions: object) -> torch.Tensor:
        asked.extend(captions)  # type: ignore[call-overload]
        return read(clip, tokenizer, asked)

    found = prior_cosine(imagine, clip, tokenizer, sample_dir(), split="pair")
    assert found.prior == found.caption
    assert found.prior.total == len(asked) > 5
    assert all("," in caption for caption in asked)


def test_a_single_row_has_no_other():
    with pytest.raises(ValueError, match="at least two"):
        compared(
            truth=truth(1),
            prior=truth(1),
            mean_picture=NOWHERE,
            captions=truth(1),
            concepts=["a"],
            seed=0,
        )


def test_every_is_spread_out():
    assert every(10, 20) == list(range(10))
    assert every(10, 3) == [0, 4, 8]
    assert len(every(8590, 2000)) <= 2000
