"""One server's insides: what is served, the lines before it, and how much is taken on."""

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

from limner.clip import Clip
from limner.pipelines.dalle1 import Dalle1
from limner.pipelines.dalle2 import Dalle2
from limner.pipelines.embedding import Reader, pictured, worded
from limner.pipelines.words import told_of_unknown
from limner.server.errors import Refused
from limner.server.gallery import Gallery
from limner.server.metrics import Metrics
from limner.server.painters import Check, Mender, OnePass, Order, Painted, Unclip, Writer
from limner.server.pictures import MOST_PIXELS, picture
from limner.server.queue import Closed, Full, Job, Queue
from limner.server.wire import OPENAI_EMBEDDINGS, OPENAI_IMAGES

Served = Unclip | Mender | OnePass | Writer
Vector = list[float]
MB = 2**20
# The name that CLIP is served by.
CLIP = "clip"
# Pictures that are painted at once, as many as the pipelines have in work at once.
TOGETHER = 16


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a server takes on; the defaults suit a laptop.

    `waiting`: requests that wait their turn; `at_once`: that are being answered, whatever they ask. `body`:
    bytes of a request, which has `arriving` seconds to come; `carried`: of all that are being answered.
    `pixels`: of a picture that is sent.
    `lifetime`: seconds that a picture is kept at its address; `kept`: bytes of all of them.
    """

    waiting: int = 32
    at_once: int = 256
    body: int = 24 * MB
    arriving: float = 120.0
    carried: int = 256 * MB
    pixels: int = MOST_PIXELS
    lifetime: float = 3600.0
    kept: int = 1024 * MB


@dataclass(frozen=True)
class Sent:
    """An input of an embedding: words, or the bytes of a picture."""

    words: str
    image: bytes | None


@dataclass(frozen=True)
class Chore:
    """Something else, done alone where pictures are painted; whoever wants it takes away the result."""

    do: Callable[[Check], None]


@dataclass
class Service:
    """What `painters` are served, and `clip`, if any; who may ask: everybody, or who has one of the `keys`.

    `hosts`: the names that it answers to beside this machine's own addresses, to any if there are none.
    `public`: how the server is reached from outside, such as https://paint.example; by default as the request
    says. `origins`: of pages of others that may ask, such as https://page.example; of none by default.
    `proxies`: addresses whose word on who asks is believed.
    """

    painters: Sequence[Served]
    clip: Reader | None = None
    keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    public: str | None = None
    origins: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        """Open the lines and the gallery."""
        names = [painter.name for painter in self.painters]
        if not names:
            raise ValueError("painters is empty: serve at least one")
        if len(set(names)) < len(names) or CLIP in names:
            raise ValueError(
                f"painters are named {', '.join(names)}: give each a name of its own, and none {CLIP}"
            )
        self.started = int(time.time())
        self.metrics = Metrics()
        self.gallery = Gallery(lifetime=self.limits.lifetime, most=self.limits.kept)
        self.painting: Queue[Order | Chore, list[Painted]] = Queue(
            self._work, waiting=self.limits.waiting, together=TOGETHER, name="painting"
        )
        # Looked at in a line of their own: an embedding takes an instant, and a picture may take a minute.
        self.reading: Queue[tuple[Sent, ...], list[Vector]] = Queue(
            self._embed, waiting=self.limits.waiting, together=TOGETHER, name="reading"
        )
        watch = self.metrics.watch
        watch("limner_waiting_requests", "Requests that wait for their turn.", lambda: self.painting.waiting)
        watch("limner_painting_requests", "Requests that are being painted.", lambda: self.painting.working)
        watch("limner_kept_pictures", "Pictures that can be fetched.", lambda: len(self.gallery))

    def close(self) -> None:
        """Begin nothing new; what waits is told so, what is being painted is finished."""
        self.painting.close()
        self.reading.close()

    def end(self) -> None:
        """Wait for the last picture and let go of all."""
        self.close()
        self.painting.join()
        self.reading.join()
        self.gallery.close()

    def painter(self, name: str | None, can: Callable[[Served], bool], doing: str) -> Served:
        """The painter that a request means. Raises Refused where there is none, or it cannot do that.

        Without a name, and for the names of OpenAI's models, the first that can.
        """
        able = [painter for painter in self.painters if can(painter)]
        if name is None or OPENAI_IMAGES.match(name):
            if not able:
                raise Refused(
                    f"no model that is served here can {doing}: start the server with one that does",
                    param="model",
                    code="unsupported_model",
                )
            return able[0]
        for painter in self.painters:
            if painter.name == name:
                if painter in able:
                    return painter
                others = f", but {' and '.join(one.name for one in able)} can" if able else ""
                raise Refused(f"{name} cannot {doing}{others}", param="model", code="unsupported_model")
        raise unknown(name, [painter.name for painter in self.painters])

    def checked_clip(self, name: str | None) -> Reader:
        """CLIP, by its name, by OpenAI's names of such models or by none. Raises Refused for another."""
        if name not in (None, CLIP) and not OPENAI_EMBEDDINGS.match(str(name)):
            raise unknown(str(name), [CLIP] if self.clip else [])
        if self.clip is None:
            raise Refused(
                "no CLIP is served here: start the server with dalle2, or with weights that have one",
                status=404,
                param="model",
                code="model_not_found",
            )
        return self.clip

    def line_up(self, painter: Served, order: Order, *, caller: str) -> Job[Order | Chore, list[Painted]]:
        """A place in the line for an order of `caller`. Raises Refused where there is none to be had.

        Those of one painter, with the same settings, and of one size of its own are painted together; an
        order with a picture goes alone.
        """
        alone = None if order.doing == "paint" else object()
        key = (painter.name, painter.sides[order.side], order.settings, alone)
        return self._put(order, key, order.count, caller)

    def line_up_chore(self, chore: Chore, *, caller: str) -> Job[Order | Chore, list[Painted]]:
        """The same for something else."""
        return self._put(chore, object(), 1, caller)

    def _put(
        self, work: Order | Chore, key: Hashable, pictures: int, caller: str
    ) -> Job[Order | Chore, list[Painted]]:
        try:
            return self.painting.put(work, key=key, pictures=pictures, caller=caller)
        except Full as full:
            raise busy(full) from full
        except Closed as closed:
            raise closing() from closed

    def read_next(self, sent: tuple[Sent, ...], *, caller: str) -> Job[tuple[Sent, ...], list[Vector]]:
        """The same for embeddings."""
        try:
            return self.reading.put(sent, key=None, pictures=len(sent), caller=caller)
        except Full as full:
            raise busy(full) from full
        except Closed as closed:
            raise closing() from closed

    def _work(self, wanted: Sequence[Order | Chore], check: Check) -> list[list[Painted]]:
        check()
        orders = []
        for one in wanted:
            if isinstance(one, Chore):
                one.do(check)
            else:
                orders.append(one)
        # A chore has a key of its own, so it comes alone.
        return self._paint(orders, check) if orders else [[] for _ in wanted]

    def _paint(self, orders: Sequence[Order], check: Check) -> list[list[Painted]]:
        first, began = orders[0], time.monotonic()
        (painter,) = [one for one in self.painters if one.name == first.painter]
        if first.doing == "paint":
            finished = painter.paint(orders, check)
        else:
            finished = [(painter.edit if first.doing == "edit" else painter.vary)(first, check)]
        count = sum(order.count for order in orders)
        self.metrics.pictures.labels(painter.name).inc(count)
        self.metrics.together.observe(count)
        self.metrics.painting_seconds.inc(time.monotonic() - began)
        return finished

    def _embed(self, requests: Sequence[tuple[Sent, ...]], check: Check) -> list[list[Vector]]:
        found: list[list[Vector]] = []
        for inputs in requests:
            found.append([])
            for sent in inputs:
                check()
                found[-1].append(self._vector(sent))
        return found

    def _vector(self, sent: Sent) -> Vector:
        assert self.clip is not None
        clip, tokenizer = self.clip.clip, self.clip.tokenizer
        if sent.image is None:
            told_of_unknown(tokenizer, [sent.words])
            vector = worded(clip, tokenizer, sent.words)
        else:
            (vector,) = pictured(clip, [picture(sent.image, "input", pixels=self.limits.pixels)])
        numbers: Vector = vector.float().cpu().tolist()
        return numbers


def clip_of(painters: Sequence[Served]) -> Reader | None:
    """The CLIP to embed with: of the first painter that has one which looks at clean pictures, else none."""
    for served in painters:
        painter = served.painter
        if isinstance(painter, Dalle2) and isinstance(painter.clip, Clip):
            return Reader(painter.clip, painter.tokenizer, painter.digest)
        if isinstance(painter, Dalle1):
            return Reader(painter.ranker, painter.ranker_tokenizer, painter.digest)
    return None


def busy(full: Full) -> Refused:
    """The answer where the line is full."""
    return Refused(
        f"as many requests wait as may: try again in {full.after} s",
        status=429,
        code="rate_limit_exceeded",
        retry_after=full.after,
    )


def closing() -> Refused:
    """The answer of a server that is going down."""
    return Refused(
        "the server is stopping and begins nothing new: try again when it is back",
        status=503,
        code="server_stopping",
        retry_after=5,
    )


def unknown(name: str, served: Sequence[str]) -> Refused:
    """The answer for a model that is not here."""
    there = f"choose {' or '.join(served)}" if served else "none is"
    return Refused(
        f"model is {name[:60]!r}, which is not served here: {there}",
        status=404,
        param="model",
        code="model_not_found",
    )
