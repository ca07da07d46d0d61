"""How does a server stand many clients, and what does painting in company gain over painting alone?

    python benchmarks/serving.py                                  # 64 clients for two minutes, what ships
    python benchmarks/serving.py --models glide --clients 4 --seconds 60 --size 64
    python benchmarks/serving.py --models runs/toy/line --clients 16

`limner serve` is started as its own process. First one client asks for one picture after the other, which is
painting serially; then all of them ask at once, each with prompts and seeds of its own, for so many seconds.
Every picture's metadata is compared with its request: a prompt, a seed or a model of somebody else's fails
the benchmark, and so does a request that is not answered, or with less than was asked for. Refusals for want
of room (429) are waited out as the answer says and counted.

Then the server is killed in the middle of such load, and begun anew on the same folder and port: `kills`
times by SIGKILL, and as often by SIGTERM. Clients may see that nobody answers, and 503. Any status but these,
200 and 429 fails the benchmark; so do a picture that is not what was asked for, words of a trace or of a path
in what is answered, a file of the killed server's that is no whole picture, one that the next server does not
take away, a server told to stop that ends with another status than 0, and anything left by the last one.

Run it on an idle machine, with limner[serve] and httpx installed. Memory is that of the server's process,
where the system tells it (Linux): before, after and at its highest, and the highest of each tenth of the
time, by which one sees whether it grows.
"""

import base64
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table

TENTHS = 10
# Seconds after which an answer is taken to be lost.
LOST = 600.0
# Seconds between two looks at the server's memory.
LOOKED = 0.25
# What an answer says that tells of the machine.
TOLD = re.compile(r"Traceback|File \\?\"|site-packages|\.py\b|/(?:home|root|tmp|usr|var)/")
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
    kills: int = 3
    """How often the server is killed under load by either signal; 0 for not at all."""
    least_gain: float = 0.0
    """Fail where painting in company makes fewer times as many pictures a minute as one after the other."""
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


def body_of(asked: Benchmark, model: str, seed: int) -> dict[str, object]:
    """A request, whose prompt goes by its seed."""
    body = {"model": model, "prompt": PROMPTS[seed % len(PROMPTS)], "seed": seed, "n": asked.n}
    body |= {"size": f"{asked.size}x{asked.size}"}
    return body if asked.steps is None else body | {"steps": asked.steps}


def amiss(answered: dict[int, bytes | None], asked: Benchmark, kind: str, seed: int) -> list[str]:
    """What is not as asked for in the pictures of a request, by their seeds; None for one that is gone."""
    prompt, wrong = PROMPTS[seed % len(PROMPTS)], []
    if sorted(answered) != [seed + number for number in range(asked.n)]:
        wrong.append(f"seeds: {list(answered)}")
    for own, png in answered.items():
        if png is None:
            continue
        with Image.open(io.BytesIO(png)) as picture:
            picture.load()
            says = picture.text
        wanted = {"prompt": prompt, "model": kind, "seed": str(own)}
        wrong += [f"{name}: {says[name]}" for name in wanted if says[name] != wanted[name]]
        if picture.size != (asked.size, asked.size):
            wrong.append(f"size: {picture.size}")
    return [f"seed {seed}, {prompt}, by {kind}: {one}" for one in wrong]


def ask(http: httpx.Client, asked: Benchmark, model: str, kind: str, seed: int, tally: Tally) -> None:
    """One request, until it is answered, and a look at what came, which is to be by this `kind`."""
    body = body_of(asked, model, seed) | {"response_format": "b64_json"}
    began = time.perf_counter()
    while (answer := http.post("/v1/images/generations", json=body)).status_code == 429:
        with tally.lock:
            tally.turned_away += 1
        time.sleep(float(answer.headers["retry-after"]))
    answer.raise_for_status()
    took = time.perf_counter() - began
    pictures = {one["seed"]: base64.b64decode(one["b64_json"]) for one in answer.json()["data"]}
    wrong = amiss(pictures, asked, kind, seed)
    with tally.lock:
        tally.took.append(took)
        tally.pictures += len(pictures)
        tally.wrong += wrong


def kind_of(address: str, asked: Benchmark, model: str) -> str:
    """The painter behind a name, as its pictures' files have it; so it has painted before it is timed."""
    body = body_of(asked, model, 0) | {"response_format": "b64_json"}
    answer = httpx.post(f"{address}/v1/images/generations", json=body, timeout=LOST).raise_for_status()
    return Image.open(io.BytesIO(base64.b64decode(answer.json()["data"][0]["b64_json"]))).text["model"]


