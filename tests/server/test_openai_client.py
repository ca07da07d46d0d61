"""The unmodified `openai` client against a server that listens: all it can ask of pictures and CLIP."""

import base64
import io
import json
import time
from dataclasses import replace
from urllib.request import urlopen

import numpy as np
import openai
import pytest
from PIL import Image

from limner.pipelines import PaintSettings
from limner.pipelines.manipulations import vary
from limner.pipelines.pictures import fingerprint
from limner.pipelines.png import encode_png
from limner.pipelines.settings import Commission

OURS = {"steps": 2, "seed": 5}

# The client says of itself that variations are of another age.
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")


def opened(data):
    return Image.open(io.BytesIO(data))


def fetched(picture):
    return urlopen(picture.url).read() if picture.b64_json is None else base64.b64decode(picture.b64_json)


def test_a_picture_has_the_very_bytes_of_its_file(client, painters):
    """Pixels and metadata of what `limner paint --seed 5 --steps 2 --size 64` writes."""
    made = client.images.generate(prompt="a pear", size="64x64", extra_body=OURS)
    settings, painter = PaintSettings(steps=2), painters["dalle2"]
    (image,) = painter.paint("a pear", size=64, seed=5, settings=settings)
    expected = encode_png(image, painter.metadata(Commission("a pear", 5), size=64, settings=settings))
    assert made.data[0].url.startswith("http://127.0.0.1:")
    assert fetched(made.data[0]) == expected
    assert abs(made.created - time.time()) < 600


def test_every_painter_says_what_it_painted(client):
    for model, size in (("dalle2", 64), ("glide", 16), ("dalle1", 32)):
        more = {"seed": 5} if model == "dalle1" else OURS
        made = client.images.generate(
            model=model,
            prompt="two fish",
            n=2,
            size=f"{size}x{size}",
            response_format="b64_json",
            user="somebody",
            extra_body=more,
        )
        texts = [opened(fetched(one)).text for one in made.data]
        assert [text["prompt"] for text in texts] == ["two fish"] * 2
        assert [text["model"] for text in texts] == [model] * 2
        # DALL-E 1's come best first.
        assert sorted(text["seed"] for text in texts) == ["5", "6"]
        assert [int(text["seed"]) for text in texts] == [one.seed for one in made.data]


def test_the_usual_size_is_the_largest_where_1024_is_not_reached(client):
    made = client.images.generate(prompt="a pear", extra_body=OURS)
    assert opened(fetched(made.data[0])).size == (256, 256)
    made = client.images.generate(model="dalle1", prompt="a pear", size="auto")
    assert opened(fetched(made.data[0])).size == (32, 32)


def test_512_is_made_of_the_256_that_the_same_seed_paints(client):
    large, small = (
        opened(fetched(client.images.generate(prompt="a pear", size=size, extra_body=OURS).data[0]))
        for size in ("512x512", "256x256")
    )
    assert large.size == (512, 512)
    assert large.tobytes() == small.resize((512, 512), Image.Resampling.LANCZOS).tobytes()
    assert large.text == {**small.text, "resized": "512"}


def test_no_seed_is_a_seed_of_its_own_that_paints_it_again(client):
    def paint(**more):
        made = client.images.generate(
            prompt="a pear", size="64x64", response_format="b64_json", extra_body={"steps": 2, **more}
        )
        return made.data[0]

    once, other = paint(), paint()
    assert once.seed != other.seed
    assert paint(seed=once.seed).b64_json == once.b64_json != other.b64_json


@pytest.mark.parametrize("name", ["dall-e-2", "dall-e-3", "gpt-image-1"])
def test_openais_names_get_the_first_that_is_served(client, name):
    made = client.images.generate(model=name, prompt="a pear", size="64x64", extra_body=OURS)
    assert opened(fetched(made.data[0])).text["model"] == "dalle2"
    # Whoever asks for this one never had addresses.
    assert (made.data[0].b64_json is not None) == (name == "gpt-image-1")


