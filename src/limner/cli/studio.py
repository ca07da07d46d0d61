"""`limner studio`: the page, beside the images API, on this machine."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import arg

from limner.cli.serve import Options, loopback

HELP = """Open a page to paint, mend, blend and look inside, with the images API beside it.
  limner studio
  limner studio --models dalle2,glide --port 9000
  limner studio --models mine=runs/mine/line --no-browser"""


@dataclass(frozen=True, kw_only=True)
class Studio(Options):
    """The options of `limner studio`."""

    models: Annotated[str, arg(metavar="A,B")] = "dalle2,glide,dalle1"
    """What to serve, with commas between: painters that ship, paths of weights that paint, or NAME=PATH. Only
    a GLIDE edits, and only a DALL-E 2 varies and blends."""
    lifetime: Annotated[int, arg(metavar="SECONDS")] = 24 * 3600
    """How long a picture is kept at its address."""
    no_browser: bool = False
    """Only say where the page is, and open no browser."""

    def prepare(self) -> None:
        """Load the page's packages, so that one that is missing is said at once."""
        import limner.studio.page  # noqa: F401 (loaded for its own sake: it fails where Gradio is missing)

    def run(self) -> None:
        """Serve the page and the API."""
        service = self.begin()

        from limner.server.running import run
        from limner.studio.page import create_app, give_up, let_go

        def on_ready(address: str) -> None:
            print(f"the studio is at {address}/ (the API: {address}/v1)", flush=True)
            if not self.no_browser:
                import webbrowser

                webbrowser.open(address)

        # Whoever reaches it may paint, but not read and write the folders of this machine. Behind a proxy or
        # another address others reach it though it listens on loopback only.
        alone = loopback(self.host) and self.proxy is None and self.url is None
        app = create_app(service, trains=bool(service.keys) or alone)
        run(
            service,
            host=self.host,
            port=self.port,
            on_ready=on_ready,
            app=app,
            let_go=lambda: let_go(app),
            give_up=lambda: give_up(app),
        )
