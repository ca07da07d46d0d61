"""The sample that ships: small, permissive, credited, and made by the repository's own code."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from limner.data.folder import read
from limner.data.sample import CONCEPTS, JUDGE_STYLES, SIDE, TRAIN_STYLES, make_sample, sample_dir
from limner.data.sources import PICTURES
from limner.errors import LimnerError

ROOT = sample_dir().parent
PERMISSIVE = {"MIT", "Apache-2.0", "CC-BY-4.0"}


def shipped(folder: Path) -> dict[str, Path]:
    """The files that belong to a folder, by their place in it; what a loader keeps beside them is hidden."""
    found = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
    return {str(place): path for place, path in found.items() if not place.parts[-2:][0].startswith(".")}


def test_about_six_hundred_pictures_in_three_megabytes() -> None:
    counts = {part: len(read(sample_dir(part)).records) for part in ("train", "judge")}
    assert 550 <= sum(counts.values()) <= 700
    assert sum(path.stat().st_size for path in shipped(ROOT).values()) <= 3_000_000


@pytest.mark.parametrize(("part", "styles"), [("train", TRAIN_STYLES), ("judge", JUDGE_STYLES)])
def test_rows_pictures_licences_and_credits(part: str, styles: tuple[str, ...]) -> None:
    found = read(sample_dir(part))
    assert not found.problems
    credits_ = (sample_dir(part) / "ATTRIBUTION.md").read_text(encoding="utf-8")
    for record in found.records:
        style = str(record.facts["style"])
        assert style in styles
        assert record.facts["name"] in CONCEPTS
        assert record.facts["licence"] == PICTURES[style].licence
        assert record.facts["licence"] in PERMISSIVE
        assert len(record.captions) >= 8
        with Image.open(record.file) as picture:
            assert (picture.mode, picture.size) == ("RGBA", (SIDE, SIDE))
            assert picture.getchannel("A").getextrema()[0] == 0
    for style in styles:
        package = PICTURES[style]
        assert all(
            words in credits_ for words in (package.credit, package.licence, package.spec, package.home)
        )
    counts = Counter(str(record.facts["style"]) for record in found.records)
    assert min(counts.values()) >= 85


def test_the_two_parts_share_no_picture() -> None:
    pixels = {
        part: {r.file.read_bytes() for r in read(sample_dir(part)).records} for part in ("train", "judge")
    }
    assert not pixels["train"] & pixels["judge"]


def test_it_is_made_from_folders_that_were_fetched(tmp_path) -> None:
    # From the sample itself, which is a folder of the same kind, comes the sample again.
    made = make_sample(sample_dir("train"), sample_dir("judge"), tmp_path)
    for part in ("train", "judge"):
        there, again = shipped(ROOT / part), shipped(made / part)
        assert set(again) == set(there)
        for name in ("captions.jsonl", "ATTRIBUTION.md"):
            assert again[name].read_bytes() == there[name].read_bytes()
        for name in list(again)[::40]:
            if name.endswith(".png"):
                with Image.open(again[name]) as one, Image.open(there[name]) as other:
                    assert one.tobytes() == other.tobytes()


def test_a_folder_without_the_names_is_refused(tmp_path) -> None:
    with pytest.raises(LimnerError, match="has no drawing of red apple"):
        make_sample(sample_dir("judge"), sample_dir("judge"), tmp_path)


def test_the_parts_are_two() -> None:
    with pytest.raises(ValueError, match="holdout"):
        sample_dir("holdout")
