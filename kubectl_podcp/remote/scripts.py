r"""Every shell line that we run in a container.

In go paths (``bytes``) and a run's nonce (32 hexadecimal digits); out come scripts for
``sh -c``. POSIX sh, with the tools that coreutils, busybox and toybox share; each word that is
not ours goes through :func:`quote`. No I/O, raises nothing.

What a script says to us, on its stdout, always carries the nonce:

==================================  ===========================================================
``podcp-<nonce> <rc>``              source: the trailer, after its tar ended with ``rc``
``podcp-<nonce> ready``             destination: staging exists, the archive may come
``podcp-<nonce> <rc> <m> <p>``      destination: the acknowledgement. Its tar ended with ``rc``,
                                    the marker was found (``m`` is 1), placing ended with ``p``
                                    (0 done, 1 nothing was changed, 2 a merge stopped half-way)
==================================  ===========================================================

Each stands on a line of its own: a newline goes in front, whatever came before it. The nonce
reaches the container only in the script, so nothing that merely passes through can imitate it.

Three rules hold everywhere. Descriptors 1 and 2 of the outermost shell stay open, since
containerd closes stdin when both reach their end (containerd#13934). Nothing of a file is ever
written to stderr. The last reader of stdin reads it to its end, since a process that leaves
input behind hangs the session or turns its failure into ``Success``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kubectl_podcp.paths import Placement, SourceFacts

CHUNK = 1 << 20
"""Bytes in a chunk, at least, where stdin cannot be ended (v4). ``dd`` holds one in memory."""

_HEAD = """
unset CDPATH
export LC_ALL=C
"""

_UNDECODABLE = re.compile("[\udc80-\udcff]+")


def quote(word: bytes) -> str:
    """Return a shell word that stands for exactly these bytes (none of them NUL).

    A command line travels as UTF-8 through the API server and the container runtime (protobuf
    strings), so bytes that are not UTF-8 are spelled as octal escapes of ``printf``.
    """
    text = word.decode("utf-8", "surrogateescape").replace("'", "'\\''")
    return "'" + _UNDECODABLE.sub(_as_printf, text) + "'"


def _as_printf(match: re.Match[str]) -> str:
    octal = "".join(f"\\{byte:03o}" for byte in match[0].encode("utf-8", "surrogateescape"))
    return f"'\"$(printf '{octal}')\"'"


def staging_name(digits: str) -> bytes:
    """Name of a staging folder beside its target, and of the marker member inside it.

    :param digits: 32 hexadecimal ones, the folder's or, for the marker, the attempt's.
    """
    return f".podcp-{digits}".encode("ascii")


# --- probes --------------------------------------------------------------------------------
# Facts are printed as key=value, each ended by a NUL, for a path may hold anything else.

_PROBE = (
    _HEAD
    + r"""fact() { printf '%s=%s\0' "$1" "$2"; }
kind() {
  if [ -L "$1" ]; then echo link; elif [ -d "$1" ]; then echo directory
  elif [ -f "$1" ]; then echo file; elif [ -e "$1" ]; then echo other; else echo missing; fi
}
if command -v tar >/dev/null 2>&1; then
  fact tar "$(tar --version 2>&1 </dev/null | { IFS= read -r line; printf %s "$line"; })"
fi
"""
)

_PROBE_SOURCE = r"""
fact kind "$(kind "$p")"
if [ -f "$p" ] && [ ! -L "$p" ]; then fact size "$(stat -c %s -- "$p" 2>/dev/null)"; fi
case ${p##*/} in
  ''|.|..) cd -P -- "$p" 2>/dev/null || exit 0; p=$PWD ;;
esac
q=${p%/*}
cd -P -- "${q:-/}" 2>/dev/null || exit 0
fact directory "$PWD"
fact top "${p##*/}"
"""

_PROBE_TARGET = r"""
[ "$(printf x | dd bs=1 count=1 iflag=fullblock 2>/dev/null)" = x ] && fact fullblock 1
if [ -d "$p" ]; then
  fact kind directory
  cd -P -- "$p" 2>/dev/null || exit 0
  fact inner "$(kind "$PWD/$n")"