@contextmanager
def asking(count: int, client: Callable[[int], None]) -> Iterator[list[threading.Thread]]:
    """So many clients, each in a thread that has a number, waited for in the end."""
    threads = [threading.Thread(target=client, args=(who,)) for who in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield threads
    finally:
        for thread in threads:
            thread.join()


def loaded(
    address: str,
    asked: Benchmark,
    model: str,
    kind: str,
    *,
    clients: int,
    seconds: float,
    look: Callable[[], float],
) -> tuple[Tally, float, list[float]]:
    """What so many clients saw in so many seconds, how many it were until the last was answered, and what
    `look` saw meanwhile."""
    tally, began = Tally(), time.perf_counter()

    def client(who: int) -> None:
        with httpx.Client(base_url=address, timeout=LOST) as http:
            turn = 0
            while time.perf_counter() - began < seconds:
                try:
                    ask(http, asked, model, kind, 1_000_000 * who + 100 * turn, tally)
                except Exception as error:  # Whatever it is, somebody's answer is lost.
                    with tally.lock:
                        tally.wrong.append(f"client {who}, request {turn}: {type(error).__name__} {error}")
                    return
                turn += 1

    seen = []
    with asking(clients, client) as threads:
        while any(thread.is_alive() for thread in threads):
            seen.append(look())
            time.sleep(LOOKED)
    return tally, time.perf_counter() - began, seen


def resident(process: int) -> Callable[[str], float]:
    """Megabytes that a process holds (VmRSS), or held at most (VmHWM), or NaN where nobody says."""

    def megabytes(which: str) -> float:
        try:
            told = Path(f"/proc/{process}/status").read_text()
        except OSError:
            return float("nan")
        return int(re.search(rf"{which}:\s+(\d+)", told)[1]) / 1024

    return megabytes


def highest(seen: list[float]) -> list[float]:
    """The highest of each tenth of what was seen, in its order."""
    bounds = [len(seen) * number // TENTHS for number in range(TENTHS + 1)]
    return [max(seen[first:last]) for first, last in pairwise(bounds) if last > first]


def percentile(took: list[float], share: int) -> float:
    """Of which this share, in percent, is below."""
    return took[0] if len(took) == 1 else statistics.quantiles(took, n=100, method="inclusive")[share - 1]


def begun(asked: Benchmark, folder: Path, port: str = "0") -> tuple[subprocess.Popen[str], str]:
    """A server whose temporary files lie in `folder`, and its address."""
    command = [sys.executable, "-m", "limner", "serve", "--port", port, "--models", asked.models]
    command += ["--queue", str(asked.queue), "--device", asked.device]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | {"TMPDIR": str(folder)}
    )
    said = server.stdout.readline()
    if " at " not in said:
        raise SystemExit(f"the server did not begin (status {server.wait()})")
    return server, said.split(" at ")[1].split("/v1")[0]


def measured(
    asked: Benchmark, folder: Path, console: Console
) -> tuple[str, str, dict[str, dict[str, object]]]:
    """One client, then all of them: the name and the kind of the painter, and the numbers of both."""
    server, address = begun(asked, folder)
    try:
        model = httpx.get(f"{address}/v1/models").json()["data"][0]["id"]
        kind = kind_of(address, asked, model)
        megabytes = resident(server.pid)
        found = {}
        for name, clients, seconds in (("one", 1, asked.alone), ("all", asked.clients, asked.seconds)):
            with console.status(f"{clients} asking for {seconds:.0f} s"):
                before = megabytes("VmRSS")
                tally, whole, seen = loaded(
                    address,
                    asked,
                    model,
                    kind,
                    clients=clients,
                    seconds=seconds,
                    look=lambda: megabytes("VmRSS"),
                )
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
                "p95": percentile(took, 95),
                "p99": percentile(took, 99),
                "turned_away": tally.turned_away,
                "megabytes_before": before,
                "megabytes_after": megabytes("VmRSS"),
                "megabytes_peak": megabytes("VmHWM"),
                "megabytes_by_tenths": highest(seen),
            }
    finally:
        server.terminate()
        server.wait()
    return model, kind, found


