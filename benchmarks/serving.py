"""How does a server stand many clients, and what does painting in company gain over painting alone?

    python benchmarks/serving.py                                  # 64 clients for two minutes, what ships
    python benchmarks/serving.py --models glide --clients 4 --seconds 60 --size 64
    python benchmarks/serving.py --models runs/toy/line --clients 16

`limner serve` is started as its own process. First one client asks for one picture after the other, which is
painting serially; then all of them ask at once, each with prompts and seeds of its own, for so many seconds.
Every picture's metadata is compared with its request: a prompt, a seed or a model of somebody else's fails
the benchmark, and so does a request that is not answered, or with less than was asked for. Refusals for want
of room (429) are waited out as the answer says and counted.

Run it on an idle machine, with limner[serve] and httpx installed. Memory is that of the server's process,
before, after and at its highest, where the system tells it (Linux).
"""

import base64
import io
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

PROMPTS = ("a red apple", "two fish", "a green tree", "a blue car", "a yellow star", "a cat", "a house")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Load a server."""

    models: str = "dalle2"
    """What `limner serve --models` takes; the first is painted with."""
    clients: int = 64
    """How many ask at once."""
    seconds: float = 120.0
    """For how long they do."""
    alone: float = 60.0
    """For how long one asks alone."""
    size: int = 256
    """Pixels a side."""
    n: int = 1
    """Pictures a request."""
    steps: int | None = None
    """Steps of the small picture; by default the painter's own."""
    queue: int = 32
    """Requests that may wait."""
    device: str = "auto"
    """Where the server computes."""
    out: Path | None = None
    """Where the numbers go as JSON."""


@dataclass
class Tally:
    """What clients saw: seconds of each request, pictures, and how often there was no room."""

    took: list[float] = field(default_factory=list)
    pictures: int = 0
    turned_away: int = 0
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def ask(http: httpx.Client, asked: Benchmark, model: str, kind: str, seed: int, tally: Tally) -> None:
    """One request, until it is answered, and a look at what came, which is to be by this `kind`."""
    prompt = PROMPTS[seed % len(PROMPTS)]
    body = {
        "model": model,
        "prompt": prompt,
        "seed": seed,
        "n": asked.n,
        "size": f"{asked.size}x{asked.size}",
    }
    body |= {"response_format": "b64_json"} | ({} if asked.steps is None else {"steps": asked.steps})
    began = time.perf_counter()
    while (answer := http.post("/v1/images/generations", json=body)).status_code == 429:
        with tally.lock:
            tally.turned_away += 1
        time.sleep(float(answer.headers["retry-after"]))
    answer.raise_for_status()
    took = time.perf_counter() - began
    texts = [Image.open(io.BytesIO(base64.b64decode(one["b64_json"]))).text for one in answer.json()["data"]]
    seeds = sorted(int(text["seed"]) for text in texts)
    with tally.lock:
        tally.took.append(took)
        tally.pictures += len(texts)
        tally.wrong += [f"{model}: {text['model']}" for text in texts if text["model"] != kind]
        if seeds != [seed + number for number in range(asked.n)]:
            tally.wrong.append(f"seed {seed}: {seeds}")
        tally.wrong += [f"{prompt}: {text['prompt']}" for text in texts if text["prompt"] != prompt]


def kind_of(address: str, asked: Benchmark, model: str) -> str:
    """The painter behind a name, as its pictures' files have it; so it has painted before it is timed."""
    body = {"model": model, "prompt": PROMPTS[0], "size": f"{asked.size}x{asked.size}"}
    body |= {"response_format": "b64_json"} | ({} if asked.steps is None else {"steps": asked.steps})
    answer = httpx.post(f"{address}/v1/images/generations", json=body, timeout=None).raise_for_status()
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))).text["model"]


