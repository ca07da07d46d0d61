"""Every call in the tests checks the shapes in limner's signatures."""

from jaxtyping import install_import_hook

# Before the first import of limner, which is why it stands at the top of the first file that pytest reads.
install_import_hook("limner", "beartype.beartype")

# The call above comes first, so these imports do not stand at the top (E402).
import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(min(2, torch.get_num_threads()))

# A shared machine may stall for a second anywhere, so a slow example says nothing.
hypothesis.settings.register_profile("limner", deadline=None, print_blob=True)
hypothesis.settings.load_profile("limner")


# Toys that learn from nothing take longest, so they begin first and the rest is done beside them.
LONGEST = ("line/test_toy_line.py", "line/test_toys.py", "recipes/test_glide.py")


def pytest_collection_modifyitems(items):
    def place(item):
        name = f"{item.path.parent.name}/{item.path.name}"
        return LONGEST.index(name) if name in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(scope="session")
def autoencoders(tmp_path_factory):
    """A folder with each autoencoder and glow as training leaves them: very small, 32×32, untrained."""
    from dataclasses import replace

    from limner import checkpoint
    from limner.dvae import DVae, DVaeConfig
    from limner.glow import Glow, GlowConfig
    from limner.quantize import CodebookConfig
    from limner.vae import Vae, VaeConfig
    from limner.vqvae import Above, CodePrior, CodePriorConfig, VqVae, VqVae2, VqVae2Config, VqVaeConfig

    book = CodebookConfig(codes=16, width=4, beta=0.25, average=None)
    top = CodePriorConfig(codes=16, side=4, width=8, layers=1, heads=1, condition=None, above=None)
    prior = CodePriorConfig(codes=16, side=8, width=8, layers=1, heads=1, condition=None, above=None)
    flow = GlowConfig(
        resolution=32, levels=2, steps=1, width=8, coupling="affine", bits=8, lu=True, condition=None
    )
    words = {"vocabulary": 64, "codebook": 8, "widths": (8, 8), "blocks": 1, "poolings": 1, "stem": 3}
    parts = {
        "vae": (Vae, VaeConfig(resolution=32, widths=(8, 8), blocks=0, hidden=16, latent=6, sigma=0.5)),
        "vqvae/autoencoder": (VqVae, VqVaeConfig(channels=8, hidden=4, blocks=1, halvings=2, codebook=book)),
        "vqvae/prior": (CodePrior, prior),
        "vqvae2/autoencoder": (VqVae2, VqVae2Config(channels=8, hidden=4, blocks=1, codebook=book)),
        "vqvae2/top": (CodePrior, top),
        "vqvae2/bottom": (CodePrior, replace(prior, above=Above(codes=16, side=4, layers=1))),
        "dvae": (DVae, DVaeConfig(resolution=32, patch=2, gain=1.0, **words)),
        "glow": (Glow, flow),
    }
    folder = tmp_path_factory.mktemp("autoencoders")
    torch.manual_seed(0)
    for part, (network, config) in parts.items():
        checkpoint.save(folder / part, network(config).state_dict(), config, dtype=torch.bfloat16)
    return folder


@pytest.fixture(scope="session")
def blind(tmp_path_factory):
    """A judge of all names that the fixed evaluation asks for and of an apple; it has learned nothing."""
    from limner import checkpoint
    from limner.evaluation.emoji600 import requests
    from limner.evaluation.features import WIDTH
    from limner.evaluation.recognition import Recogniser, RecogniserConfig

    known = {name: code for one in requests() for name, code in zip(one.names, one.hexcodes, strict=True)}
    known |= {"red apple": "1F34E", "apple": "1F34F"}
    config = RecogniserConfig(
        names=tuple(known), hexcodes=tuple(known.values()), features=WIDTH, side=32, dropout=0.0
    )
    out = tmp_path_factory.mktemp("blind")
    torch.manual_seed(0)
    checkpoint.save(out / "model", Recogniser(config).state_dict(), config)
    return out
