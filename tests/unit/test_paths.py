"""The grammar and the directory rule, case by case."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp.errors import DestinationRefused, NoDirectory, PodcpError, UsageError
from kubectl_podcp.paths import (
    Kind,
    LocalPath,
    Placement,
    PodPath,
    SourceFacts,
    StreamPath,
    TargetFacts,
    join,
    parse,
    place,
)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("web-0:/data", PodPath(None, "web-0", b"/data")),
        ("shop/web-0:/data", PodPath("shop", "web-0", b"/data")),
        ("web-0:data/x", PodPath(None, "web-0", b"data/x")),
        ("web-0:.", PodPath(None, "web-0", b".")),
        ("web-0:/a:b", PodPath(None, "web-0", b"/a:b")),
        ("web-0:/a\nb c'\"*", PodPath(None, "web-0", b"/a\nb c'\"*")),
        (b"web-0:/\xff\xfe", PodPath(None, "web-0", b"/\xff\xfe")),
        (os.fsdecode(b"web-0:/\xff"), PodPath(None, "web-0", b"/\xff")),
        ("./a:b", LocalPath(b"./a:b")),
        ("/a/b:c", LocalPath(b"/a/b:c")),
        ("../a:b", LocalPath(b"../a:b")),
        ("name", LocalPath(b"name")),
        ("-", StreamPath()),
        (b"-", StreamPath()),
        ("./-", LocalPath(b"./-")),
        ("--", LocalPath(b"--")),
        ("web-0:-", PodPath(None, "web-0", b"-")),
        ("~", LocalPath(b"./~")),
        ("~/x", LocalPath(b"./~/x")),
        ("web-0:~/x", PodPath(None, "web-0", b"~/x")),
    ],
)
def test_a_word_is_split_at_its_first_colon(word: str | bytes, expected: object) -> None:
    assert parse(word) == expected


@pytest.mark.parametrize(
    ("word", "there", "here"),
    [
        ("C:\\data", None, LocalPath(b"C:\\data")),
        ("c:/data", PodPath(None, "c", b"/data"), LocalPath(b"c:/data")),
        ("c:data", PodPath(None, "c", b"data"), PodPath(None, "c", b"data")),
        ("cc:/data", PodPath(None, "cc", b"/data"), PodPath(None, "cc", b"/data")),
        ("shop/c:/data", PodPath("shop", "c", b"/data"), PodPath("shop", "c", b"/data")),
    ],
)
def test_a_letter_is_a_drive_only_where_there_are_drives(
    word: str, there: object, here: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there is None:
        with pytest.raises(UsageError, match="'C' is no name of a Pod"):
            parse(word)
    else:
        assert parse(word) == there
    monkeypatch.setattr("kubectl_podcp.paths.DRIVES", True)
    assert parse(word) == here


@pytest.mark.parametrize(
    ("names", "resource"),
    [
        ("deploy deployment deployments deployment.apps deployments.apps", "deployments.apps"),
        ("sts statefulset statefulsets statefulset.apps", "statefulsets.apps"),
        ("ds daemonset daemonsets daemonset.apps", "daemonsets.apps"),
        ("rs replicaset replicasets replicaset.apps", "replicasets.apps"),
        ("job jobs job.batch jobs.batch", "jobs.batch"),
        ("rc replicationcontroller replicationcontrollers", "replicationcontrollers"),
        ("svc service services", "services"),
    ],
)
def test_what_has_pods_may_stand_for_one(names: str, resource: str) -> None:
    for kind in names.split():
        for word, namespace in ((f"{kind}/web:/a", None), (f"shop/{kind}/web:/a", "shop")):
            path = parse(word)
            assert path == PodPath(namespace, "web", b"/a", kind)
            assert isinstance(path, PodPath)
            assert path.resource == resource
            assert str(path) == word
            assert path.in_pod("web-5d9") == PodPath(namespace, "web-5d9", b"/a")


@pytest.mark.parametrize(
    ("word", "expected", "printed"),
    [
        ("pod/web:/a", PodPath(None, "web", b"/a"), "web:/a"),
        ("po/web:/a", PodPath(None, "web", b"/a"), "web:/a"),
        ("shop/pods/web:/a", PodPath("shop", "web", b"/a"), "shop/web:/a"),
        # a namespace that is called like a kind needs the kind of the Pod
        ("deploy/pod/web:/a", PodPath("deploy", "web", b"/a"), "deploy/pod/web:/a"),
        ("pod/pod/web:/a", PodPath("pod", "web", b"/a"), "pod/pod/web:/a"),
        ("deploy/sts/web:/a", PodPath("deploy", "web", b"/a", "sts"), "deploy/sts/web:/a"),
        # and a Pod may be called like one
        ("deploy:/a", PodPath(None, "deploy", b"/a"), "deploy:/a"),
        ("shop/deploy:/a", PodPath("shop", "deploy", b"/a"), "shop/deploy:/a"),
        ("deploy/svc:/a", PodPath(None, "svc", b"/a", "deploy"), "deploy/svc:/a"),
    ],
)
def test_a_pod_may_be_called_one(word: str, expected: PodPath, printed: str) -> None:
    assert parse(word) == expected
    assert expected.resource == (
        "statefulsets.apps"
        if expected.kind == "sts"
        else "deployments.apps"
        if expected.kind
        else "pods"
    )
    assert str(expected) == printed
    assert parse(printed) == expected


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("", "empty path"),
        ("web-0:", "empty path"),
        (":", "empty path"),
        (":/data", "[[namespace/]pod:]path"),
        ("a/b/c:/data", "[[namespace/]pod:]path"),
        ("shop/:/data", "[[namespace/]pod:]path"),
        ("shop/cronjob/x:/data", "[[namespace/]pod:]path"),
        ("a/b/deploy/x:/data", "[[namespace/]pod:]path"),
        ("deploy/:/data", "[[namespace/]pod:]path"),
        ("Deploy/x:/data", "no name of a Pod"),
        ("pöd:/data", "no name of a Pod"),
        ("a\x1b[2Jb:/data", "no name of a Pod"),
        ("C:\\data", "no name of a Pod"),
        ("web-0:/a\0b", "NUL"),
        ("web-0:/\ud800", "'web-0:/\\ud800' is no text"),
        ("/dev/stdin", "leads each process to what it has open itself"),
        ("//dev//stdout", "'//dev//stdout' leads"),
        ("/dev/fd/63", "leads"),
        ("/proc/self/fd/1", "leads"),
        ("web-0:/dev/stderr", "'web-0:/dev/stderr' leads"),
    ],
)
def test_a_word_that_is_no_path_says_why(word: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(word)
    assert part in str(caught.value)


@given(st.binary())
def test_any_word_is_a_path_or_a_usage_error(word: bytes) -> None:
    try:
        path = parse(word)
    except UsageError:
        return
    assert path.path
    assert str(path).isprintable()


NAMES = st.sampled_from(["deploy", "pod", "services", "shop", "web-0", "job.batch", "a.b"])


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_a_path_is_printed_as_it_may_be_written(names: list[str]) -> None:
    try:
        path = parse("/".join(names) + ":/data")
    except UsageError:
        return
    assert parse(str(path)) == path


@pytest.mark.parametrize(
    ("path", "name", "contents", "slash"),
    [
        (b"/data/photos", b"photos", False, False),
        (b"photos", b"photos", False, False),
        (b"/data/photos//", b"photos", False, True),
        (b"/data/.", b".", True, False),
        (b"..", b"..", True, False),
        (b"/", b"", True, True),
        (b"~", b"~", True, False),
        (b"~//", b"~", True, True),
        (b"~/.", b".", True, False),
        (b"~/x", b"x", False, False),
        (b"./~", b"~", False, False),
        (b"/data/~", b"~", False, False),
        (b"~user", b"~user", False, False),
    ],
)
def test_the_last_component(path: bytes, name: bytes, contents: bool, slash: bool) -> None:
    word = PodPath(None, "p", path)
    assert (word.name, word.is_contents, word.has_trailing_slash) == (name, contents, slash)


def test_paths_print_without_control_characters() -> None:
    assert str(PodPath("ns", "p", b"/a\x1b[2J\n\xff")) == "ns/p:/a\\x1b[2J\\x0a\\xff"
    assert str(LocalPath(b"a\tb")) == "a\\x09b"


def test_names_that_a_server_gives_print_without_control_characters() -> None:
    path = PodPath("ns", "web\x1b]0;x\7", b"/x")
    assert str(path) == "ns/web\\x1b]0;x\\x07:/x"
    assert path.where == "in web\\x1b]0;x\\x07"


def test_a_fifo_is_replaced_by_one() -> None:
    fifo = SourceFacts(b"/data", b"photos", Kind.OTHER)
    assert place(HERE, fifo, THERE, target(Kind.OTHER)) == Placement(b"/srv", b"x")


def test_paths_say_where_they_are() -> None:
    assert PodPath("ns", "p", b"/a").where == "in p"
    assert LocalPath(b"a").where == "on this machine"


def test_join_knows_the_root() -> None:
    assert join(b"/", b"a") == b"/a"
    assert join(b"/srv", b"a") == b"/srv/a"


DIRECTORY = SourceFacts(b"/data", b"photos", Kind.DIRECTORY)
FILE = SourceFacts(b"/data", b"photos", Kind.FILE, 5)
HERE = PodPath(None, "p", b"/data/photos")
CONTENTS = PodPath(None, "p", b"/data/photos/.")
THERE = PodPath(None, "q", b"/srv/x")


def target(
    kind: Kind, inner: Kind = Kind.MISSING, *, writable: bool = True, inner_writable: bool = True
) -> TargetFacts:
    """Facts of /srv/x."""
    if kind is Kind.DIRECTORY:
        inner_writable = inner_writable and inner is Kind.DIRECTORY
        return TargetFacts(b"/srv/x", b"", kind, inner, writable, inner_writable)
    return TargetFacts(b"/srv", b"x", kind, inner, writable)


@pytest.mark.parametrize(
    ("source", "found", "there", "no_target_directory", "expected"),
    [
        # as with cp -r: into a directory that exists, else under the name given
        (HERE, DIRECTORY, target(Kind.DIRECTORY), False, Placement(b"/srv/x", b"photos")),
        (HERE, FILE, target(Kind.DIRECTORY), False, Placement(b"/srv/x", b"photos")),
        (HERE, DIRECTORY, target(Kind.MISSING), False, Placement(b"/srv", b"x")),
        (HERE, FILE, target(Kind.MISSING), False, Placement(b"/srv", b"x")),
        (HERE, FILE, target(Kind.FILE), False, Placement(b"/srv", b"x")),
        (HERE, FILE, target(Kind.LINK), False, Placement(b"/srv", b"x")),
        (HERE, FILE, target(Kind.DIRECTORY, Kind.FILE), False, Placement(b"/srv/x", b"photos")),
        # a directory of that name in it is merged into
        (
            HERE,
            DIRECTORY,
            target(Kind.DIRECTORY, Kind.DIRECTORY),
            False,
            Placement(b"/srv/x/photos", b""),
        ),
        # which alone must be writable then
        (
            HERE,
            DIRECTORY,
            target(Kind.DIRECTORY, Kind.DIRECTORY, writable=False),
            False,
            Placement(b"/srv/x/photos", b""),
        ),
        (
            HERE,
            DIRECTORY,
            target(Kind.DIRECTORY, Kind.DIRECTORY, inner_writable=False),
            True,
            Placement(b"/srv/x", b""),
        ),
        # -T, and src/.
        (HERE, DIRECTORY, target(Kind.DIRECTORY), True, Placement(b"/srv/x", b"")),
        (CONTENTS, DIRECTORY, target(Kind.DIRECTORY), False, Placement(b"/srv/x", b"")),
        (CONTENTS, DIRECTORY, target(Kind.MISSING), False, Placement(b"/srv", b"x")),
        (HERE, FILE, target(Kind.MISSING), True, Placement(b"/srv", b"x")),
    ],
)
def test_the_directory_rule(
    source: PodPath,
    found: SourceFacts,
    there: TargetFacts,
    no_target_directory: bool,
    expected: Placement,
) -> None:
    placement = place(source, found, THERE, there, no_target_directory=no_target_directory)
    assert placement == expected
    assert placement.merge == (not expected.name)
    whole = expected.directory + (b"/" + expected.name if expected.name else b"")
    assert placement.path == whole


@pytest.mark.parametrize(
    ("found", "destination", "there", "part"),
    [
        (DIRECTORY, THERE, target(Kind.FILE), "non-directory /srv/x with directory /data/photos"),
        (DIRECTORY, THERE, target(Kind.LINK), "non-directory /srv/x with directory"),
        (
            FILE,
            THERE,
            target(Kind.DIRECTORY, Kind.DIRECTORY),
            "directory /srv/x/photos with non-directory",
        ),
        (
            DIRECTORY,
            THERE,
            target(Kind.DIRECTORY, Kind.FILE),
            "non-directory /srv/x/photos with directory",
        ),
        (FILE, THERE, target(Kind.MISSING, writable=False), "cannot write to /srv"),
        (
            FILE,
            THERE,
            target(Kind.DIRECTORY, Kind.FILE, writable=False),
            "cannot write to /srv/x in q",
        ),
        (
            DIRECTORY,
            THERE,
            target(Kind.DIRECTORY, Kind.DIRECTORY, inner_writable=False),
            "cannot write to /srv/x/photos",
        ),
        (
            FILE,
            THERE,
            TargetFacts(b"", b"x", Kind.MISSING, Kind.MISSING, False),
            "does not exist",
        ),
        (
            FILE,
            THERE,
            TargetFacts(b"/srv", b".", Kind.MISSING, Kind.MISSING, True),
            "does not exist",
        ),
        (FILE, PodPath(None, "q", b"/srv/x/"), target(Kind.MISSING), "is not a directory"),
        (FILE, THERE, target(Kind.OTHER), "/srv/x is a device, a FIFO or a socket"),
        (FILE, THERE, target(Kind.DIRECTORY, Kind.OTHER), "/srv/x/photos is a device, a FIFO"),
        (DIRECTORY, THERE, target(Kind.OTHER), "non-directory /srv/x with directory"),
    ],
)
def test_a_target_that_does_not_fit_is_refused(
    found: SourceFacts, destination: PodPath, there: TargetFacts, part: str
) -> None:
    with pytest.raises(DestinationRefused) as caught:
        place(HERE, found, destination, there)
    assert part in str(caught.value)
    assert caught.value.advice


def test_no_target_directory_never_replaces_a_directory_by_a_file() -> None:
    with pytest.raises(PodcpError):
        place(HERE, FILE, THERE, target(Kind.DIRECTORY), no_target_directory=True)


def test_a_directory_may_have_a_trailing_slash() -> None:
    there = PodPath(None, "q", b"/srv/x/")
    assert place(HERE, DIRECTORY, there, target(Kind.MISSING)) == Placement(b"/srv", b"x")


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.LINK, Kind.OTHER, Kind.MISSING])
def test_a_target_that_must_be_a_directory_is_none(kind: Kind) -> None:
    with pytest.raises(NoDirectory, match=r"^target q:/srv/x is not a directory"):
        place(HERE, FILE, THERE, target(kind), must_exist=True)


def test_a_target_that_must_be_a_directory_is_one() -> None:
    found = place(HERE, FILE, THERE, target(Kind.DIRECTORY), must_exist=True)
    assert found == Placement(b"/srv/x", b"photos")


def test_what_comes_on_stdin_has_no_name_to_stand_under() -> None:
    """An archive's members come to stand in the directory itself, or in a new one of that name."""
    archive = SourceFacts(b"", b"-", Kind.DIRECTORY)
    there = TargetFacts(b"/srv", b"", Kind.DIRECTORY, Kind.MISSING, writable=True)
    new = TargetFacts(b"/srv", b"new", Kind.MISSING, Kind.MISSING, writable=True)
    target = PodPath(None, "pod", b"/srv/new/")
    assert place(StreamPath(), archive, target, there) == Placement(b"/srv", b"")
    assert place(StreamPath(), archive, target, new) == Placement(b"/srv", b"new")