def loaded(
    address: str, asked: Benchmark, model: str, kind: str, *, clients: int, seconds: float
) -> tuple[Tally, float]:
    """What so many clients saw in so many seconds, and how many it were until the last was answered."""
    tally, began = Tally(), time.perf_counter()

    def client(who: int) -> None:
        with httpx.Client(base_url=address, timeout=None) as http:
            turn = 0
            while time.perf_counter() - began < seconds:
                try:
                    ask(http, asked, model, kind, 1_000_000 * who + 100 * turn, tally)
                except Exception as error:  # Whatever it is, somebody's answer is lost.
                    with tally.lock:
                        tally.wrong.append(f"client {who}, request {turn}: {type(error).__name__} {error}")
                    return
                turn += 1

    threads = [threading.Thread(target=client, args=(who,)) for who in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return tally, time.perf_counter() - began


def resident(process: int) -> Callable[[str], float]:
    """Megabytes that a process holds (VmRSS), or held at most (VmHWM), or NaN where nobody says."""

    def megabytes(which: str) -> float:
        try:
            told = Path(f"/proc/{process}/status").read_text()
        except OSError:
            return float("nan")
        return int(re.search(rf"{which}:\s+(\d+)", told)[1]) / 1024

    return megabytes


def percentile(took: list[float], share: int) -> float:
    """Of which this share, in percent, is below."""
    return took[0] if len(took) == 1 else statistics.quantiles(took, n=100, method="inclusive")[share - 1]


def main(asked: Benchmark) -> None:
    console = Console()
    command = [sys.executable, "-m", "limner", "serve", "--port", "0", "--models", asked.models]
    command += ["--queue", str(asked.queue), "--device", asked.device]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        said = server.stdout.readline()
        address = said.split(" at ")[1].split("/v1")[0]
        model = httpx.get(f"{address}/v1/models").json()["data"][0]["id"]
        kind = kind_of(address, asked, model)
        megabytes = resident(server.pid)
        found = {}
        for name, clients, seconds in (("one", 1, asked.alone), ("all", asked.clients, asked.seconds)):
            with console.status(f"{clients} asking for {seconds:.0f} s"):
                before = megabytes("VmRSS")
                tally, whole = loaded(address, asked, model, kind, clients=clients, seconds=seconds)
            if tally.wrong:
                raise SystemExit(
                    f"{len(tally.wrong)} answers are lost or not what was asked: {tally.wrong[0]}"
                )
            took = sorted(tally.took)
            found[name] = {
                "clients": clients,
                "requests": len(took),
                "pictures": tally.pictures,
                "pictures_a_minute": 60 * tally.pictures / whole,
                "p50": percentile(took, 50),
                "p90": percentile(took, 90),
                "p99": percentile(took, 99),
                "turned_away": tally.turned_away,
                "megabytes_before": before,
                "megabytes_after": megabytes("VmRSS"),
                "megabytes_peak": megabytes("VmHWM"),
            }
    finally:
        server.terminate()
        server.wait()
    table = Table(
        title=f"{model}, {asked.size} pixels, {asked.n} a request; every picture is what was asked for"
    )
    for title in (
        "clients",
        "requests",
        "pictures a minute",
        "p50 s",
        "p90 s",
        "p99 s",
        "429",
        "MB (highest)",
    ):
        table.add_column(title)
    for one in found.values():
        table.add_row(
            str(one["clients"]),
            str(one["requests"]),
            f"{one['pictures_a_minute']:.1f}",
            *(f"{one[name]:.2f}" for name in ("p50", "p90", "p99")),
            str(one["turned_away"]),
            f"{one['megabytes_before']:.0f} → {one['megabytes_after']:.0f} ({one['megabytes_peak']:.0f})",
        )
    console.print(table)
    gain = found["all"]["pictures_a_minute"] / found["one"]["pictures_a_minute"]
    console.print(f"in company {gain:.2f} times as many pictures a minute as one after the other")
    if asked.out is not None:
        numbers = {"asked": {**asdict(asked), "out": None}, "found": found}
        asked.out.write_text(json.dumps(numbers, indent=2, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