def test_an_edit_paints_where_the_mask_is_transparent_and_nowhere_else(client, painters, photo):
    image, mask = photo
    made = client.images.edit(
        image=image, mask=mask, prompt="a pear", size="64x64", response_format="b64_json", extra_body=OURS
    )
    picture = opened(fetched(made.data[0]))
    whole = opened(image).convert("RGBA")
    white = Image.new("L", (48, 48), 0)
    white.paste(255, (12, 12, 36, 36))
    painter = painters["glide"]
    settings = replace(painter.usual, steps=2)
    (expected,) = painter.inpaint(whole, white, "a pear", size=64, seed=5, settings=settings)
    assert picture.tobytes() == expected.tobytes()
    assert picture.text["model"] == "glide"
    assert picture.text["inpaints"] == fingerprint(whole)
    assert picture.text["mask"] == fingerprint(white)


@pytest.mark.parametrize("model", ["dalle2", "glide"])
def test_a_negative_prompt_leads_away_and_an_empty_one_is_none(client, painters, model):
    size = {"dalle2": 64, "glide": 16}[model]

    def paint(**more):
        made = client.images.generate(
            model=model,
            prompt="a pear",
            size=f"{size}x{size}",
            response_format="b64_json",
            extra_body=OURS | more,
        )
        return made.data[0].b64_json

    plain, avoiding = paint(), paint(negative_prompt="two fish")
    assert paint(negative_prompt="") == paint(negative_prompt=None) == plain != avoiding
    painter = painters[model]
    settings = replace(painter.usual, steps=2, negative_prompt="two fish")
    (expected,) = painter.paint("a pear", size=size, seed=5, settings=settings)
    picture = opened(base64.b64decode(avoiding))
    assert picture.tobytes() == expected.tobytes()
    assert json.loads(picture.text["settings"])["negative_prompt"] == "two fish"


def test_an_edit_without_a_mask_paints_where_the_picture_is_transparent(client, photo):
    image, mask = photo
    holed = opened(image).convert("RGBA")
    holed.putalpha(opened(mask).getchannel("A"))
    packed = io.BytesIO()
    holed.save(packed, "PNG")
    made = client.images.edit(image=[packed.getvalue()], prompt="a pear", size="16x16", extra_body=OURS)
    assert opened(fetched(made.data[0])).size == (16, 16)


def test_variations_are_those_of_the_same_seeds(client, painters, photo):
    image, _ = photo
    made = client.images.create_variation(
        image=image, n=2, size="64x64", response_format="b64_json", extra_body={"seed": 3}
    )
    expected = vary(painters["dalle2"], opened(image).convert("RGBA"), count=2, size=64, seed=3)
    pictures = [opened(fetched(one)) for one in made.data]
    assert [one.tobytes() for one in pictures] == [one.tobytes() for one in expected]
    assert [one.text["seed"] for one in pictures] == ["3", "4"]


@pytest.mark.parametrize("model", ["dalle2", "glide", "dalle1"])
def test_a_stream_shows_pictures_on_their_way_and_ends_with_what_is_painted(client, model):
    size = {"dalle2": 64, "glide": 16, "dalle1": 32}[model]
    more = {"seed": 5} if model == "dalle1" else {"seed": 5, "steps": 8}
    asked = {"model": model, "prompt": "a pear", "n": 2, "size": f"{size}x{size}"}
    events = list(client.images.generate(**asked, stream=True, partial_images=3, extra_body=more))
    partial = [one for one in events if one.type == "image_generation.partial_image"]
    completed = [one for one in events if one.type == "image_generation.completed"]
    assert sorted((one.index, one.partial_image_index) for one in partial) == [
        (number, index) for number in range(2) for index in range(3)
    ]
    assert events[-2:] == completed
    whole = client.images.generate(**asked, response_format="b64_json", extra_body=more)
    assert [one.b64_json for one in completed] == [one.b64_json for one in whole.data]
    assert all(one.size == f"{size}x{size}" for one in events)
    if model != "dalle1":
        # What an untrained network guesses comes no closer; it is drawn, though, and changes.
        assert len({one.b64_json for one in partial}) == 6
        return
    last = np.asarray(opened(base64.b64decode(next(o for o in completed if o.index == 0).b64_json)), float)
    apart = [
        np.abs(np.asarray(opened(base64.b64decode(one.b64_json)), float) - last).mean()
        for one in partial
        if one.index == 0
    ]
    assert apart[0] > apart[1] > apart[2]


