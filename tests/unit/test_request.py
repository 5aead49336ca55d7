"""What the two words of a copy must be before anything is asked of a cluster."""

from __future__ import annotations

import dataclasses
import math

import pytest

from kubectl_podcp import fidelity
from kubectl_podcp.errors import UsageError
from kubectl_podcp.overrides import Overrides
from kubectl_podcp.paths import GRAMMAR, LocalPath, PodPath, StreamPath
from kubectl_podcp.request import FROM_STDIN, TO_STDOUT, CopyRequest, Options, parse_paths

A = PodPath("shop", "web-0", b"/data")
B = PodPath(None, "web-1", b"srv")


@pytest.mark.parametrize(
    ("source", "destination"),
    [("shop/web-0:/data", "web-1:srv"), (b"shop/web-0:/data", b"web-1:srv")],
    ids=["text", "bytes"],
)
def test_both_words_become_paths(source: str | bytes, destination: str | bytes) -> None:
    assert parse_paths(source, destination) == (A, B)


def test_one_of_them_may_be_on_this_machine() -> None:
    assert parse_paths("data", "web-1:srv") == (LocalPath(b"data"), B)
    assert parse_paths("shop/web-0:/data", "./a:b") == (A, LocalPath(b"./a:b"))


@pytest.mark.parametrize(
    ("source", "destination", "words"),
    [
        ("data", "srv", "neither data nor srv is in a Pod"),
        ("./a:b", "/srv", "neither ./a:b nor /srv is in a Pod"),
        ("web-0:", "web-1:srv", "empty path"),
        ("web-0:/data", "", "empty path"),
        ("a/b/c:/data", "web-1:srv", "does not match"),
    ],
)
def test_other_words_are_told_how_a_path_is_written(
    source: str, destination: str, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        parse_paths(source, destination)
    assert words in caught.value.happened
    assert GRAMMAR in str(caught.value)


@pytest.mark.parametrize(
    ("source", "destination", "meant"),
    [
        ("web-0", "/data", "if web-0 is a Pod, write web-0:/path; "),
        ("/data", "shop/web-0", "if shop/web-0 is a Pod, write shop/web-0:/path; "),
        ("deploy/web", "./x", "if deploy/web is a Pod, write deploy/web:/path; "),
        ("./web-0", "/data", ""),
        ("my file", "My_file", ""),
        ("~/web-0", "/data", ""),
    ],
)
def test_a_colon_that_was_forgotten_is_shown(source: str, destination: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_paths(source, destination)
    assert caught.value.advice.startswith(f"{meant}a path in a Pod is written")


def test_the_words_cannot_command_a_terminal() -> None:
    with pytest.raises(UsageError) as caught:
        parse_paths(b"a\x1b[2J\xff", "srv")
    assert "neither a\\x1b[2J\\xff nor srv" in str(caught.value)


def test_a_request_leaves_to_the_kubeconfig_what_was_not_said() -> None:
    request = CopyRequest(A, B)
    said = {each.name: getattr(request, each.name) for each in dataclasses.fields(Options)}
    given = {
        "stall_timeout": 60.0,
        "retries": 3,
        "overrides": Overrides(),
        "preserve": fidelity.KEPT,
        "compress": "none",
    }
    assert {name: value for name, value in said.items() if value} == given
    assert request.access == ((None, None), (None, None))


@pytest.mark.parametrize(("source", "destination"), [("-", "a:/b"), ("a:/b", "-")])
def test_streams_have_no_attributes(source: str, destination: str) -> None:
    options = Options(preserve=fidelity.preserved([(True, "xattr")]))
    with pytest.raises(UsageError, match="--preserve=xattr is for files"):
        CopyRequest.of(source, destination, options)
    CopyRequest.of(source, destination, Options(preserve=fidelity.preserved([(True, "all")])))


@pytest.mark.parametrize(
    ("fields", "source", "destination"),
    [
        ({"context": "a", "kubeconfig": "k"}, ("k", "a"), ("k", "a")),
        ({"context": "a", "dest_context": "b"}, (None, "a"), (None, "b")),
        ({"source_context": "b"}, (None, "b"), (None, None)),
        ({"kubeconfig": "k", "source_kubeconfig": "l", "context": "a"}, ("l", "a"), ("k", "a")),
        (
            {"dest_kubeconfig": "l", "dest_context": "b", "source_context": "a"},
            (None, "a"),
            ("l", "b"),
        ),
    ],
)
def test_each_end_has_a_cluster(
    fields: dict[str, str], source: tuple[str, str], destination: tuple[str, str]
) -> None:
    request = CopyRequest(A, B, **fields)  # type: ignore[arg-type]
    assert request.access == (source, destination)


@pytest.mark.parametrize("end", ["source", "dest"])
@pytest.mark.parametrize("what", ["container", "context", "kubeconfig"])
def test_what_is_said_of_a_pod_is_not_said_of_this_machine(end: str, what: str) -> None:
    here = LocalPath(b"/x")
    both = (here, B) if end == "source" else (A, here)
    with pytest.raises(UsageError) as caught:
        CopyRequest(*both, **{f"{end}_{what}": "y"})  # type: ignore[arg-type]
    assert caught.value.happened == f"--{end}-{what} is for a Pod, and /x is on this machine"


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_a_stall_is_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(UsageError, match="is no number of seconds for --stall-timeout"):
        CopyRequest(A, B, stall_timeout=seconds)


@pytest.mark.parametrize(
    ("paths", "without"),
    [((StreamPath(), B), FROM_STDIN), ((A, StreamPath()), TO_STDOUT)],
    ids=["from stdin", "to stdout"],
)
def test_what_a_stream_cannot_do_is_refused_in_words(
    paths: tuple[StreamPath | PodPath, StreamPath | PodPath], without: dict[str, str]
) -> None:
    assert CopyRequest(*paths).is_stream
    for name, why in without.items():
        names = ("exclude", "files_from")
        said = {name: "simple" if name == "backup" else (b"x",) if name in names else True}
        with pytest.raises(UsageError) as caught:
            CopyRequest(*paths, **said)  # type: ignore[arg-type]
        assert caught.value.happened.startswith(f"--{name.replace('_', '-')} means nothing for")
        assert caught.value.happened.endswith(why)
        CopyRequest(A, B, **said)  # type: ignore[arg-type]


def test_a_copy_between_places_is_no_stream() -> None:
    assert not CopyRequest(A, B).is_stream
    assert not CopyRequest(LocalPath(b"./-"), B).is_stream


@pytest.mark.parametrize(
    ("retries", "failed", "again"),
    [(0, 0, False), (3, 0, True), (3, 2, True), (3, 3, False), (-1, 0, True), (-1, 1_000, True)],
)
def test_a_negative_number_of_retries_is_without_end(
    retries: int, failed: int, again: bool
) -> None:
    assert CopyRequest(A, B, retries=retries).tries_again(failed) is again


@pytest.mark.parametrize("rate", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_none_can_mean_is_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="no number of bytes per second for --bwlimit"):
        CopyRequest(A, B, bwlimit=rate)


@pytest.mark.parametrize(
    ("fields", "happened"),
    [
        ({"no_clobber": True, "backup": "simple"}, "and --backup is about what is replaced"),
        ({"no_clobber": True, "interactive": bool}, "and --interactive is about what is replaced"),
        ({"backup": "none"}, "'none' is no way to make backups"),
        ({"suffix": b"~"}, "--suffix says how backups are called, and none are made"),
        ({"backup": "simple", "suffix": b""}, "'' cannot be the end of a file's name"),
        ({"backup": "simple", "suffix": b"/x"}, "'/x' cannot be the end of a file's name"),
        ({"backup": "simple", "suffix": b"a\0"}, "'a\\x00' cannot be the end of a file's name"),
    ],
)
def test_what_is_there_is_kept_or_replaced(fields: dict[str, object], happened: str) -> None:
    with pytest.raises(UsageError) as caught:
        CopyRequest(A, B, **fields)  # type: ignore[arg-type]
    assert caught.value.happened.endswith(happened)
    assert caught.value.advice


def test_what_is_asked_about_may_be_backed_up() -> None:
    request = CopyRequest(A, B, interactive=bool, backup="existing", suffix=b".orig")
    assert request.keeps
    assert request.spares
    assert not CopyRequest(A, B, backup="simple").keeps
    assert not CopyRequest(A, B, update=True).spares


def test_this_machine_is_in_no_cluster_so_there_are_not_two() -> None:
    here, token = LocalPath(b"/x"), Overrides(token="t")
    request = CopyRequest(here, B, dest_context="b", overrides=token)
    assert request.access == ((None, "b"), (None, "b"))
    request = CopyRequest(A, here, source_kubeconfig="k", context="a", overrides=token)
    assert request.access == (("k", "a"), ("k", "a"))


def test_between_two_clusters_nothing_is_accepted_that_is_meant_for_one() -> None:
    """A token would be shown to both."""
    two = {"source_context": "a", "dest_context": "b"}
    for each in dataclasses.fields(Overrides):
        overrides = Overrides(**{each.name: "x"})  # type: ignore[arg-type]
        CopyRequest(A, B, source_context="a", dest_context="a", overrides=overrides)
        if each.name in ("as_user", "as_groups", "as_uid", "request_timeout"):
            CopyRequest(A, B, **two, overrides=overrides)  # type: ignore[arg-type]
            continue
        with pytest.raises(UsageError) as caught:
            CopyRequest(A, B, **two, overrides=overrides)  # type: ignore[arg-type]
        assert f"--{each.name.replace('_', '-')} does not say" in caught.value.happened


def test_a_request_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CopyRequest(A, B).namespace = "other"  # type: ignore[misc]
