"""Memory that a CPU run would waste: kernels kept for every shape of batch that was ever met.

torch's oneDNN backend keeps up to 1,024 prepared kernels, each with buffers of its own. Where every batch has another
length none of them is met again, and a run grows by hundreds of megabytes. A few dozen are as fast.
"""

from __future__ import annotations

import os

KEPT_KERNELS = "32"


def bound_kernel_caches() -> None:
    """Bound the caches, unless the user has set them; takes effect before the first matrix product of a process."""
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, KEPT_KERNELS)
