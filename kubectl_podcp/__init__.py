"""Copy files between Pods, and say so only when it is proved.

>>> from kubectl_podcp import copy
>>> report = copy("shop/web-0:/data/photos", "backup/store-0:/srv/photos")  # doctest: +SKIP
>>> report.status  # doctest: +SKIP
'complete'

:func:`copy` raises :class:`PodcpError` (see :mod:`kubectl_podcp.errors`) whenever it cannot
prove that everything arrived.
"""

import logging

from kubectl_podcp._version import __version__
from kubectl_podcp.copies import copy_all
from kubectl_podcp.copy import copy
from kubectl_podcp.errors import PodcpError
from kubectl_podcp.overrides import Overrides
from kubectl_podcp.report import Failure, Report, Tally
from kubectl_podcp.request import Options

logging.getLogger(__name__).addHandler(logging.NullHandler())  # the caller decides who hears us

__all__ = [
    "Failure",
    "Options",
    "Overrides",
    "PodcpError",
    "Report",
    "Tally",
    "__version__",
    "copy",
    "copy_all",
]
