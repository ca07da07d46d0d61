"""Measures of whole clouds: against closed forms, in parts as at once, and with intervals that hold."""

import math
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from limner.errors import LimnerError
from limner.evaluation import coverage, few, frechet_interval
from limner.evaluation.blur import all_blurred, blurred
from limner.evaluation.clip_score import clip_score, cosines, hessel_score
from limner.evaluation.cmmd import BLOCK, cmmd, cmmd_estimate
from limner.evaluation.copying import nearest
from limner.evaluation.coverage import K, covered, reach, realism, recall_estimate
from limner.evaluation.eyes import Eyes, inception, look, stream
from limner.evaluation.frechet import Gaussian, frechet_distance, gaussian
from limner.evaluation.frechet_interval import frechet_estimate
from limner.evaluation.inception_score import inception_score, inception_score_estimate
from limner.evaluation.intervals import Estimate, around, cells, redrawn, wilson
from limner.evaluation.moments import Moments


def normal(seed: int, rows: int, width: int = 4) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def names(rows: int, each: int = 1) -> list[str]:
    return [str(row // each) for row in range(rows)]


def test_moments_in_parts_are_those_of_the_whole():
    # Far from zero, where sums of squares lose all that is apart.
    x = 1e6 + normal(0, 1000).double()
    moments = Moments(4)
    for some in x.split([1, 0, 10, 489, 500]):
        moments.add(some)
    whole = gaussian(x)
    assert torch.allclose(moments.gaussian().mean, whole.mean, rtol=1e-12)
    assert torch.allclose(moments.gaussian().covariance, whole.covariance, rtol=1e-8)
    with pytest.raises(ValueError, match="5 features, and the others have 4"):
        moments.add(torch.zeros(1, 5))
    with pytest.raises(ValueError, match="rows: 0 so far"):
        Moments(4).gaussian()


@pytest.mark.parametrize("rows", [30, 90])
def test_the_interval_of_a_frechet_distance_is_of_resamples(rows: int):
    """Of few rows through inner products, of many through covariances: both as if written out."""
    width, real = 40, gaussian(normal(1, 200, 40))
    x = 0.5 + 2 * normal(2, rows, width)
    groups = names(rows, 3)
    few = rows <= width
    of = frechet_interval.through_products if few else frechet_interval.through_covariances
    distance = of(real, x)
    times = [*redrawn(groups, resamples=20, seed=5)]
    written_out = [
        frechet_distance(real, gaussian(x.repeat_interleave(torch.from_numpy(one), dim=0))) for one in times
    ]
    assert [distance(torch.from_numpy(one)) for one in times] == pytest.approx(written_out, rel=1e-6)
    found = frechet_estimate(real, x, groups, seed=5)
    assert found.value == pytest.approx(frechet_distance(real, gaussian(x)), rel=1e-6)
    assert found.low < found.value < found.high
    assert found.high - found.value < found.value


def test_the_interval_holds_what_other_samples_score():
    """Of more pictures than features, where only twenty resamples are drawn."""
    real = Gaussian(torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))
    studies = 200
    values = [frechet_distance(real, gaussian(1 + normal(seed, 100, 3))) for seed in range(studies)]
    held = 0
    for seed in range(studies):
        found = frechet_estimate(real, 1 + normal(seed, 100, 3), names(100), seed=seed)
        held += found.low <= float(np.mean(values)) <= found.high
    # Three deviations about 95 %.
    assert 180 <= held <= 198, held


def test_redrawing_keeps_groups_together():
    groups = ["a", "b", "a", "c", "b"]
    for times in redrawn(groups, resamples=20, seed=0):
        assert times[0] == times[2]
        assert times[1] == times[4]
        assert times[[0, 1, 3]].sum() == 3
    of, count = cells(groups, 2)
    assert (of.tolist(), count) == ([0, 1, 0, 0, 1], 2)
    assert around(5.0, [6.0, 7.0, 8.0], 9).value == 5.0
    assert around(5.0, [7.0, 7.0], 9).low == 5.0


def test_cmmd_by_hand_and_of_a_closed_form():
    x, y = normal(3, 5), normal(4, 7)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return math.exp(-float((a - b).double().square().sum()) / 200)

    def mean(p: torch.Tensor, q: torch.Tensor) -> float:
        return sum(kernel(a, b) for a in p for b in q) / (len(p) * len(q))

    assert cmmd(x, y) == pytest.approx(1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y)), rel=1e-5)
    # Two points: 1000 · 2 (1 - exp(-‖a - b‖²/200)).
    a, b = torch.zeros(1, 2), torch.tensor([[6.0, 8.0]])
    assert cmmd(a, b) == pytest.approx(2000 * (1 - math.exp(-0.5)), rel=1e-6)
    assert cmmd(x, x) == pytest.approx(0, abs=1e-9)
    # N(0, 1) and N(m, 1) in d dimensions: 2 (σ²/(σ²+2))^(d/2) (1 - exp(-‖m‖²/2(σ²+2))).
    wide = [torch.randn(4000, 2, generator=torch.Generator().manual_seed(s)) for s in (5, 6)]
    wide[1] = wide[1] + torch.tensor([6.0, 0.0])
    assert len(wide[0]) > BLOCK
    expected = 2000 * (100 / 102) * (1 - math.exp(-36 / 204))
    assert cmmd(*wide) == pytest.approx(expected, rel=0.02)
    with pytest.raises(ValueError, match="at least one of each"):
        cmmd(torch.zeros(0, 3), torch.zeros(2, 3))


