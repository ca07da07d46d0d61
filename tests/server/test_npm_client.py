"""The `openai` client of npm, unmodified, where node and npm are and npm finds it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not (shutil.which("node") and shutil.which("npm")), reason="needs node and npm"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("npm")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--silent"]
    try:
        done = subprocess.run(
            ["npm", "install", "openai", *options], cwd=folder, timeout=180, capture_output=True, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm takes too long to find openai")
    if done.returncode:
        pytest.skip("npm does not find openai")
    shutil.copy(Path(__file__).with_name("client.mjs"), folder)
    return folder


def test_the_npm_client_works_as_it_is(folder, address, photo, client):
    for name, data in zip(("image.png", "mask.png"), photo, strict=True):
        (folder / name).write_bytes(data)
    done = subprocess.run(
        ["node", "client.mjs", f"{address}/v1", "image.png", "mask.png"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    ours = client.images.generate(
        prompt="a pear", size="64x64", n=2, response_format="b64_json", extra_body={"steps": 2, "seed": 5}
    )
    assert [one["b64_json"] for one in said["generated"]] == [one.b64_json for one in ours.data]
    assert said["fetched"] == "image/png"
    assert said["streamed"] == ["image_generation.partial_image", "image_generation.completed"]
    assert said["edited"][0]["url"].endswith(".png")
    assert said["varied"][0]["seed"] == 5
    assert said["models"] == ["dalle2", "glide", "dalle1", "clip"]
    assert said["embedded"] == 16
    assert said["refused"] == {"name": "BadRequestError", "status": 400, "param": "size"}
