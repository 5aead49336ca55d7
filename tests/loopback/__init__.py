"""The embedded cluster: a small Kubernetes API server whose Pods are directories.

:class:`tests.loopback.server.Server` starts it, :mod:`tests.loopback.faults` spoils it, and
``python -m tests.loopback`` runs it to play with. README.md says what it can do.
"""
