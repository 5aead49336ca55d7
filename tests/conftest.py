"""What holds for all suites."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

# In CI the same examples each time: a red run must be the change's fault. Elsewhere new ones,
# which is how the odd case gets found. Machines differ too much for hypothesis' own deadline.
settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("anywhere", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "anywhere")

# nohup, or a shell that runs the suite in the background, lets these be ignored: we and whatever
# we start are to hear them as in a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
