"""What the papers found, claim by claim, beside what the same measure says here.

People's votes were on COCO, of models a thousand times as large; here the stand-in panel answers, and a claim
holds, or does not, as far as automatic judges can tell. Nothing here is a vote.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from limner.comparison.panel import Preference, Question, Verdict, alike, between, preferred
from limner.comparison.scores import Scored
from limner.evaluation.few import few_for_interval
from limner.evaluation.intervals import Estimate

RAMESH_2021 = "Ramesh et al. 2021"
NICHOL_2021 = "Nichol et al. 2021"
RAMESH_2022 = "Ramesh et al. 2022"


@dataclass(frozen=True, kw_only=True)
class Vote:
    """People preferred `first` to `second`, `published` % of the time; `alike` where the paper says as good.

    Of several names on a side the first that was painted stands for it.
    """

    claim: str
    source: str
    first: tuple[str, ...]
    second: tuple[str, ...]
    question: Question
    published: str
    alike: bool = False


@dataclass(frozen=True, kw_only=True)
class Order:
    """A measure of `better` is better than that of `worse`, whichever way the measure counts.

    At a `radius` both sides are blurred.
    """

    claim: str
    source: str
    better: tuple[str, ...]
    worse: tuple[str, ...]
    key: str
    more: bool
    published: str
    radius: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One claim, by one judge or measure here; `found` and `verdict` say what came of it."""

    claim: str
    source: str
    published: str
    by: str
    found: str
    verdict: Verdict


DALLE1, DALLE2 = ("dalle1:reranked", "dalle1"), ("dalle2",)
GLIDE, DFGAN, AUTOREGRESSIVE = ("glide",), ("dfgan",), ("dalle2:autoregressive",)

# The second figure of GLIDE against DALL-E 1 is at temperature 0.85 and re-ranked, the article's; those of
# the two guidances are what their Elo scores come to, 1 / (1 + 10^(-Δ/400)).
VOTES = (
    Vote(
        claim="DALL-E 1 is preferred to DF-GAN as more realistic",
        source=RAMESH_2021,
        first=DALLE1,
        second=DFGAN,
        question="realism",
        published="90.0 %",
    ),
    Vote(
        claim="DALL-E 1 is preferred to DF-GAN as nearer to the caption",
        source=RAMESH_2021,
        first=DALLE1,
        second=DFGAN,
        question="caption",
        published="93.3 %",
    ),
    Vote(
        claim="GLIDE is preferred to DALL-E 1 as more realistic",
        source=NICHOL_2021,
        first=GLIDE,
        second=DALLE1,
        question="realism",
        published="87 %",
    ),
    Vote(
        claim="GLIDE is preferred to DALL-E 1 as nearer to the caption",
        source=NICHOL_2021,
        first=GLIDE,
        second=DALLE1,
        question="caption",
        published="69 %",
    ),
    Vote(
        claim="classifier-free guidance is preferred to CLIP guidance as more realistic",
        source=NICHOL_2021,
        first=GLIDE,
        second=("glide:clip",),
        question="realism",
        published="71 %, from Elo",
    ),
    Vote(
        claim="classifier-free guidance is preferred to CLIP guidance as nearer to the caption",
        source=NICHOL_2021,
        first=GLIDE,
        second=("glide:clip",),
        question="caption",
        published="62 %, from Elo",
    ),
    Vote(
        claim="DALL-E 2 is as realistic as GLIDE",
        source=RAMESH_2022,
        first=DALLE2,
        second=GLIDE,
        question="realism",
        published="48.9 ± 3.1 %",
        alike=True,
    ),
    Vote(
        claim="GLIDE is a little nearer to the caption than DALL-E 2",
        source=RAMESH_2022,
        first=GLIDE,
        second=DALLE2,
        question="caption",
        published="54.7 ± 3.0 %",
    ),
    Vote(
        claim="DALL-E 2 is more diverse than GLIDE",
        source=RAMESH_2022,
        first=DALLE2,
        second=GLIDE,
        question="diversity",
        published="70.5 ± 2.8 %",
    ),
    Vote(
        claim="with the autoregressive prior DALL-E 2 is nearly as realistic as GLIDE",
        source=RAMESH_2022,
        first=AUTOREGRESSIVE,
        second=GLIDE,
        question="realism",
        published="47.1 ± 3.1 %",
        alike=True,
    ),
    Vote(
        claim="with the autoregressive prior DALL-E 2 is more diverse than GLIDE",
        source=RAMESH_2022,
        first=AUTOREGRESSIVE,
        second=GLIDE,
        question="diversity",
        published="62.6 ± 3.0 %",
    ),
)

