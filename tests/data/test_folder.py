"""Anybody's folder is read to the end: what is broken is named, what is good is kept."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from limner.data.folder import Problem, read, unreadable
from limner.errors import LimnerError


def picture(path: Path, colour: str = "red", size: int = 24) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = Image.effect_noise((size, size), 80).convert("RGB")
    Image.blend(noise, Image.new("RGB", (size, size), colour), 0.5).save(path)
    return path


def rows(folder: Path, *found: object) -> None:
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in found]
    (folder / "captions.jsonl").write_bytes(b"\n".join(lines) + b"\n")


def captions_of(folder: Path) -> dict[str, tuple[str, ...]]:
    return {str(record.file.relative_to(folder)): record.captions for record in read(folder).records}


def reasons(folder: Path) -> dict[str, str]:
    return {str(p.path.relative_to(folder)): p.reason for p in read(folder).problems}


def test_jsonl_with_facts(tmp_path) -> None:
    picture(tmp_path / "deep" / "a.png")
    picture(tmp_path / "b.jpg")
    rows(
        tmp_path,
        {"file": "deep/a.png", "captions": ["a  cat\n", "a pet", "a cat"], "split": "pair", "size": 3},
        {"file": "b.jpg", "caption": "a dog"},
    )
    found = read(tmp_path)
    assert not found.problems
    assert [record.captions for record in found.records] == [("a cat", "a pet"), ("a dog",)]
    assert found.records[0].file == tmp_path / "deep" / "a.png"
    assert found.records[0].facts == {"split": "pair", "size": 3}


def test_csv(tmp_path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    table = '\ufefffile,caption,split\na.png,"a cat, asleep",train\na.png,a pet,train\nb.png,,\n'
    (tmp_path / "captions.csv").write_text(table, encoding="utf-8")
    assert captions_of(tmp_path) == {"a.png": ("a cat, asleep", "a pet")}
    assert read(tmp_path).records[0].facts == {"split": "train"}
    assert reasons(tmp_path) == {"b.png": "its caption is empty"}


def test_text_beside_the_picture(tmp_path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a cat\n\n  a pet \n")
    picture(tmp_path / "b.WEBP".lower())
    (tmp_path / "b.txt").write_text("ein H\u00fcndchen", encoding="utf-8")
    assert captions_of(tmp_path) == {"a.png": ("a cat", "a pet"), "b.webp": ("ein H\u00fcndchen",)}


def test_tables_and_text_files_together(tmp_path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    rows(tmp_path, {"file": "a.png", "caption": "a cat"})
    (tmp_path / "b.txt").write_text("a dog")
    assert captions_of(tmp_path) == {"a.png": ("a cat",), "b.png": ("a dog",)}


def test_every_broken_thing_is_named_and_the_rest_is_kept(tmp_path) -> None:
    good = picture(tmp_path / "good.png")
    whole = picture(tmp_path / "cut.jpg", size=200).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "half.png").write_bytes(good.read_bytes()[:-30])
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "void.png").write_bytes(b"")
    picture(tmp_path / "silent.png")
    picture(tmp_path / "blank.png")
    picture(tmp_path / "number.png")
    picture(tmp_path / "lonely.png")
    picture(tmp_path / "latin.png")
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    rows(
        tmp_path,
        {"file": "good.png", "captions": ["a good one"]},
        b"{not json",
        b'{"file": "\xff.png"}',
        [1, 2],
        {"caption": "no file"},
        {"file": 7, "caption": "odd file"},
        {"file": "../secret.png", "caption": "outside"},
        {"file": "/etc/secret.png", "caption": "outside"},
        {"file": "gone.png", "caption": "missing"},
        *({"file": f"{name}", "caption": "x"} for name in ("cut.jpg", "half.png", "text.png", "void.png")),
        {"file": "silent.png", "captions": []},
        {"file": "blank.png", "caption": "  "},
        {"file": "number.png", "captions": [3, None]},
    )
    assert captions_of(tmp_path) == {"good.png": ("a good one",)}
    found = read(tmp_path).problems
    said = {problem.path.name: problem.reason for problem in found}
    for name in ("cut.jpg", "half.png", "text.png", "void.png"):
        assert "cannot be opened" in said[name]
    assert said["gone.png"] == "the file is missing"
    assert said["lonely.png"] == "it has no caption"
    assert said["latin.txt"] == "cannot be read as UTF-8 text"
    for name in ("silent.png", "blank.png", "number.png"):
        assert said[name] == "its caption is empty"
    table = [problem.reason for problem in found if problem.path.name == "captions.jsonl"]
    assert [reason[:6] for reason in table] == ["line 2", "line 3", "line 4", "a row ", "a row "]
    assert sum(problem.reason == "it lies outside the folder" for problem in found) == 2


@pytest.mark.parametrize("table", [b"name;text\na.png;a cat\n", b"", b"file,caption\n\xff\xfe,b\n"])
def test_a_csv_of_another_kind_is_a_problem(tmp_path, table) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "captions.csv").write_bytes(table)
    assert captions_of(tmp_path) == {"a.png": ("a cat",)}
    assert list(reasons(tmp_path)) == ["captions.csv"]


@given(st.lists(st.binary(max_size=60) | st.text(max_size=40).map(str.encode), max_size=6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_table_makes_it_fall_over(tmp_path, lines) -> None:
    picture(tmp_path / "a.png")
    for name in ("captions.jsonl", "captions.csv"):
        (tmp_path / name).write_bytes(b"\n".join(lines))
    found = read(tmp_path)
    assert all(isinstance(problem, Problem) and problem.reason for problem in found.problems)


def test_hidden_folders_are_passed_over(tmp_path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / ".limner" / "kept.png")
    assert reasons(tmp_path) == {"a.png": "it has no caption"}


def test_a_link_to_a_folder_above_is_not_followed_round_and_round(tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    for place in (tmp_path, tmp_path / "sub"):
        Image.new("RGB", (4, 4)).save(place / "a.png")
        (place / "a.txt").write_text("a")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "twice").symlink_to(tmp_path / "sub")
    assert len(read(tmp_path).records) == 2


def test_captions_of_cameras_are_found(tmp_path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "DSC1.JPG")
    (tmp_path / "DSC1.TXT").write_text("a pear")
    assert read(tmp_path).records[0].captions == ("a pear",)


def test_no_folder_and_no_pictures_are_said_so(tmp_path) -> None:
    with pytest.raises(LimnerError, match="there is no folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(LimnerError, match="holds no pictures"):
        read(tmp_path)
    (tmp_path / "a.txt").write_text("a cat")
    with pytest.raises(LimnerError, match=r"captions\.jsonl"):
        read(tmp_path)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "gif", "bmp", "tiff"])
def test_every_kind_is_opened_and_its_first_half_is_not(tmp_path, ending) -> None:
    path = picture(tmp_path / f"a.{ending}", size=64)
    assert unreadable(path) is None
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert unreadable(path) is not None
