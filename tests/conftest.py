"""Every call in the tests checks the shapes in limner's signatures."""

from jaxtyping import install_import_hook

# Before the first import of limner, which is why it stands at the top of the first file that pytest reads.
install_import_hook("limner", "beartype.beartype")

import hypothesis  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(min(2, torch.get_num_threads()))

# A shared machine may stall for a second anywhere, so a slow example says nothing.
hypothesis.settings.register_profile("limner", deadline=None, print_blob=True)
hypothesis.settings.load_profile("limner")
