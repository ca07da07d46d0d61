"""What can be asked of each painter, in one shape: generate, edit, vary; and several orders in one call.

A picture is what `limner paint` makes of its prompt and seed: the same pixels and the same metadata, alone to
the last bit, in company but for the last bit of sums.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, Protocol, TypeAlias, TypeGuard, TypeVar, runtime_checkable

from PIL import Image

from limner import __version__
from limner.clip import Clip
from limner.pipelines.dalle1 import Dalle1
from limner.pipelines.dalle2 import Dalle2
from limner.pipelines.dalle_mini import DalleMini
from limner.pipelines.dfgan import DfGan
from limner.pipelines.glide import Glide
from limner.pipelines.manipulations import vary
from limner.pipelines.pictures import fingerprint
from limner.pipelines.png import encode_png
from limner.pipelines.progress import Clock, Tick
from limner.pipelines.settings import (
    VARY_STRENGTH,
    Commission,
    DfGanSettings,
    GlideSettings,
    PaintSettings,
    TokenSettings,
    commissions,
)
from limner.pipelines.stages import Developed, Drawn, Enlarged, EnlargedAgain, Sketch, TokenStage
from limner.server.errors import Refused
from limner.server.pictures import MOST_PIXELS, marked, picture

Settings: TypeAlias = DfGanSettings | GlideSettings | PaintSettings | TokenSettings
S = TypeVar("S", bound=Settings)
D = TypeVar("D", GlideSettings, PaintSettings)
Doing: TypeAlias = Literal["paint", "edit", "vary"]
# A callable that raises when nobody waits any more.
Check: TypeAlias = Callable[[], None]

# The sides that the images API has, in pixels.
STANDARD = (256, 512, 1024)
USUAL = 1024


@dataclass(frozen=True, kw_only=True)
class Order:
    """`count` pictures of `prompt` by `painter`, of `side` pixels a side, with seeds `seed`, `seed` + 1, …

    `image` to edit or to vary and the `mask` of an edit are the bytes of files, which are packed small while
    they wait. `on_sketch` is shown up to `sketches` of each picture on its way, with the number of the
    picture and of the sketch; `on_tick` hears of every step of all that is painted together.
    """

    painter: str
    prompt: str
    count: int
    seed: int
    side: int
    settings: Settings | None
    doing: Doing = "paint"
    image: bytes | None = None
    mask: bytes | None = None
    sketches: int = 0
    on_sketch: Callable[[int, int, Image.Image], None] | None = None
    on_tick: Callable[[Tick], None] | None = None

    @property
    def wanted(self) -> tuple[Commission, ...]:
        """One commission for each picture."""
        return commissions(self.prompt, count=self.count, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Painted:
    """A picture as its file holds it, and the seed that paints it again alone."""

    png: bytes
    seed: int


def sides(own: Sequence[int]) -> dict[int, int]:
    """The sides that a painter is offered at, each with the side of its own that such pictures are made from.

    Its own are themselves. A standard one in between is reduced from the next larger, and the first standard
    one beyond its largest is enlarged from that; what lies further would be blur at many times the price.
    """
    largest = max(own)
    beyond = [side for side in STANDARD if side > largest][:1]
    offered = {side: min(mine for mine in own if mine >= side) for side in STANDARD if side <= largest}
    return {**dict.fromkeys(beyond, largest), **offered, **{side: side for side in own}}


def fitted(image: Image.Image, side: int) -> Image.Image:
    """A picture at another side: means of areas where it is reduced, Lanczos where it is enlarged."""
    if image.width == side:
        return image
    way = Image.Resampling.BOX if side < image.width else Image.Resampling.LANCZOS
    return image.resize((side, side), way)


class Painter(ABC, Generic[S]):
    """A painter that is served as `name`. `sizes`: its own pixels a side, smallest first."""

    edits = False
    varies = False

    def __init__(self, name: str, sizes: Sequence[int]) -> None:
        self.name = name
        self.sides = sides(sizes)
        # As the API has it, or as large as it gets without anything made up.
        self.usual_side = USUAL if USUAL in self.sides else max(sizes)

    @abstractmethod
    def settings(self, *, steps: int | None, guidance: float | None, negative_prompt: str) -> S:
        """How to paint, as usual but for what is given. ValueError for what it cannot do."""

    @abstractmethod
    def refuse(self, order: Order) -> None:
        """Raise ValueError for an order that cannot be painted, before any work is done."""

    @abstractmethod
    def paint(self, orders: Sequence[Order], check: Check) -> list[list[Painted]]:
        """The pictures of orders that share their settings and their own side."""

    def edit(self, order: Order, check: Check) -> list[Painted]:
        """The order's image painted anew where its mask says, by a painter that `edits`."""
        raise NotImplementedError(self.name)  # The routes ask `edits` first, and answer 400 without it.

    def vary(self, order: Order, check: Check) -> list[Painted]:
        """Others of what the order's image shows, by a painter that `varies`."""
        raise NotImplementedError(self.name)  # The same, by `varies`.

    def side(self, size: str | None) -> int:
        """The side that a request's `size` names, such as 256x256; auto and None are the usual one.

        Raises Refused, naming what is offered, for any other.
        """
        if size in (None, "auto"):
            return self.usual_side
        offered = {f"{side}x{side}": side for side in sorted(self.sides)}
        if size not in offered:
            raise Refused(
                f"size is {str(size)[:20]!r}: {self.name} paints {', '.join(offered)}",
                param="size",
                code="invalid_size",
            )
        return offered[size]