def test_the_interval_of_cmmd_is_of_resamples():
    x, y = normal(7, 40), normal(8, 60) + 3
    found = cmmd_estimate(x, y, names(60, 2), seed=0)
    assert found.value == pytest.approx(cmmd(x, y), rel=1e-9)
    others = [cmmd(x, normal(seed, 60) + 3) for seed in range(9, 40)]
    assert found.low < float(np.mean(others)) < found.high
    spread = np.std(others) * 3.92
    assert 0.5 * spread < found.high - found.low < 2 * spread
    # More groups than are kept apart.
    many = cmmd_estimate(x, normal(8, 1200), names(1200), seed=0)
    assert many.value == pytest.approx(cmmd(x, normal(8, 1200)), rel=1e-9)


def test_the_score_of_closed_forms():
    sure = torch.eye(8).repeat(4, 1)
    assert inception_score(sure.split(3)) == pytest.approx(8)
    assert inception_score([torch.full((5, 8), 1 / 8)]) == pytest.approx(1)
    assert inception_score([sure[:1]]) == pytest.approx(1)
    # Two of three classes: exp(H(mean) - mean H).
    p = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    mean = [0.55, 0.45]
    bits = -sum(q * math.log(q) for q in mean)
    own = -sum(q * math.log(q) for row in p.tolist() for q in row if q) / 2
    assert inception_score([p]) == pytest.approx(math.exp(bits - own), rel=1e-6)
    with pytest.raises(ValueError, match="batches is empty"):
        inception_score([])


def test_the_interval_of_the_score_keeps_groups_together():
    logits = 2 * normal(9, 60, 5)
    p = logits.softmax(dim=1)
    found = inception_score_estimate(p, names(60), seed=1)
    assert found.value == pytest.approx(inception_score([p]), rel=1e-12)
    # The same pictures twice are no surer.
    twice = inception_score_estimate(p.repeat_interleave(2, dim=0), names(120, 2), seed=1)
    assert (twice.value, twice.low, twice.high) == pytest.approx((found.value, found.low, found.high))
    assert found.low < found.value < found.high


def test_clip_scores_are_the_two_published_scales_of_one_cosine():
    pictures = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    captions = torch.tensor([[1.0, 0.0], [-2.0, 0.0]])
    assert cosines(pictures, captions).tolist() == pytest.approx([0.6, -1.0])
    assert clip_score(pictures, captions, ["a", "b"], seed=0).value == pytest.approx(-20)
    assert hessel_score(pictures, captions, ["a", "b"], seed=0).value == pytest.approx(0.75)


def test_balls_in_blocks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch):
    x, y = normal(10, 50), normal(11, 40) + 0.5
    apart = torch.cdist(x.double(), x.double()).fill_diagonal_(0)
    assert torch.allclose(reach(x), apart.sort(dim=1).values[:, 3])
    whole = covered(x, y), realism(x, y), nearest(x, y)
    for module in (coverage, sys.modules["limner.evaluation.copying"]):
        monkeypatch.setattr(module, "BLOCK", 7)
    assert torch.equal(covered(x, y), whole[0])
    assert torch.allclose(realism(x, y), whole[1])
    assert torch.equal(nearest(x, y)[1], whole[2][1])
    assert 0 < whole[0].float().mean() < 1


def test_realism_is_above_one_inside_and_falls_with_the_distance():
    real = torch.tensor([[0.0], [1.0], [2.0], [3.0], [50.0]])
    # Reaches are 3, 2, 2, 3 and 49; of these 2, 2, 3 and 3 are kept.
    assert realism(real, torch.tensor([[1.5], [5.0], [9.0]])).tolist() == pytest.approx([4.0, 1.5, 0.5])
    assert realism(real, torch.tensor([[50.0]])).item() < 0.1


