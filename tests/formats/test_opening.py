"""`limner open` and `limner convert` as they are run, and what folders may hold."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from limner import checkpoint
from limner.cli import main
from limner.clip import Clip, ClipConfig, TextConfig, VisionConfig
from limner.errors import LimnerError
from limner.formats import opened
from limner.formats.huggingface_clip import places as hugging_places
from limner.formats.huggingface_clip import written
from limner.formats.openai_clip import places as openai_places
from limner.formats.places import Place, give, take
from limner.layers.transformer import Activation
from limner.weights import shipped


def config(activation: Activation = "quick_gelu") -> ClipConfig:
    return ClipConfig(
        vision=VisionConfig(resolution=16, patch=8, width=64, layers=2, heads=1),
        text=TextConfig(context=8, vocabulary=20, width=128, layers=1, heads=2),
        embedding=16,
        activation=activation,
    )


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(Clip(config()).state_dict())


@pytest.mark.parametrize("places", [openai_places, hugging_places])
def test_places_are_their_own_inverse_and_leave_nothing_out(places, state):
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    there = give(places(config()), state)
    back = take(list(places(config())), there, shapes)
    assert (back.missing, back.wrong, back.unused) == ((), (), ())
    assert back.state.keys() == state.keys()
    assert all(torch.equal(back.state[name], tensor) for name, tensor in state.items())


def test_what_does_not_come_out_even_is_said():
    places = [Place("a", ("x", "y")), Place("b", ("z",), turned=True), Place("c", ("w",))]
    tensors = {"x": torch.zeros(1, 3), "y": torch.zeros(2, 3), "z": torch.zeros(2, 5), "over": torch.zeros(1)}
    found = take(places, tensors, {"a": (3, 3), "b": (2, 5), "c": ()})
    assert found.state.keys() == {"a"}
    assert found.missing == ("w",)
    assert found.wrong == ("z (2, 5) where (2, 5) is needed, transposed",)
    assert found.unused == ("over",)


def test_opening_says_what_it_is_and_what_was_assumed(state, tmp_path, capsys):
    path = tmp_path / "anything"
    save_file(give(openai_places(config()), state), path)
    assert main(["open", str(path)]) == 0
    said = capsys.readouterr().out
    parameters = sum(tensor.numel() for tensor in state.values())
    for words in ("OpenAI CLIP", "safetensors", f"{parameters:,}", "assumed: activation quick_gelu"):
        assert words in said
    assert "clip works: a picture gives (16,) and a caption gives (16,)" in said
    assert main(["open", str(path), "--json", "--activation", "gelu", "--head-width", "32"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["assumed"] == ["heads of 64 numbers in the text tower, as in all that OpenAI published"]
    assert found["parts"]["clip"]["unused"] == []
    assert found["parts"]["clip"]["config"]["vision"]["heads"] == 2
    assert found["parts"]["clip"]["config"]["activation"] == "gelu"


def test_what_is_wrong_stands_beside_what_it_is(state, tmp_path, capsys):
    tensors = give(openai_places(config()), state)
    del tensors["ln_final.bias"]
    save_file(tensors, tmp_path / "weights")
    assert main(["open", str(tmp_path / "weights"), "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["parts"]["clip"]["missing"] == ["ln_final.bias"]
    assert said.err.endswith("cannot be used: clip: missing: ln_final.bias\n")


def test_what_is_left_over_would_do_something_elsewhere(state, tmp_path, capsys):
    """Such as LayerScale: a network that is without it is another. Names are shown and never obeyed."""
    tensors = give(openai_places(config()), state)
    odd = {"visual.transformer.resblocks.0.ls_1.gamma": torch.ones(64), "[/red]\x1b]0;x": torch.ones(1)}
    save_file(tensors | odd, tmp_path / "weights")
    assert main(["open", str(tmp_path / "weights")]) == 2
    said = capsys.readouterr()
    assert "\x1b" not in said.out + said.err
    assert "left over: '[/red]\\x1b]0;x', visual.transformer.resblocks.0.ls_1.gamma" in said.err


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("visual.proj", torch.zeros(64, 16, dtype=torch.int64)),
        ("visual.proj", torch.zeros(64, 16, dtype=torch.complex64)),
        ("visual.proj", torch.zeros(64, 16).to(torch.float8_e4m3fn)),
        ("visual.positional_embedding", torch.zeros(0, 64)),
        ("token_embedding.weight", torch.zeros(0, 128)),
        ("token_embedding.weight", torch.zeros(1, 128)),
        ("text_projection", torch.zeros(())),
        ("positional_embedding", torch.zeros(1, 128)),
        ("visual.conv1.weight", torch.zeros(0, 3, 8, 8)),
        ("visual.conv1.weight", torch.zeros(64, 3, 0, 0)),
        ("visual.conv1.weight", torch.zeros(64)),
    ],
)
def test_tensors_that_no_network_has_are_one_line(state, tmp_path, capsys, name, tensor):
    save_file(give(openai_places(config()), state) | {name: tensor}, tmp_path / "weights")
    assert main(["open", str(tmp_path / "weights")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("limner: ")
    assert errors.count("\n") == 1


def test_converting_writes_a_folder_of_our_own(state, tmp_path, capsys):
    save_file(give(openai_places(config()), state), tmp_path / "weights")
    out = tmp_path / "deep" / "clip"
    assert main(["convert", str(tmp_path / "weights"), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    found, ours = checkpoint.load(out, ClipConfig)
    assert found == config()
    assert all(torch.equal(ours[name], tensor) for name, tensor in state.items())
    assert main(["open", str(out)]) == 2
    assert "is limner's own already: commands take it as it is, by --weights" in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "weights"), "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"limner: {out} is there already: give the name of a new folder\n"
    back = tmp_path / "back"
    assert main(["convert", str(out), "--to", "huggingface", "--out", str(back)]) == 0
    assert opened(back).parts[0].config == config()
    direct = tmp_path / "direct"
    assert main(["convert", str(tmp_path / "weights"), "--to", "huggingface", "--out", str(direct)]) == 0
    assert (direct / "model.safetensors").read_bytes() == (back / "model.safetensors").read_bytes()
    arguments = [
        "convert",
        str(out),
        "--to",
        "huggingface",
        "--activation",
        "gelu",
        "--out",
        str(tmp_path / "no"),
    ]
    assert main(arguments) == 2
    assert "activation is gelu, but" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert main(["convert", str(tmp_path / "weights"), "--out", str(tmp_path / "link")]) == 2
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


def test_what_others_do_not_have_is_not_written_for_them(state):
    own = ClipConfig(
        vision=VisionConfig(resolution=16, patch=8, width=64, layers=2, heads=1, layout=4),
        text=config().text,
        embedding=16,
        activation="gelu",
    )
    with pytest.raises(LimnerError, match="parts of limner's own"):
        written(own, state)


def test_settings_are_believed_and_checked(state, tmp_path):
    tensors, settings = written(config("gelu"), state)
    save_file(tensors, tmp_path / "model.safetensors")

    def told(**changes: object) -> None:
        text = settings["text_config"] | {k: v for k, v in changes.items() if k != "preprocess_cfg"}
        (tmp_path / "config.json").write_text(json.dumps(settings | {"text_config": text}))

    told()
    assert opened(tmp_path).parts[0].config == config("gelu")
    assert opened(tmp_path / "model.safetensors").parts[0].config == config("gelu")
    for changes, message in (
        ({"hidden_act": "relu"}, "compute gelu and relu"),
        ({"layer_norm_eps": 1e-6}, "normalises with 1e-06"),
        ({"eos_token_id": 7}, "end with the token 7"),
        ({"num_attention_heads": 3}, "128 wide and would have 3 heads"),
    ):
        told(**changes)
        with pytest.raises(LimnerError, match=message):
            opened(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(LimnerError, match=r"config\.json is no JSON"):
        opened(tmp_path)


def test_pictures_that_are_normalised_otherwise_are_refused(state, tmp_path):
    save_file(give(openai_places(config()), state), tmp_path / "open_clip_model.safetensors")
    settings = {"model_cfg": {"embed_dim": 16}, "preprocess_cfg": {"mean": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    with pytest.raises(LimnerError, match=r"have the mean \[0\.5, 0\.5, 0\.5\]"):
        opened(tmp_path)
    for cfg, message in (
        ({"vision_cfg": {"pool_type": "avg"}}, "vision_cfg.pool_type 'avg', which limner's towers do not do"),
        ({"text_cfg": {"no_causal_mask": True}}, "text_cfg.no_causal_mask 'True'"),
        ({"text_cfg": {"hf_model_name": "roberta"}}, "text_cfg.hf_model_name 'roberta'"),
        ({"text_cfg": {"heads": 100}}, "128 wide, and open_clip_config.json gives it 100 heads"),
        ({"text_cfg": {"heads": "2"}}, "has '2' for text_cfg.heads"),
        ({"text_cfg": [1]}, r"has '\[1\]' for 'text_cfg', where settings are wanted"),
    ):
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg}))
        with pytest.raises(LimnerError, match=message):
            opened(tmp_path)
    for mean in (5, ["x"], {}):
        told = {"model_cfg": {"embed_dim": 16}, "preprocess_cfg": {"mean": mean}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(told))
        with pytest.raises(LimnerError, match="pictures have the mean"):
            opened(tmp_path)


def test_each_format_believes_its_own_settings(state, tmp_path):
    """As on the hub: both kinds of weights and both kinds of settings in one folder."""
    tensors, settings = written(config("gelu"), state)
    save_file(tensors, tmp_path / "model.safetensors")
    save_file(give(openai_places(config()), state), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"quick_gelu": True}}))
    assert opened(tmp_path / "model.safetensors").parts[0].config == config("gelu")
    assert opened(tmp_path / "open_clip_model.safetensors").parts[0].config == config("quick_gelu")
    with pytest.raises(
        LimnerError, match=r"several checkpoints, model\.safetensors, open_clip_model\.safetensors"
    ):
        opened(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5]}))
    with pytest.raises(LimnerError, match="have the image_mean"):
        opened(tmp_path / "model.safetensors")


def test_folders_that_hold_no_one_checkpoint(tmp_path):
    with pytest.raises(LimnerError, match="there is nothing at"):
        opened(tmp_path / "none")
    with pytest.raises(LimnerError, match="holds no weights"):
        opened(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../elsewhere.safetensors"}}))
    with pytest.raises(LimnerError, match=r"names '\.\./\.\./elsewhere\.safetensors', which lies outside"):
        opened(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    with pytest.raises(LimnerError, match=r"cannot read .*one\.safetensors: No such file"):
        opened(tmp_path)
    index.unlink()
    save_file({"some.weight": torch.zeros(2), "some.bias": torch.zeros(2)}, tmp_path / "x.safetensors")
    with pytest.raises(
        LimnerError, match=r"is no format that limner knows .* its 2 tensors begin with some\.bias"
    ):
        opened(tmp_path)


def test_nothing_is_named_by_its_file(state, tmp_path):
    """A CLIP under the name of a dVAE is a CLIP."""
    save_file(give(openai_places(config()), state), tmp_path / "encoder.pkl")
    assert opened(tmp_path / "encoder.pkl").format == "OpenAI CLIP"


def test_tensors_are_views_of_the_file(state, tmp_path):
    """Mapped anew it is as it was; what was written into a view stayed in memory."""
    path = Path(tmp_path / "weights")
    torch.save(give(openai_places(config()), state), path)
    part = opened(path).parts[0]
    part.taken.state["vision.class_token"].fill_(1000)
    assert float(part.taken.state["vision.class_token"].sum()) == 64_000
    assert float(opened(path).parts[0].taken.state["vision.class_token"].max()) < 100
    assert part.parameters == sum(tensor.numel() for tensor in state.values())


def test_a_line_of_limner_s_own_is_told_what_it_is() -> None:
    with pytest.raises(LimnerError, match="own already, with clip, decoder, prior, prior_autoregressive"):
        opened(shipped("dalle2"))