@runtime_checkable
class Pipeline(Protocol[D]):
    """What painting with a U-Net asks of DALL-E 2 and GLIDE."""

    @property
    def usual(self) -> D:
        """How it paints where nothing is said."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Its own sides in pixels, smallest first."""
        ...

    def paint_each(
        self,
        wanted: Sequence[Commission],
        *,
        size: int | None = None,
        settings: D | None = None,
        on_tick: Callable[[Tick], None] | None = None,
        on_sketch: Callable[[Sketch], None] | None = None,
    ) -> Iterator[object]:
        """What each step made; the last are the pictures."""
        ...

    def metadata(self, commission: Commission, *, size: int, settings: D) -> dict[str, str]:
        """What a picture's file says."""
        ...


class Denoiser(Painter[D]):
    """A painter with a U-Net: it takes steps, is led by guidance, and paints many orders in one call."""

    def __init__(self, name: str, painter: Pipeline[D]) -> None:
        super().__init__(name, painter.sizes)
        self.painter: Pipeline[D] = painter

    def settings(self, *, steps: int | None, guidance: float | None, negative_prompt: str) -> D:
        """As usual but for what is given."""
        usual = self.painter.usual
        return replace(
            usual,
            steps=usual.steps if steps is None else steps,
            guidance=usual.guidance if guidance is None else guidance,
            negative_prompt=negative_prompt,
        )

    def refuse(self, order: Order) -> None:
        """Raise ValueError for an order that cannot be painted."""
        self.painter.paint_each(order.wanted, size=self.sides[order.side], settings=self._its_own(order))

    def paint(self, orders: Sequence[Order], check: Check) -> list[list[Painted]]:
        """All of them, in one call."""
        settings, own = self._its_own(orders[0]), self.sides[orders[0].side]
        wanted = [commission for order in orders for commission in order.wanted]
        stages = self.painter.paint_each(
            wanted, size=own, settings=settings, on_tick=_ticking(check, orders), on_sketch=_sketching(orders)
        )
        images = [image for stage in stages if finished(stage, own) for image in stage.images()]
        told = [self.painter.metadata(one, size=own, settings=settings) for one in wanted]
        return _dealt(orders, _painted(orders, wanted, images, told))

    def _its_own(self, order: Order) -> D:
        """The order's settings, which this painter made."""
        assert isinstance(order.settings, type(self.painter.usual))
        return order.settings


def finished(stage: object, side: int) -> TypeGuard[Drawn | Enlarged | EnlargedAgain]:
    """Whether a stage has the pictures at the side that they end with."""
    return isinstance(stage, Drawn | Enlarged | EnlargedAgain) and stage.pictures.shape[-1] == side


class Unclip(Denoiser[PaintSettings]):
    """DALL-E 2, which also varies."""

    painter: Dalle2

    def __init__(self, name: str, painter: Dalle2) -> None:
        super().__init__(name, painter)
        self.varies = isinstance(painter.clip, Clip)

    def vary(self, order: Order, check: Check) -> list[Painted]:
        """What CLIP sees in the order's image, painted anew; section 3.1 of the paper."""
        assert order.image is not None
        own, image = self.sides[order.side], picture(order.image, "image", pixels=MOST_PIXELS)
        images = vary(
            self.painter,
            image,
            count=order.count,
            size=own,
            seed=order.seed,
            on_tick=_ticking(check, [order]),
        )
        wanted = [Commission("", order.seed + number) for number in range(order.count)]
        told = [
            {
                "model": "dalle2",
                "weights": self.painter.digest,
                "limner": __version__,
                "strength": str(VARY_STRENGTH),
                "seed": str(one.seed),
                "of": fingerprint(image),
            }
            for one in wanted
        ]
        return _painted([order], wanted, images, told)


