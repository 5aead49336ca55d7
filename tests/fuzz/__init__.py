"""Nothing hostile or broken gets through: properties, and witnesses that share no code with us.

``PODCP_EXAMPLES`` is how many examples each property gets; without it a number that keeps all of
them together within a minute.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings


def examples(usual: int) -> settings:
    """Return the settings of a property that gets ``usual`` examples."""
    return settings(
        max_examples=int(os.environ.get("PODCP_EXAMPLES", usual)),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