def killed(asked: Benchmark, model: str, kind: str, folder: Path, console: Console) -> dict[str, int]:
    """Kill the server under load and begin it anew: how often which status was seen, and nobody there."""
    server, address = begun(asked, folder)
    port = address.rpartition(":")[2]
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    lock, stop = threading.Lock(), threading.Event()

    def look(answer: httpx.Response, fine: tuple[int, ...]) -> None:
        with lock:
            seen[str(answer.status_code)] += 1
            if answer.status_code not in fine:
                wrong.append(f"status {answer.status_code}: {answer.text[:200]}")
            if answer.headers.get("content-type") != "image/png" and TOLD.search(answer.text):
                wrong.append(f"told of the machine: {answer.text[:200]}")

    def client(who: int) -> None:
        with httpx.Client(base_url=address, timeout=LOST) as http:
            ask_until_stopped(who, http)

    def ask_until_stopped(who: int, http: httpx.Client) -> None:
        turn = 0
        while not stop.is_set():
            seed = 1_000_000 * who + 100 * turn
            turn += 1
            try:
                answer = http.post("/v1/images/generations", json=body_of(asked, model, seed))
                look(answer, (200, 429, 503))
                if answer.status_code != 200:
                    stop.wait(0.2)
                    continue
                pictures: dict[int, bytes | None] = {}
                for one in answer.json()["data"]:
                    picture = http.get(one["url"])
                    # Gone with its server, if that was killed meanwhile.
                    look(picture, (200, 404))
                    pictures[one["seed"]] = picture.content if picture.status_code == 200 else None
                found = amiss(pictures, asked, kind, seed)
            except httpx.TimeoutException:
                found = [f"client {who}, request {turn}: no answer in {LOST:.0f} s"]
            except httpx.TransportError:
                with lock:
                    seen["nobody there"] += 1
                stop.wait(0.1)
                continue
            except Exception as error:  # Whatever it is, an answer was not what it should be.
                found = [f"client {who}, request {turn}: {type(error).__name__} {error}"]
            with lock:
                wrong.extend(found)

    def answered(more: int) -> None:
        """Wait until so many more pictures have come."""
        enough = seen["200"] + more
        while seen["200"] < enough and not wrong:
            if server.poll() is not None:
                raise SystemExit(f"the server ended by itself, with status {server.returncode}")
            time.sleep(0.02)

    with console.status("killed and begun anew"), asking(asked.clients, client):
        try:
            for number in range(2 * asked.kills):
                told = (signal.SIGKILL, signal.SIGTERM)[number % 2]
                answered(2 * asked.clients)
                server.send_signal(told)
                status = server.wait()
                for path in folder.glob("*/*.png"):
                    with Image.open(path) as picture:
                        picture.load()
                    seen["whole pictures of killed servers"] += 1
                if told == signal.SIGTERM and (status, left := list(folder.iterdir())) != (0, []):
                    wrong.append(f"told to stop it ended with {status} and left {left}")
                server, _ = begun(asked, folder, port)
                if len(left := list(folder.iterdir())) != 1:
                    wrong.append(f"begun anew there is more than its own folder: {left}")
            answered(2 * asked.clients)
        finally:
            stop.set()
            server.terminate()
    if (status := server.wait()) != 0 or list(folder.iterdir()):
        wrong.append(f"at the end: status {status}, and left are {list(folder.iterdir())}")
    if wrong:
        raise SystemExit(f"killed under load, {len(wrong)} things are wrong: {wrong[0]}")
    return dict(sorted(seen.items()))


def main(asked: Benchmark) -> None:
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        model, kind, found = measured(asked, Path(folder), console)
        ends = killed(asked, model, kind, Path(folder), console) if asked.kills else {}
    table = Table(
        title=f"{model}, {asked.size} pixels, {asked.n} a request; every picture is what was asked for"
    )
    for title in (
        "clients",
        "requests",
        "pictures a minute",
        "p50 s",
        "p95 s",
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
            *(f"{one[name]:.2f}" for name in ("p50", "p95", "p99")),
            str(one["turned_away"]),
            f"{one['megabytes_before']:.0f} → {one['megabytes_after']:.0f} ({one['megabytes_peak']:.0f})",
        )
    console.print(table)
    tenths = " ".join(f"{one:.0f}" for one in found["all"]["megabytes_by_tenths"])
    console.print(f"MB at most in each tenth of the time with all of them: {tenths}")
    gain = found["all"]["pictures_a_minute"] / found["one"]["pictures_a_minute"]
    console.print(f"in company {gain:.2f} times as many pictures a minute as one after the other")
    if ends:
        told = ", ".join(f"{what}: {count}" for what, count in ends.items())
        console.print(f"killed {asked.kills} times and told to stop as often, nothing wrong was seen; {told}")
    if asked.out is not None:
        numbers = {"asked": {**asdict(asked), "out": None}, "found": found, "gain": gain, "killed": ends}
        asked.out.write_text(json.dumps(numbers, indent=2, default=str) + "\n", encoding="utf-8")
    if gain < asked.least_gain:
        raise SystemExit(f"{gain:.2f} times is less than {asked.least_gain:g}")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