ORDERS = (
    Order(
        claim="DF-GAN is nearer to real pictures than DALL-E 1",
        source=f"{RAMESH_2021}; {NICHOL_2021}",
        better=DFGAN,
        worse=("dalle1", "dalle1:reranked"),
        key="frechet",
        more=False,
        published="FID 21.42 and about 28",
    ),
    Order(
        claim="blurred by radius 1, DALL-E 1 is the nearer",
        source=RAMESH_2021,
        better=("dalle1", "dalle1:reranked"),
        worse=DFGAN,
        key="frechet",
        more=False,
        published="by about 6 before the next best",
        radius=1.0,
    ),
    Order(
        claim="blurred by radius 2, DALL-E 1 has the larger score",
        source=RAMESH_2021,
        better=("dalle1", "dalle1:reranked"),
        worse=DFGAN,
        key="score",
        more=True,
        published="the best from radius 2",
        radius=2.0,
    ),
    Order(
        claim="GLIDE is nearer to real pictures than DALL-E 1",
        source=NICHOL_2021,
        better=GLIDE,
        worse=("dalle1", "dalle1:reranked"),
        key="frechet",
        more=False,
        published="FID 12.24 and about 28",
    ),
    Order(
        claim="DALL-E 2 is nearer to real pictures than GLIDE",
        source=RAMESH_2022,
        better=DALLE2,
        worse=GLIDE,
        key="frechet",
        more=False,
        published="FID 10.39 and 12.24",
    ),
    Order(
        claim="the diffusion prior is no farther from real pictures than the autoregressive one",
        source=RAMESH_2022,
        better=DALLE2,
        worse=AUTOREGRESSIVE,
        key="frechet",
        more=False,
        published="FID 10.39 and 10.63",
    ),
    Order(
        claim="pictures that CLIP has chosen score higher with CLIP",
        source=f"{RAMESH_2021}, of FID and IS",
        better=("dalle1:reranked",),
        worse=("dalle1",),
        key="clip",
        more=True,
        published="better the more candidates",
    ),
    Order(
        claim="pictures that CLIP has chosen are nearer to real ones",
        source=RAMESH_2021,
        better=("dalle1:reranked",),
        worse=("dalle1",),
        key="frechet",
        more=False,
        published="better the more candidates",
    ),
)


def answers(preferences: Sequence[Preference], everybody: Sequence[Scored], *, prompts: int) -> list[Answer]:
    """Every claim of which both sides were painted; a line for each judge that answers.

    Of fewer `prompts` than an interval wants nothing is settled, whatever the interval says.
    """
    few = few_for_interval(prompts) is not None
    by_name = {one.name: one for one in everybody}
    found = []
    for vote in VOTES:
        first, second = chosen(vote.first, by_name), chosen(vote.second, by_name)
        if first is None or second is None:
            continue
        for one in between(preferences, first, second, vote.question):
            found.append(
                Answer(
                    claim=vote.claim,
                    source=vote.source,
                    published=vote.published,
                    by=one.judge,
                    found=f"{by_name[first].title} over {by_name[second].title}: {one.won.percent()}",
                    verdict="not settled" if few else (alike if vote.alike else preferred)(one.won),
                )
            )
    for order in ORDERS:
        better, worse = chosen(order.better, by_name), chosen(order.worse, by_name)
        if better is None or worse is None:
            continue
        pair = [by_name[name].blurred.get(order.radius, {}) for name in (better, worse)]
        if order.radius == 0:
            pair = [by_name[name].numbers for name in (better, worse)]
        if all(order.key in one for one in pair):
            numbers = [one[order.key] for one in pair]
            found.append(
                Answer(
                    claim=order.claim,
                    source=order.source,
                    published=order.published,
                    by=NAMES[order.key],
                    found=", ".join(
                        f"{by_name[name].title} {number.written(2)}"
                        for name, number in zip((better, worse), numbers, strict=True)
                    ),
                    verdict="not settled" if few else ordered(*numbers, more=order.more),
                )
            )
    return found


NAMES = {
    "frechet": "Fréchet distance, EfficientNet-Lite0",
    "score": "Inception-style score",
    "clip": "CLIP score",
}


def ordered(better: Estimate, worse: Estimate, *, more: bool) -> Verdict:
    """Whether the former is better: their intervals do not meet."""
    high, low = (better, worse) if more else (worse, better)
    if high.low > low.high:
        return "held"
    return "did not hold" if high.high < low.low else "not settled"


def chosen(names: Sequence[str], painted: dict[str, Scored]) -> str | None:
    """The first of these that was painted."""
    return next((name for name in names if name in painted), None)