class Mender(Denoiser[GlideSettings]):
    """GLIDE, which also edits where its networks mend."""

    painter: Glide

    def __init__(self, name: str, painter: Glide) -> None:
        super().__init__(name, painter)
        own = painter.base.config.inpaint and painter.upsampler.config.inpaint
        self.edits = painter.mender is not None or own

    def edit(self, order: Order, check: Check) -> list[Painted]:
        """As `limner inpaint`; known pixels come back exactly at the larger of the painter's own sizes."""
        settings, own, mending = self._its_own(order), self.sides[order.side], self.painter.mending
        assert order.image is not None
        image, mask = marked(order.image, order.mask, pixels=MOST_PIXELS)
        wanted: list[Commission] = []
        images: list[Image.Image] = []
        for stage in mending.inpaint_stages(
            image,
            mask,
            order.prompt,
            count=order.count,
            size=own,
            seed=order.seed,
            settings=settings,
            on_tick=_ticking(check, [order]),
            on_sketch=_sketching([order]),
        ):
            if finished(stage, own):
                wanted += stage.commissions
                images += stage.images()
        more = {"inpaints": fingerprint(image), "mask": fingerprint(mask)}
        told = [{**mending.metadata(one, size=own, settings=settings), **more} for one in wanted]
        return _painted([order], wanted, images, told)


class Writer(Painter[TokenSettings]):
    """DALL-E 1 or DALL-E mini, which write tokens. The former's come best first, as CLIP ranks them."""

    def __init__(self, name: str, painter: Dalle1 | DalleMini) -> None:
        super().__init__(name, painter.sizes)
        self.painter = painter

    def settings(self, *, steps: int | None, guidance: float | None, negative_prompt: str) -> TokenSettings:
        """As usual but for what is given."""
        if steps is not None:
            raise ValueError(f"steps is {steps}: {self.name} writes tokens and takes none, so leave it out")
        if negative_prompt != "":
            raise ValueError(
                f"negative_prompt is {negative_prompt[:20]!r}: {self.name} writes tokens and takes none, so "
                "leave it out"
            )
        usual = self.painter.usual
        return replace(usual, guidance=usual.guidance if guidance is None else guidance)

    def refuse(self, order: Order) -> None:
        """Raise ValueError for an order that cannot be painted."""
        assert isinstance(order.settings, TokenSettings)
        self.painter.paint(
            order.prompt, count=order.count, seed=order.seed, settings=order.settings, stages=True
        )

    def paint(self, orders: Sequence[Order], check: Check) -> list[list[Painted]]:
        """All of them written at once, and each order's ranked by itself."""
        settings = orders[0].settings
        assert isinstance(settings, TokenSettings)
        wanted = [commission for order in orders for commission in order.wanted]
        developed = self._developed(wanted, settings, _ticking(check, orders), _sketching(orders))
        finished, start = [], 0
        for order in orders:
            rows = slice(start, start + order.count)
            part = Developed(
                commissions=developed.commissions[rows],
                tokens=developed.tokens[rows],
                pictures=developed.pictures[rows],
            )
            finished.append(self._ranked(order, part, settings))
            start += order.count
        return finished

    def _developed(
        self,
        wanted: Sequence[Commission],
        settings: TokenSettings,
        on_tick: Callable[[Tick], None],
        on_sketch: Callable[[Sketch], None] | None,
    ) -> Developed:
        rows = self.painter.transformer.config.grid
        clock = Clock(len(wanted) * (rows + 1), on_tick)
        advance = clock.during("writing")
        read = self.painter.read(wanted)
        if isinstance(self.painter, Dalle1):
            written = self.painter.write(read, settings, advance=advance, on_sketch=on_sketch)
        else:
            written = self.painter.write(read, settings, advance=advance)
        return self.painter.develop(written, advance=clock.during("developing"))

    def _ranked(self, order: Order, developed: Developed, settings: TokenSettings) -> list[Painted]:
        stage: TokenStage
        if isinstance(self.painter, Dalle1):
            stage = self.painter.rank(developed, count=order.count)
            told = [
                self.painter.metadata(one, settings=settings, score=score)
                for one, score in zip(stage.commissions, stage.scores.tolist(), strict=True)
            ]
        else:
            stage = developed
            told = [self.painter.metadata(one, settings=settings) for one in stage.commissions]
        return _painted([order], stage.commissions, stage.images(), told)


