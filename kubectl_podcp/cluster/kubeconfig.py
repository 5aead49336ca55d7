"""The kubeconfig as kubectl reads it, or the cluster that we run in.

In: ``--kubeconfig``, ``--context``, what the command line says over them, and the environment.
Out: a
:class:`~kubectl_podcp.cluster.access.Cluster`. Raises
:class:`~kubectl_podcp.errors.KubeconfigError`. One thread.

The only module that imports ``kubernetes``, and only when there is a file to read: the import
takes longer than all else here. The package merges the files (``KubeConfigMerger``) and knows
the legacy auth-providers (``KubeConfigLoader``). The rest of its loader is not used, because it
goes on without a credential when a plugin fails, writes keys to temporary files that live as
long as the process, and knows neither ``proxy-url`` nor ``as`` nor a context's namespace.
Where its merger differs from kubectl too, a comment says so.
"""

from __future__ import annotations

import copy
import os
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

from kubectl_podcp.cluster import overriding
from kubectl_podcp.cluster.access import Cluster, assemble
from kubectl_podcp.cluster.credentials import Credential
from kubectl_podcp.cluster.entries import Entry
from kubectl_podcp.errors import Interrupted, KubeconfigError
from kubectl_podcp.overrides import NOTHING, Overrides

__all__ = ["Cluster", "load"]

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where every Pod finds its own token, authority and namespace."""

_LIST = "`kubectl config get-{0}s` lists the {0}s that there are."
_LIST_CONTEXTS = _LIST.format("context")


def load(
    kubeconfig: str | None = None,
    context: str | None = None,
    overrides: Overrides = NOTHING,
) -> Cluster:
    """Return the cluster of a context, with its credential fetched.

    :param kubeconfig: one file, as ``--kubeconfig`` names it; else ``$KUBECONFIG`` (several
        paths, missing ones skipped), else ``~/.kube/config``, else the cluster we run in.
    :param context: a context's name; else the current one. Without any, ``overrides`` may name
        the cluster, or its server.
    :param overrides: replaces what stands in the kubeconfig.
    :raises KubeconfigError: what is missing or wrong, in which file, and what to do.
    """
    files = _files(kubeconfig)
    merged = _Merged(files) if files else None
    name = context or (merged.current if merged else "")
    named = overrides.server or overrides.cluster
    if not name and not named and _in_a_pod():
        return _cluster_we_run_in(overrides)
    if merged is None:
        if context or not overrides.server:
            raise _nothing_to_read(context)
        merged = _Merged([])
    if not name and not named:
        raise KubeconfigError(
            f"no current context in {merged.where}",
            advice=f"Name one with --context. {_LIST_CONTEXTS}",
        )
    chosen = merged.find("context", name) if name else _empty("context")
    chosen = overriding.context(chosen, overrides)
    return assemble(
        overriding.cluster(_cluster_of(chosen, merged, overrides), overrides),
        overriding.user(_user_of(chosen, merged, overrides), overrides),
        namespace=chosen.text("namespace") or _own_namespace(),
        context=name,
        auth_provider=lambda entry: _from_auth_provider(entry, merged),
        timeout=overrides.request_timeout,
    )


def _cluster_of(chosen: Entry, merged: _Merged, overrides: Overrides) -> Entry:
    if overrides.server and not chosen.has("cluster"):
        return _empty("cluster")
    asked_by = None if overrides.cluster else chosen
    return merged.find("cluster", chosen.text("cluster"), asked_by)


def _user_of(chosen: Entry, merged: _Merged, overrides: Overrides) -> Entry:
    if not chosen.has("user"):
        return _empty("user")  # anonymous, as behind `kubectl proxy`
    return merged.find("user", chosen.text("user"), None if overrides.user else chosen)


def _empty(kind: str) -> Entry:
    """Return an entry of which only the command line says something."""
    return Entry(kind, "", Path("the command line"), {})


# --- which files ---------------------------------------------------------------------------


def _listed() -> str:
    # Read here and now: kubernetes.config reads $KUBECONFIG once, when it is imported.
    return os.environ.get("KUBECONFIG") or "~/.kube/config"


def _files(kubeconfig: str | None) -> list[Path]:
    """Return the files to read; only those that the environment names may be missing."""
    if kubeconfig:
        return [_expanded(kubeconfig)]
    paths = [_expanded(path) for path in _listed().split(os.pathsep) if path]
    return [path for path in dict.fromkeys(paths) if not _is_missing(path)]


def _expanded(path: str) -> Path:
    """Return a path, its ``~`` replaced where there is such a home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def _is_missing(path: Path) -> bool:
    """Whether there is no such file; one that may not be looked at is reported when it is read."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _nothing_to_read(context: str | None) -> KubeconfigError:
    wanted = f' with the context "{context}"' if context else ""
    return KubeconfigError(
        f"there is no kubeconfig{wanted}: {_listed()} does not exist",
        advice="Name one with --kubeconfig or $KUBECONFIG.",
    )


# --- several files as one ------------------------------------------------------------------


class _Merged:
    """Several kubeconfig files as one: the first that defines a name wins."""

    def __init__(self, files: list[Path]) -> None:
        from kubernetes.config.kube_config import KubeConfigMerger

        self.where = ", ".join(str(file) for file in files)
        # Given no path, then fed one by one: the merger would split each at its colons, which
        # kubectl does not do to --kubeconfig, and could not say which of them is wrong.
        self._merger = KubeConfigMerger("")
        for file in files:
            _read(self._merger, file.absolute())
        # The merger takes the last file's current-context; kubectl takes the first.
        contents = self._merger.config_files.values()
        currents = (str(content.get("current-context") or "") for content in contents)
        self.current = next(filter(None, currents), "")

    def find(self, kind: str, name: str, asked_by: Entry | None = None) -> Entry:
        """Return the entry of a kind and name.

        :param asked_by: the context that names it.
        :raises KubeconfigError: there is none.
        """
        nodes = self._merger.config.value[f"{kind}s"] if self._merger.config else []
        for node in nodes:
            if str(node.value["name"]) == name:
                return Entry(kind, name, Path(node.path), node.value).section(kind)
        if asked_by is None:
            where = self.where or "the kubeconfig, which does not exist"
            raise KubeconfigError(f'no {kind} "{name}" in {where}', advice=_LIST.format(kind))
        happened = f'there is no {kind} "{name}"' if name else f"no {kind} is named"
        raise asked_by.error(happened, advice=f"Choose another --context. {_LIST_CONTEXTS}")

    def save(self, change: dict[str, Any], target: dict[str, Any]) -> None:
        """Change a mapping of one of the files, and write that file where it is allowed.

        Nothing here depends on the writing; the next kubectl does, for a refresh token that was
        used may be worth nothing any more.
        """
        self._merger.paths = list(self._merger.config_files)
        self._merger.config_saved = copy.deepcopy(self._merger.config_files)
        target.update(change)
        with suppress(OSError):
            self._merger.save_changes()


def _read(merger: Any, file: Path) -> None:
    """Add one file to the merger."""
    import yaml  # type: ignore[import-untyped]
    from kubernetes.config.config_exception import ConfigException

    advice = "`kubectl config view` shows what kubectl makes of it."
    malformed = KubeconfigError(f"the kubeconfig {file} has not the form of one", advice=advice)
    try:
        merger.load_config(str(file))
        for kind in ("clusters", "contexts", "users"):
            for item in merger.config_files[str(file)].get(kind) or []:
                item["name"]  # the merger looks at the names only where it compares them
    except OSError as cause:
        raise KubeconfigError(
            f"cannot read the kubeconfig {file}: {cause.strerror}",
            advice="Name another one with --kubeconfig or $KUBECONFIG.",
        ) from cause
    except yaml.MarkedYAMLError as cause:
        line = f" in line {cause.problem_mark.line + 1}" if cause.problem_mark else ""
        # "from None": the cause may quote a token.
        raise KubeconfigError(f"the kubeconfig {file} is not YAML{line}", advice=advice) from None
    except (yaml.YAMLError, UnicodeDecodeError) as cause:
        raise KubeconfigError(f"the kubeconfig {file} is not text", advice=advice) from cause
    except ConfigException:
        # The merger refuses an empty file; to kubectl it is a kubeconfig without entries.
        if yaml.safe_load(file.read_text()) is not None:
            raise malformed from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise malformed from None


# --- the cluster that we run in ------------------------------------------------------------


def _in_a_pod() -> bool:
    """Whether client-go would take the in-cluster configuration for possible."""
    return bool(
        os.environ.get("KUBERNETES_SERVICE_HOST")
        and os.environ.get("KUBERNETES_SERVICE_PORT")
        and (SERVICE_ACCOUNT / "token").is_file()
    )


def _own_namespace() -> str:
    """Return the namespace where none is given: our own Pod's, or ``default``.

    In a Pod even beside a kubeconfig (client-go ``tools/clientcmd/merged_client_builder.go``).
    """
    if _in_a_pod():
        if os.environ.get("POD_NAMESPACE"):
            return os.environ["POD_NAMESPACE"]
        with suppress(OSError, UnicodeDecodeError):
            return (SERVICE_ACCOUNT / "namespace").read_text("utf-8").strip() or "default"
    return "default"


def _cluster_we_run_in(overrides: Overrides) -> Cluster:
    """Return the cluster of our own Pod: a kubeconfig made of its service account."""
    host, port = (os.environ[f"KUBERNETES_SERVICE_{part}"] for part in ("HOST", "PORT"))
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    origin = SERVICE_ACCOUNT / "token"
    fields = {"server": server, "certificate-authority": "ca.crt"}
    return assemble(
        overriding.cluster(Entry("cluster", "in-cluster", origin, fields), overrides),
        overriding.user(Entry("user", "in-cluster", origin, {"tokenFile": "token"}), overrides),
        namespace=_own_namespace(),
        context="",
        auth_provider=_no_auth_provider,
        timeout=overrides.request_timeout,
    )


def _no_auth_provider(user: Entry) -> Credential:
    raise AssertionError(f"a service account has no auth-provider: {user}")


# --- legacy auth-providers -----------------------------------------------------------------


def _from_auth_provider(user: Entry, merged: _Merged) -> Credential:
    """Let ``kubernetes`` read, and renew, the token of an ``auth-provider`` entry (gcp, oidc)."""
    from kubernetes.client import Configuration
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.kube_config import KubeConfigLoader

    provider = user.section("auth-provider")
    name = provider.text("name")
    scratch = copy.deepcopy(dict(provider.values))
    settings = scratch["config"] = dict(provider.section("config").values)
    _demand_verification(settings)
    configuration = Configuration()
    try:
        loader = KubeConfigLoader(_alone({"auth-provider": scratch}), config_base_path="")
        loader.load_and_set(configuration)
    except ConfigException as cause:
        happened = f'the auth-provider "{name}" gave no token: {cause}'
        raise user.error(happened, advice="Log in again.") from cause
    except Interrupted:
        raise
    except Exception as cause:  # whatever the package's HTTP and OAuth libraries raise
        raise user.error(
            f'the auth-provider "{name}" gave no token', advice="Log in again."
        ) from cause
    token = configuration.api_key.get("BearerToken")
    if not token:
        raise user.error(
            f'the auth-provider "{name}" is not supported, or has no token',
            advice="Move to an exec credential plugin, as kubectl itself did.",
        )
    kept = provider.values.get("config") or {}
    renewed = ("access-token", "expiry", "id-token", "refresh-token")
    change = {key: settings[key] for key in renewed if settings.get(key) != kept.get(key)}
    if change:
        merged.save(change, kept)
    return Credential(token, expires=0.0)  # asked again each time; renewed only when expired


def _demand_verification(settings: dict[str, Any]) -> None:
    """Name an authority for the identity provider, where none is named.

    Without one the package would ask an unverified server where to send the refresh token.
    """
    named = ("idp-certificate-authority", "idp-certificate-authority-data")
    if not any(settings.get(key) for key in named):
        settings["idp-certificate-authority"] = ssl.get_default_verify_paths().cafile or _certifi()


def _certifi() -> str:
    import certifi  # kubernetes needs it too

    return certifi.where()


def _alone(user: dict[str, Any]) -> dict[str, Any]:
    """Return a kubeconfig of one user; without a server, so that no file is made for TLS."""
    return {
        "current-context": "only",
        "contexts": [{"name": "only", "context": {"cluster": "only", "user": "only"}}],
        "clusters": [{"name": "only", "cluster": {}}],
        "users": [{"name": "only", "user": user}],
    }
