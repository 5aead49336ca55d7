"""A real Kubernetes cluster on this one machine, for the end-to-end tests.

``python3 -m tests.cluster up`` brings it up, ``python3 -m tests.cluster down`` takes it down;
README.md says what it is and what it needs. Standard library only.

::

    layout          where everything stands; the one error
    requirements    what the machine must have
    binaries        Kubernetes, built from its Go module
    machine         the namespaces that the cluster lives and dies in
    certificates    the CA and what it signs
    configuration   what the daemons are told: ports, tokens, files, kubeconfigs
    daemons         start, stop, kill: also for tests that break the cluster on purpose
    api             the few requests that the launcher makes
    images, pods    what runs in the cluster
    lifecycle       up, down, status: all of the above in order
"""
