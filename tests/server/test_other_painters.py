"""Painters beside those that ship: DALL-E mini and DF-GAN are served, what paints nothing is refused."""

import base64
import io

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from limner.cli import main
from limner.server.painters import served

SEEDED = {"seed": 5}


@pytest.fixture(scope="module")
def mini(start):
    with (
        start("dalle_mini") as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=120) as client,
    ):
        yield client


def opened(picture):
    return Image.open(io.BytesIO(base64.b64decode(picture.b64_json)))


def paint(client, prompt="a cat", **more):
    asked = {"prompt": prompt, "response_format": "b64_json", "extra_body": SEEDED} | more
    return client.images.generate(**asked).data


def test_dalle_mini_paints_what_it_paints_alone(mini, painters):
    made = paint(mini, n=2)
    alone = painters["dalle_mini"].paint("a cat", count=2, seed=5)
    assert [opened(one).tobytes() for one in made] == [one.tobytes() for one in alone]
    assert [one.seed for one in made] == [5, 6]
    told = opened(made[0]).text
    assert (told["model"], told["prompt"], told["seed"]) == ("dalle_mini", "a cat", "5")
    guided = paint(mini, extra_body={**SEEDED, "guidance": 1.0})
    assert guided[0].b64_json != made[0].b64_json


def test_orders_of_dalle_mini_that_are_written_together_are_each_their_own(painters):
    from limner.server.painters import Order

    mini = served("mini", painters["dalle_mini"])
    settings = mini.settings(steps=None, guidance=None, negative_prompt="")
    side = mini.usual_side
    orders = [
        Order(painter="mini", prompt=prompt, count=count, seed=seed, side=side, settings=settings)
        for prompt, count, seed in (("a cat", 2, 5), ("two fish", 1, 9))
    ]
    together = mini.paint(orders, lambda: None)
    assert [len(one) for one in together] == [2, 1]
    for order, painted in zip(orders, together, strict=True):
        for number, one in enumerate(painted):
            (alone,) = painters["dalle_mini"].paint(order.prompt, seed=order.seed + number)
            assert Image.open(io.BytesIO(one.png)).tobytes() == alone.tobytes()


def test_what_dalle_mini_cannot_do_is_said(mini, photo):
    image, mask = photo
    for more, param in (({"steps": 3}, "steps"), ({"negative_prompt": "red"}, "negative_prompt")):
        with pytest.raises(openai.BadRequestError, match="dalle_mini writes tokens and takes none") as bad:
            paint(mini, extra_body=more)
        assert bad.value.param == param
    with pytest.raises(openai.BadRequestError, match="no model that is served here can edit pictures"):
        mini.images.edit(image=image, mask=mask, prompt="a cat")
    with pytest.raises(openai.BadRequestError, match="size is '64x64': dalle_mini paints 8x8, 256x256"):
        paint(mini, size="64x64")
    with pytest.raises(openai.BadRequestError, match="of which DALL-E mini reads nothing") as bad:
        paint(mini, prompt="日本")
    assert bad.value.param == "prompt"
    # It ranks with a CLIP of its own only where it is asked to choose, which a server does not.
    assert [model.id for model in mini.models.list()] == ["dalle_mini"]
    with pytest.raises(openai.NotFoundError, match="no CLIP is served here"):
        mini.embeddings.create(model="clip", input="a cat")


def test_a_stream_of_dalle_mini_has_no_sketches_and_ends_with_what_it_paints(mini):
    events = list(mini.images.generate(prompt="a cat", stream=True, partial_images=2, extra_body=SEEDED))
    assert [one.type for one in events] == ["image_generation.completed"]
    assert events[0].b64_json == paint(mini)[0].b64_json


def test_orders_of_dfgan_are_each_what_it_paints_alone(painters):
    from limner.server.painters import Order

    one_pass = served("gan", painters["dfgan"])
    settings = one_pass.settings(steps=None, guidance=None, negative_prompt="")
    assert set(one_pass.sides) == {32, 256}
    orders = [
        Order(painter="gan", prompt=prompt, count=count, seed=seed, side=32, settings=settings)
        for prompt, count, seed in (("a cat", 2, 5), ("two fish", 1, 9))
    ]
    together = one_pass.paint(orders, lambda: None)
    assert [[one.seed for one in made] for made in together] == [[5, 6], [9]]
    for order, made in zip(orders, together, strict=True):
        for number, one in enumerate(made):
            (alone,) = painters["dfgan"].paint(order.prompt, seed=order.seed + number)
            picture = Image.open(io.BytesIO(one.png))
            assert np.abs(np.asarray(picture, int) - np.asarray(alone, int)).max() <= 1
            assert (picture.text["model"], picture.text["prompt"]) == ("dfgan", order.prompt)
    for asked in ({"steps": 3}, {"guidance": 2.0}, {"negative_prompt": "red"}):
        ((name, given),) = asked.items()
        nothing = {"steps": None, "guidance": None, "negative_prompt": ""}
        with pytest.raises(ValueError, match=f"{name} is {given!r}: gan paints in one pass"):
            one_pass.settings(**(nothing | asked))


def test_the_command_serves_it_by_its_path(command, lines):
    # Half precision is for U-Nets, and the other painter has some.
    models = f"small={lines['dalle_mini']},{lines['glide']}"
    _, address = command("--models", models, "--device", "cpu", "--precision", "bf16")
    with httpx.Client(base_url=address, timeout=120) as http:
        assert [one["id"] for one in http.get("/v1/models").json()["data"]] == ["small", "glide"]
        assert http.post("/v1/images/generations", json={"prompt": "a cat"}).status_code == 200


@pytest.mark.parametrize("kind", ["nothing", "clip"])
def test_weights_that_paint_nothing_are_refused_before_anything_listens(lines, tmp_path, kind, capsys):
    place = lines["dalle2"] / "clip" if kind == "clip" else tmp_path
    assert main(["serve", "--models", f"mine={place}", "--port", "0"]) != 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(place) in said
