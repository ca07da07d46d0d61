"""`limner sample` as it is run: one sheet, its path, or one line that says what is wrong."""

import pytest
from PIL import Image

from limner.cli import main


@pytest.fixture
def sample(autoencoders, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        status = main(["sample", *map(str, arguments), "--weights", str(autoencoders), "--device", "cpu"])
        said = capsys.readouterr()
        return status, said.out.strip(), said.err.strip()

    return run


@pytest.mark.parametrize("model", ["vae", "vqvae", "vqvae2", "glow"])
def test_one_sheet_the_same_each_time(model, sample, tmp_path):
    status, path, said = sample("--model", model, "--count", 3, "--seed", 5)
    assert (status, path, said) == (0, f"paintings/{model}-seed5.png", "")
    sample("--model", model, "--count", 3, "--seed", 5, "--out", "again.png")
    assert (tmp_path / path).read_bytes() == (tmp_path / "again.png").read_bytes()
    with Image.open(path) as sheet:
        assert sheet.text["model"] == model
        assert (sheet.text["seed"], sheet.text["count"]) == ("5", "3")
        assert sheet.text.get("temperature") == {"vae": None, "glow": "0.7"}.get(model, "1.0")


def test_temperature_reaches_the_codes(sample):
    for name, temperature in (("0.png", 0), ("1.png", 1)):
        assert sample("--model", "vqvae", "--count", 2, "--temperature", temperature, "--out", name)[0] == 0
    assert Image.open("0.png").text["temperature"] == "0.0"
    assert Image.open("0.png").tobytes() != Image.open("1.png").tobytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--count", 0), "count is 0: give a whole number from 1 to 64"),
        (("--temperature", -1), "temperature is -1.0: give a finite number from 0"),
        (("--model", "vae", "--temperature", 0.5), "the vae has none: leave it out"),
        (("--out", "sheet.jpg"), "pictures are PNG files"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, said, sample, tmp_path):
    status, path, error = sample(*arguments)
    assert (status, path) == (2, "")
    assert said in error
    assert list(tmp_path.iterdir()) == []


def test_info_lists_the_parts_of_each(autoencoders):
    from limner.cli.info import weights_table
    from limner.pipelines import load_generator

    for name, parts in (("vae", 1), ("vqvae", 2), ("vqvae2", 3), ("glow", 1)):
        table = weights_table(name, autoencoders / name)
        assert table.row_count == parts
        assert table.title == f"{name} {load_generator(name, weights=autoencoders).digest}"