class OnePass(Painter[DfGanSettings]):
    """DF-GAN, which has nothing to be told but words."""

    def __init__(self, name: str, painter: DfGan) -> None:
        super().__init__(name, painter.sizes)
        self.painter = painter

    def settings(self, *, steps: int | None, guidance: float | None, negative_prompt: str) -> DfGanSettings:
        """As usual."""
        for what, given in (("steps", steps), ("guidance", guidance), ("negative_prompt", negative_prompt)):
            if given not in (None, ""):
                raise ValueError(
                    f"{what} is {given!r:.22}: {self.name} paints in one pass, as it was trained, so "
                    "leave it out"
                )
        return self.painter.usual

    def refuse(self, order: Order) -> None:
        """Raise ValueError for an order that cannot be painted."""
        self.painter.paint_each(order.wanted, size=self.sides[order.side])

    def paint(self, orders: Sequence[Order], check: Check) -> list[list[Painted]]:
        """All of them, in one call."""
        settings, own = orders[0].settings, self.sides[orders[0].side]
        assert isinstance(settings, DfGanSettings)
        wanted = [commission for order in orders for commission in order.wanted]
        stages = self.painter.paint_each(wanted, size=own, settings=settings, on_tick=_ticking(check, orders))
        images = [image for stage in stages if isinstance(stage, Drawn) for image in stage.images()]
        told = [self.painter.metadata(one, size=own, settings=settings) for one in wanted]
        return _dealt(orders, _painted(orders, wanted, images, told))


def served(
    name: str, painter: Dalle1 | Dalle2 | DalleMini | DfGan | Glide
) -> Unclip | Mender | OnePass | Writer:
    """A painter under the name that requests call it by."""
    if isinstance(painter, Dalle2):
        return Unclip(name, painter)
    if isinstance(painter, DfGan):
        return OnePass(name, painter)
    return Mender(name, painter) if isinstance(painter, Glide) else Writer(name, painter)


def _ticking(check: Check, orders: Sequence[Order]) -> Callable[[Tick], None]:
    def on_tick(tick: Tick) -> None:
        check()
        for order in orders:
            if order.on_tick is not None:
                order.on_tick(tick)

    return on_tick


def _sketching(orders: Sequence[Order]) -> Callable[[Sketch], None] | None:
    """Shows each order its pictures on their way, as often as it asked for, evenly; None if none did."""
    if not any(order.sketches and order.on_sketch for order in orders):
        return None
    # Two orders may want the same picture, and then either row will do for both.
    places: dict[Commission, list[tuple[Order, int]]] = {}
    for order in orders:
        for number, one in enumerate(order.wanted):
            places.setdefault(one, []).append((order, number))
    shown: Counter[tuple[int, int]] = Counter()

    def on_sketch(sketch: Sketch) -> None:
        done = sketch.index + 1
        if done == sketch.total:
            return
        rows = {one: row for row, one in enumerate(sketch.commissions)}
        due = [
            (order, number, row)
            for one, row in rows.items()
            for order, number in places[one]
            if (so_far := shown[id(order), number]) < order.sketches
            and done * (order.sketches + 1) >= (so_far + 1) * sketch.total
        ]
        images = sketch.images() if due else []
        for order, number, row in due:
            if order.on_sketch is not None:
                order.on_sketch(number, shown[id(order), number], fitted(images[row], order.side))
            shown[id(order), number] += 1

    return on_sketch


def _painted(
    orders: Sequence[Order],
    wanted: Sequence[Commission],
    images: Sequence[Image.Image],
    told: Sequence[dict[str, str]],
) -> list[Painted]:
    """Pictures as their files hold them, each at the side that its order wants."""
    of = [order for order in orders for _ in range(order.count)]
    finished = []
    for order, one, image, says in zip(of, wanted, images, told, strict=True):
        more = {} if image.width == order.side else {"resized": str(order.side)}
        png = encode_png(fitted(image, order.side), {**says, **more})
        finished.append(Painted(png=png, seed=one.seed))
    return finished


def _dealt(orders: Sequence[Order], painted: Sequence[Painted]) -> list[list[Painted]]:
    """Each order's own."""
    rest = iter(painted)
    return [[next(rest) for _ in range(order.count)] for order in orders]
