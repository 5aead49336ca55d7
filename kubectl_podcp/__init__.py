"""Copy files between Pods, and say so only when it is proved.

>>> from kubectl_podcp import copy
>>> report = copy("shop/web-0:/data/photos", "backup/store-0:/srv/photos")  # doctest: +SKIP
>>> report.status  # doctest: +SKIP
'complete'

:func:`copy` raises :class:`PodcpError` (see :mod:`kubectl_podcp.errors`) whenever it cannot
prove that everything arrived.
"""

from kubectl_podcp._version import __version__
from kubectl_podcp.copy import copy
from kubectl_podcp.errors import PodcpError
from kubectl_podcp.report import Report, Tally

__all__ = ["PodcpError", "Report", "Tally", "__version__", "copy"]