def test_the_interval_of_a_recall_holds_what_other_paintings_reach_by_halves():
    """Of 100 studies of 40 paintings beside the same 600 real ones; over the real ones alone it does not."""
    stream = torch.Generator().manual_seed(0)
    real = torch.randn(600, 6, generator=stream)
    found = [
        recall_estimate(0.8 * torch.randn(40, 6, generator=stream), real, seed=seed) for seed in range(100)
    ]
    mean = float(np.mean([one.value for one in found]))
    assert 0.5 < mean < 0.9

    def held(intervals: list[Estimate]) -> int:
        return sum(one.low <= mean <= one.high for one in intervals)

    over_real = [wilson(round(one.value * len(real)), len(real)) for one in found]
    print("by halves", held(found), "over real pictures", held(over_real), "of 100")
    # The binomial's 99.9 % points of 100 at 95 % are 87 and 100.
    assert held(found) >= 87
    assert held(over_real) <= 60


def test_a_recall_of_few_or_of_all_is_not_sure():
    """What is covered is covered by halves too; the interval is that of as many trials as paintings."""
    points = normal(0, 4 * (K + 1))
    everything = recall_estimate(points, torch.zeros(5, 4), seed=0)
    assert (everything.value, everything.high, everything.total) == (1.0, 1.0, 16)
    assert everything.low == pytest.approx(wilson(16, 16).low)
    nothing = recall_estimate(points, torch.full((5, 4), 99.0), seed=0)
    assert (nothing.value, nothing.low, nothing.high) == (0.0, 0.0, pytest.approx(wilson(0, 16).high))
    few_points = recall_estimate(points[:4], torch.cat([torch.zeros(5, 4), torch.full((5, 4), 99.0)]), seed=0)
    assert (few_points.value, few_points.low) == (0.5, pytest.approx(wilson(2, 4).low))
    with pytest.raises(ValueError, match="painted: 1 rows, of which none has a neighbour"):
        recall_estimate(points[:1], points, seed=0)


def test_blur_is_a_gaussian_of_the_picture_size():
    point = Image.new("RGB", (256, 256))
    point.putpixel((128, 128), (255, 255, 255))
    flat = Image.new("RGB", (256, 256), (10, 200, 30))
    assert blurred(flat, 4.0).tobytes() == flat.tobytes()
    assert blurred(point, 0.0) is point
    edge = Image.new("L", (256, 256))
    edge.paste(255, (128, 0, 256, 256))
    row = np.asarray(blurred(edge.convert("RGB"), 4.0))[128, :, 0].astype(float)
    expected = [255 * 0.5 * (1 + math.erf((x - 127.5) / (4 * math.sqrt(2)))) for x in range(256)]
    assert np.abs(row - expected).max() < 6
    # A picture of a quarter the side is blurred by a quarter.
    small = Image.new("RGB", (64, 64))
    small.paste((255, 255, 255), (32, 0, 64, 64))
    quarter = np.asarray(blurred(small, 4.0))[32, :, 0].astype(float)
    expected = [255 * 0.5 * (1 + math.erf((x - 31.5) / math.sqrt(2))) for x in range(64)]
    assert np.abs(quarter - expected).max() < 12
    assert [one.size for one in all_blurred([point, small], 1.0)] == [(256, 256), (64, 64)]
    with pytest.raises(ValueError, match="radius is -1"):
        blurred(flat, -1.0)


def test_small_samples_are_told_of():
    assert few.few_for_frechet(1281, 1280) is None
    said = few.few_for_frechet(300, 1280)
    assert said is not None
    assert said.startswith("a Fréchet distance of 300 pictures says little: it wants 1281 or more")
    assert few.few_for_score(100, 300) is not None
    assert few.few_for_balls(1000) is None
    assert few.few_for_kernel(10) is not None
    assert few.few_for_interval(29) is not None
    with pytest.warns(few.FewPicturesWarning, match="1281 or more"):
        few.warn(said)


def test_pictures_pass_by_and_only_features_stay():
    alive = 0
    most = 0

    class Counted:
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    eyes = Eyes("nobody", "nobody", 3, lambda images: torch.ones(len(images), 3))
    found = look(eyes, (Counted() for _ in range(200)), total=200)
    assert found.shape == (200, 3)
    assert most <= 64
    assert [len(one) for one in stream(eyes, iter([]), total=0)] == []


def test_without_torch_fidelity_inception_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(LimnerError, match=r"pip install \"limner\[inception\]\""):
        inception()