else
  while :; do case $p in ?*/) p=${p%/} ;; *) break ;; esac; done
  fact kind "$(kind "$p")"
  fact name "${p##*/}"
  q=${p%/*}
  cd -P -- "${q:-/}" 2>/dev/null || exit 0
fi
fact directory "$PWD"
[ -w . ] && [ -x . ] && fact writable 1
fact leftovers "$(cd -- "$PWD/$n" 2>/dev/null; echo .podcp-*) $(echo .podcp-*)"
exit 0
"""


def probe_source(path: bytes) -> str:
    """Say what stands at ``path`` and where; a final ``/``, ``.`` or ``..`` is resolved."""
    return _with_path(path) + _PROBE + _PROBE_SOURCE


def probe_target(path: bytes, name: bytes) -> str:
    """Say what stands at ``path``, and at ``path/name`` where it is a directory."""
    return _with_path(path) + f"n={quote(name)}\n" + _PROBE + _PROBE_TARGET


def _with_path(path: bytes) -> str:
    return f"p={quote(path)}\ncase $p in /*) ;; *) p=${{PWD%/}}/$p ;; esac\n"


# --- the source ----------------------------------------------------------------------------

_SEND = (
    _HEAD
    + r"""exec 3<&0
cd -P -- "$directory" || exit 1
pid= watcher=
trap '[ -z "$pid$watcher" ] || kill -9 $pid $watcher; exit 143' TERM
watch() {
  ( read -r release <&3 || { kill $$; sleep 1; kill -9 $$; } ) >/dev/null 2>&1 &
  watcher=$!
}
"""
)

_SEND_ALL = r"""watch
tar cf - --numeric-owner -- "$top" </dev/null 3<&- &
pid=$!
"""

# What begins the stream is raw: the relay knows how long it is, and what it is.
_SEND_REST = r"""
tail -c +"$from" -- "$file" </dev/null 3<&- | head -c "$size" 3<&- &
pid=$!
wait "$pid"
"""

_SEND_NAMES = r"""
eval "set -- $odd"
printf %s "$names" | tar cf - --numeric-owner --no-recursion $unquoted -T - "$@" 3<&- &
pid=$!
"""

_TRAILER = r"""wait "$pid"
rc=$?
pid=
printf '\npodcp-%s %d\n' "$nonce" "$rc"
wait "$watcher"
exit "$rc"
"""


@dataclass(frozen=True, slots=True)
class Rest:
    """The end of a file, which a source sends raw in front of its archive.

    :ivar start: bytes that are not sent.
    :ivar size: bytes that are.
    """

    name: bytes
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class Some:
    """What of a source is sent, where not all of it is.

    :ivar rest: what begins the stream, raw.
    :ivar names: length of the list of names that comes on stdin, a line each; 0: no archive
        follows ``rest``; None: all that there is is archived.
    :ivar odd: further names, which cannot be in a list since they hold a newline.
    """

    rest: Rest | None
    names: int | None
    odd: tuple[bytes, ...] = ()


def send(source: SourceFacts, nonce: str, some: Some | None = None, *, gnu: bool = False) -> str:
    """Write the source's archive to stdout, then the trailer, then wait for a line on stdin.

    Held open until that line, the session cannot end while bytes are still on their way, which
    is how the API server loses the tail for a slow reader (kubernetes#142376). When stdin ends
    instead, the client is gone: the watcher ends the shell, and the shell its tar, which would
    otherwise stay blocked in a pipe write for ever.

    :param gnu: whether ``tar`` there is GNU tar, which takes backslashes in a list for escapes.
    """
    # Behind "--" a name may begin with "-"; one that begins with "@" means an archive to bsdtar.
    top = b"./" + source.top if source.top.startswith((b"@", b"-")) else source.top
    facts = f"nonce={nonce}\ndirectory={quote(source.directory)}\ntop={quote(top)}"
    if some is None:
        return facts + _SEND + _SEND_ALL + _TRAILER
    steps = _SEND
    if some.names:
        odd = quote(" ".join(map(quote, some.odd)).encode("utf-8", "surrogateescape"))
        facts += f"\nunquoted={'--no-unquote' if gnu else ''}\nodd={odd}"
        steps += f"names=$(head -c {some.names} <&3; echo .)\nnames=${{names%.}}\n"
    steps += "watch\n"
    if some.rest is not None:
        file = quote(b"./" + some.rest.name)
        facts += f"\nfile={file}\nfrom={some.rest.start + 1}\nsize={some.rest.size}"
        steps += _SEND_REST
    if some.names is None:
        steps += _SEND_ALL.removeprefix("watch\n")
    elif some.names:
        steps += _SEND_NAMES
    return facts + steps + _TRAILER


# --- the destination -----------------------------------------------------------------------

# The first line of stdin says how the archive comes. "plain": as it is, until stdin ends.
# "chunked", where stdin cannot be ended (v4): a line with a decimal number of bytes, then those;
# 0 ends the archive. dd reads a chunk to its end before it writes, so when tar is gone what is
# left of stdin begins with a line and no byte of a file is ever taken for one. tar's working
# directory is the staging folder: that is how _WORKERS finds it.
_EXTRACT = r"""
unchunk() {
  while read -r n; do
    case $n in 0|''|*[!0-9]*) return ;; esac
    dd bs="$n" count=1 iflag=fullblock 2>/dev/null || return
  done
}
unpack() { ( cd -- "$stage" && exec tar xpf - $options $owner ); }
extract() {
  read -r feed
  case $feed in
    plain) unpack ;;
    chunked) unchunk | unpack ;;
    *) return 1 ;;
  esac
}
"""

# A directory that exists keeps its own mode and owner; what is new in it comes in by rename.
# Nothing is moved before the whole tree was found to fit. "mv x d/" renames to d/x and never
# follows a link called d/x. A directory that its owner may not write cannot be moved by anybody
# but root, since its ".." changes: it is made writable meanwhile. The times of a directory are
# kept aside, because emptying it changes them. The subshells make the variables local.
_PLACE = r"""
is_directory() { [ -d "$1" ] && [ ! -L "$1" ]; }
exists() { [ -e "$1" ] || [ -L "$1" ]; }
misfit() { printf 'cannot overwrite %s %s with %s\n' "$1" "$2" "$3" >&2; return 1; }
fits() {
  if is_directory "$1"; then
    is_directory "$2" || misfit non-directory "$2" directory || return 1
    for e in "$1"/* "$1"/.[!.]* "$1"/..?*; do
      if exists "$e" && exists "$2/${e##*/}"; then ( fits "$e" "$2/${e##*/}" ) || return 1; fi
    done
  else
    ! is_directory "$2" || misfit directory "$2" non-directory
  fi
}
move() {
  if is_directory "$1" && [ ! -w "$1" ]; then
    chmod u+w "$1" && mv -f -- "$1" "$2/" && chmod u-w "$2/${1##*/}"
  else
    mv -f -- "$1" "$2/"
  fi
}
merge() {
  depth=$((depth + 1))
  touch -r "$1" "$stage/$stage-$depth" || return 1
  [ -w "$1" ] || chmod u+w "$1" || return 1
  for e in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    is_directory "$e" || continue
    if is_directory "$2/${e##*/}"; then
      ( merge "$e" "$2/${e##*/}" ) && rmdir -- "$e" || return 1
    else
      move "$e" "$2" || return 1
    fi
  done
  from=$1 to=$2
  set --
  for e in "$from"/* "$from"/.[!.]* "$from"/..?*; do
    exists "$e" || continue
    set -- "$@" "$e"
    if [ $# = 200 ]; then mv -f -- "$@" "$to/" || return 1; set --; fi
  done
  [ $# = 0 ] || mv -f -- "$@" "$to/" || return 1
  touch -r "$stage/$stage-$depth" "$to" 2>/dev/null || :
}
place() {
  if [ -z "$name" ]; then
    depth=0
    fits "$stage/$top" "$PWD" || return 1
    merge "$stage/$top" . || return 2
  else
    if exists "$name"; then fits "$stage/$top" "$PWD/$name" || return 1; fi
    [ "$top" = "$name" ] || mv -- "$stage/$top" "$stage/$name" && move "$stage/$name" .
  fi
}
"""

_CLEAN = r"""
clean() {
  [ ! -e "$stage" ] || rm -rf -- "$stage" 2>/dev/null || {
    chmod -R u+rwx "$stage"; rm -rf -- "$stage"
  }
}
"""

_RECEIVE = (
    _HEAD
    + r"""unset TAR_OPTIONS
trap '' PIPE HUP
marker=0 placed=1 rc=1
if cd -P -- "$directory" && { [ -d "$stage" ] ||
  ( umask 077; mkdir -- "$stage" && >"$stage/$stage-since" ); }; then
  owner=-o
  if [ "$(id -u)" = 0 ] && chown 1:1 "$stage" && chown 0:0 "$stage"; then owner=; fi 2>/dev/null
  printf '\npodcp-%s ready\n' "$nonce"
  umask 0
  extract
  rc=$?
  umask 022
  if [ -f "$stage/$marker_name" ]; then
    marker=1
    rm -f -- "$stage/$marker_name"
    [ "$rc" != 0 ] || { place; placed=$?; }
  fi
  case $keep in
    always) ;;
    failed) [ "$marker$placed" != 10 ] || clean ;;
    *) clean ;;
  esac
fi
printf '\npodcp-%s %d %d %d\n' "$nonce" "$rc" "$marker" "$placed"
cat >/dev/null
exit "$rc"
"""
)

_GNU_OPTIONS = "--numeric-owner --delay-directory-restore --warning=no-timestamp"


@dataclass(frozen=True, slots=True)
class Staging:
    """Where an archive is unpacked before it comes to stand in its place.

    :ivar digits: of the folder's name; 32 hexadecimal ones.
    :ivar top: the one name at the archive's top.
    :ivar keep: whether what arrived stays there when the archive did not arrive whole.
    :ivar place: whether it is put in place at once; otherwise it waits for :func:`commit`.
    """

    placement: Placement
    digits: str
    top: bytes
    keep: bool = False
    place: bool = True

    @property
    def name(self) -> bytes:
        """The folder's name."""
        return staging_name(self.digits)


def receive(staging: Staging, nonce: str, *, gnu: bool) -> str:
    """Unpack the archive on stdin beside the target, and put it in place if it was whole.

    Whole means that tar ended with 0 and that the marker, the archive's last member, is there:
    tar takes an archive that was cut between two members for complete. Every tar unlinks an old
    file before it writes the new one; staging keeps the old one until the new one is complete.

    :param gnu: whether ``tar`` there is GNU tar, which bsdtar's order of members needs to be
        told about, so that directories keep their times.
    """
    options = _GNU_OPTIONS if gnu else "--numeric-owner"
    place = _PLACE if staging.place else _HOLD
    return (
        f"nonce={nonce}\nmarker_name={quote(staging_name(nonce))}\noptions='{options}'\n"
        f"keep={('failed' if staging.keep else '') if staging.place else 'always'}\n"
        + _staged(staging)
        + place
        + _CLEAN
        + _EXTRACT
        + _RECEIVE
    )


def _staged(staging: Staging) -> str:
    return (
        f"stage={quote(staging.name)}\ndirectory={quote(staging.placement.directory)}\n"
        f"name={quote(staging.placement.name)}\ntop={quote(staging.top)}\n"
    )


_HOLD = """
place() { :; }
"""

_COMMIT = (
    _HEAD
    + r"""trap '' PIPE HUP
cd -P -- "$directory" && [ -d "$stage" ] || exit 1
umask 022
join && place
placed=$?
clean
printf '\npodcp-%s 0 1 %d\n' "$nonce" "$placed"
"""
)


def commit(staging: Staging, nonce: str) -> str:
    """Put in place what was unpacked, and held back, before; say how that ended.

    A file of which the first part came earlier is made whole first (:func:`set_aside`).
    """
    return f"nonce={nonce}\n" + _staged(staging) + _PLACE + _CLEAN + _WHOLE + _JOIN + _COMMIT


_SWEEP = r"""
cd -P -- "$directory" || exit 0
tries=0
while [ -n "$wait" ] && [ -e "$stage" ] && [ "$tries" -lt 20 ]; do
  tries=$((tries + 1))
  sleep 0.1 2>/dev/null || { sleep 1; tries=$((tries + 9)); }
done
[ -z "$busy" ] || [ -z "$(workers)" ] || exit 1
end_workers
clean
[ ! -e "$stage" ]
"""


def sweep(staging: Staging, *, busy: bool = False) -> str:
    """Remove the staging folder of a run that failed; exit 0 when nothing of it is left.

    The run's own shell removes it as soon as its stdin ends, unless it keeps it: then it is
    given two seconds first.

    :param busy: whether to leave it alone while somebody is at work in it.
    """
    return (
        f"wait={'' if staging.keep else '1'}\nbusy={'1' if busy else ''}\n"
        + _staged(staging)
        + _CLEAN
        + _WORKERS
        + _SWEEP
    )


# --- going on after a failure --------------------------------------------------------------
# What an attempt that failed has left in its staging folder is listed, and so is the source: a
# file that has the same size, time, mode and owner at both is whole, since every tar sets the
# time last. At most one is there in part, the one that tar was writing. Its part is set aside,
# the rest comes as a file of its own, and the two are joined at the end.

_WORKERS = r"""
workers() {
  for p in /proc/[0-9]*; do
    case $(readlink "$p/cwd" 2>/dev/null) in
      "$PWD/$stage"|"$PWD/$stage"/*) echo "${p#/proc/}" ;;
    esac
  done
}
end_workers() {
  tries=0
  while w=$(workers) && [ -n "$w" ]; do
    [ "$tries" -lt 20 ] || return 1
    kill -9 $w 2>/dev/null
    tries=$((tries + 1))
    sleep 0.1 2>/dev/null || { sleep 1; tries=$((tries + 9)); }
  done
}
"""

# The digits mark where a line begins, for a name may hold a newline. stat's %f is the type and
# the mode in hexadecimal; owners are numbers.
_LIST = r"""
list() {
  [ -e "./$top" ] || [ -L "./$top" ] || return 0
  find "./$top" -exec stat -c "$nonce %f %s %b %Y %u:%g %h %z %n" {} +
}
listed() { printf '\npodcp-%s listed %d %s\n' "$nonce" "$1" "$2"; }
"""

_JOIN = r"""
join() {
  [ -e "$stage/$stage-part" ] || return 0
  rest=$(cat "$stage/$stage-name"; echo .)
  rest=$stage/${rest%.}
  if [ -e "$rest" ]; then
    shorten "$rest" || return 1
    cat -- "$rest" >>"$stage/$stage-part" || return 1
    chown "$(stat -c %u:%g -- "$rest")" "$stage/$stage-part" 2>/dev/null
    chmod "$(stat -c %a -- "$rest")" "$stage/$stage-part" || return 1
    touch -r "$rest" "$stage/$stage-part" || return 1
  fi
  touch -r "${rest%/*}" "$stage/$stage-name" || return 1
  mv -f -- "$stage/$stage-part" "$rest" || return 1
  touch -r "$stage/$stage-name" "${rest%/*}"
  rm -f -- "$stage/$stage-name"
}
"""

# bsdtar gives a file its full size before it writes it: what has no place on the disk is not
# there yet, nor is the end of the last block (at most 64 KiB).
_SHORTEN = r"""
shorten() {
  stored=$(($(stat -c %b -- "$1") * 512))
  [ "$stored" -lt "$(stat -c %s -- "$1")" ] || return 0
  stored=$((stored - 65536))
  [ "$stored" -gt 0 ] || stored=0
  truncate -s "$stored" "$1"
}
"""

_WHOLE = """
shorten() { :; }
"""

_LIST_STAGED = (
    _HEAD
    + r"""cd -P -- "$directory" && [ -d "$stage" ] || exit 0
if [ -z "$end" ] && [ -n "$(workers)" ]; then echo busy; exit 0; fi
end_workers || exit 1
[ "$(id -u)" = 0 ] || find "$stage" -type d -exec chmod u+rwx {} +
( cd -- "$stage" && rm -f -- .podcp-???????????????????????????????? && list ) 2>/dev/null
rc=$?
part=$(cat "$stage/$stage-name" 2>/dev/null; echo .)
join || exit 1
part=${part%.}
top=${part#./}
[ -z "$top" ] || ( cd -- "$stage" && list )
listed "$rc" "$(id -u) $(stat -c %Y "$stage/$stage-since")"
"""
)


def list_staged(staging: Staging, nonce: str, *, end: bool) -> str:
    """List what is in the staging folder; say our user's id and since when the folder is there.

    A file that was there in part comes a second time, as it is with its rest joined to it.

    :param end: whether to end whoever is still at work there; otherwise ``busy`` is all we say.

    Nothing is said where there is no such folder, or nothing in it.
    """
    told = f"nonce={nonce}\nend={'1' if end else ''}\n"
    return told + _staged(staging) + _WORKERS + _SHORTEN + _JOIN + _LIST + _LIST_STAGED


_LIST_SOURCE = (
    _HEAD
    + r"""cd -P -- "$directory" || exit 1
names=
echo dev | tar cf - -C / --no-recursion -T - >/dev/null 2>&1 && names=names
list 2>/dev/null
listed "$?" "$names"
"""
)


def list_source(source: SourceFacts, nonce: str) -> str:
    """List the source, and say whether its tar reads names from a list (``-T``)."""
    return (
        f"nonce={nonce}\ndirectory={quote(source.directory)}\ntop={quote(source.top)}"
        + _LIST
        + _LIST_SOURCE
    )


def digest_of_prefix(source: SourceFacts, name: bytes, size: int) -> str:
    """Say the SHA-256 of the first ``size`` bytes of the source's file ``name``."""
    return (
        f"directory={quote(source.directory)}\nfile={quote(b'./' + name)}"
        + _HEAD
        + f'cd -P -- "$directory" && head -c {size} -- "$file" | sha256sum\n'
    )


_SET_ASIDE = (
    _HEAD
    + r"""cd -P -- "$directory/$stage" || exit 1
truncate -s "$size" "$file" && mv -- "$file" "$stage-part" || exit 1
printf %s "$file" >"$stage-name"
sha256sum <"$stage-part"
"""
)


def spoil(staging: Staging, names: Iterable[bytes]) -> str:
    """Give staged files another time, so that nobody ever takes them for whole."""
    words = " ".join(quote(b"./" + name) for name in names)
    return _staged(staging) + _HEAD + f'cd -P -- "$directory/$stage" && touch -- {words}\n'


def set_aside(staging: Staging, name: bytes, size: int) -> str:
    """Keep the first ``size`` bytes of the staged file ``name`` as the part to which a rest will
    be joined; say their SHA-256."""
    return f"file={quote(b'./' + name)}\nsize={size}\n" + _staged(staging) + _SET_ASIDE