def test_a_stream_of_an_edit(client, photo):
    image, mask = photo
    events = list(
        client.images.edit(
            image=image,
            mask=mask,
            prompt="a pear",
            size="16x16",
            stream=True,
            partial_images=1,
            extra_body=OURS,
        )
    )
    assert [one.type for one in events] == ["image_edit.partial_image", "image_edit.completed"]


def test_models(client):
    assert [model.id for model in client.models.list()] == ["dalle2", "glide", "dalle1", "clip"]
    assert client.models.retrieve("glide").owned_by == "limner"
    with pytest.raises(openai.NotFoundError, match="dalle2 or glide or dalle1"):
        client.models.retrieve("dall-e-9")


def test_embeddings_are_clips_unit_vectors(client, painters, photo):
    from limner.pipelines.embedding import pictured, worded

    image, _ = photo
    url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    clip, tokenizer = painters["dalle2"].clip, painters["dalle2"].tokenizer
    expected = [worded(clip, tokenizer, "a pear"), pictured(clip, [opened(image)])[0]]
    for how in ({}, {"encoding_format": "float"}):
        made = client.embeddings.create(model="clip", input=["a pear", url], **how)
        for one, vector in zip(made.data, expected, strict=True):
            assert one.embedding == pytest.approx(vector.tolist(), abs=1e-6)
    assert made.usage.prompt_tokens > 0
    assert client.embeddings.create(model="text-embedding-3-small", input="a pear").model == "clip"


def test_what_is_wrong_is_the_clients_own_kind_of_error(client, photo):
    with pytest.raises(openai.BadRequestError) as bad:
        client.images.generate(prompt="a pear", size="300x300")
    assert bad.value.param == "size"
    assert "64x64, 256x256, 512x512" in str(bad.value)
    with pytest.raises(openai.BadRequestError) as bad:
        client.images.generate(model="glide", prompt="a pear", size="1024x1024")
    assert "glide paints 16x16, 64x64, 256x256" in str(bad.value)
    with pytest.raises(openai.NotFoundError) as missing:
        client.images.generate(model="dalle9", prompt="a pear")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="dalle2 cannot edit pictures, but glide can"):
        client.images.edit(model="dalle2", image=photo[0], mask=photo[1], prompt="a pear")
    with pytest.raises(openai.BadRequestError, match="glide cannot vary pictures, but dalle2 can"):
        client.images.create_variation(model="glide", image=photo[0])
    with pytest.raises(
        openai.BadRequestError, match="negative_prompt is 'blue': dalle1 writes tokens"
    ) as bad:
        client.images.generate(model="dalle1", prompt="a pear", extra_body={"negative_prompt": "blue"})
    assert bad.value.param == "negative_prompt"
    with pytest.raises(openai.BadRequestError, match=r"negative_prompt is 'blue' and guidance is 0\.5"):
        client.images.generate(prompt="a pear", extra_body={"negative_prompt": "blue", "guidance": 0.5})
    with pytest.raises(openai.BadRequestError, match="dalle1 writes tokens"):
        client.images.generate(model="dalle1", prompt="a pear", extra_body={"steps": 3})


def test_the_page_and_the_description_ask_nothing_of_others(http):
    page = http.get("/docs").text
    assert "/v1/images/generations" in page
    assert "//" not in page.replace("http://127.0.0.1:8000", "")
    described = http.get("/openapi.json").json()
    assert set(described["paths"]) >= {"/v1/images/edits", "/v1/embeddings", "/metrics", "/healthz"}
    assert "422" not in json.dumps(described)


def test_metrics_count(http, client):
    def pictures():
        (line,) = (
            one
            for one in http.get("/metrics").text.splitlines()
            if 'limner_pictures_total{model="glide"}' in one
        )
        return float(line.split()[-1])

    client.images.generate(model="glide", prompt="a pear", size="16x16", extra_body=OURS)
    before = pictures()
    client.images.generate(model="glide", prompt="a pear", n=3, size="16x16", extra_body=OURS)
    assert pictures() == before + 3
    assert 'route="/v1/images/generations",status="200"' in http.get("/metrics").text
    assert http.get("/healthz").json() == {"status": "ok"}
