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


def staging_name(nonce: str) -> bytes:
    """Name of the staging folder beside the target, and of the marker member inside it."""
    return f".podcp-{nonce}".encode("ascii")


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
tar cf - --numeric-owner -- "$top" </dev/null 3<&- &
tar=$!
watcher=
trap '[ -z "$tar$watcher" ] || kill -9 $tar $watcher; exit 143' TERM
( read -r release <&3 || { kill $$; sleep 1; kill -9 $$; } ) >/dev/null 2>&1 &
watcher=$!
wait "$tar"
rc=$?
tar=
printf '\npodcp-%s %d\n' "$nonce" "$rc"
wait "$watcher"
exit "$rc"
"""
)


def send(source: SourceFacts, nonce: str) -> str:
    """Write the source's archive to stdout, then the trailer, then wait for a line on stdin.

    Held open until that line, the session cannot end while bytes are still on their way, which
    is how the API server loses the tail for a slow reader (kubernetes#142376). When stdin ends
    instead, the client is gone: the watcher ends the shell, and the shell its tar, which would
    otherwise stay blocked in a pipe write for ever.
    """
    # Behind "--" a name may begin with "-"; one that begins with "@" means an archive to bsdtar.
    top = b"./" + source.top if source.top.startswith((b"@", b"-")) else source.top
    return f"nonce={nonce}\ndirectory={quote(source.directory)}\ntop={quote(top)}" + _SEND


# --- the destination -----------------------------------------------------------------------

# The first line of stdin says how the archive comes. "plain": as it is, until stdin ends.
# "chunked", where stdin cannot be ended (v4): a line with a decimal number of bytes, then those;
# 0 ends the archive. dd reads a chunk to its end before it writes, so when tar is gone what is
# left of stdin begins with a line and no byte of a file is ever taken for one.
_EXTRACT = r"""
unchunk() {
  while read -r n; do
    case $n in 0|''|*[!0-9]*) return ;; esac
    dd bs="$n" count=1 iflag=fullblock 2>/dev/null || return
  done
}
unpack() { tar xpf - -C "$stage" $options $owner; }
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
if cd -P -- "$directory" && ( umask 077; mkdir -- "$stage" ); then
  owner=-o
  if [ "$(id -u)" = 0 ] && chown 1:1 "$stage" && chown 0:0 "$stage"; then owner=; fi 2>/dev/null
  printf '\npodcp-%s ready\n' "$nonce"
  umask 0
  extract
  rc=$?
  umask 022
  if [ -f "$stage/$stage" ]; then
    marker=1
    rm -f -- "$stage/$stage"
    [ "$rc" != 0 ] || { place; placed=$?; }
  fi
  clean
fi
printf '\npodcp-%s %d %d %d\n' "$nonce" "$rc" "$marker" "$placed"
cat >/dev/null
exit "$rc"
"""
)

_GNU_OPTIONS = "--numeric-owner --delay-directory-restore --warning=no-timestamp"


def receive(placement: Placement, top: bytes, nonce: str, *, gnu: bool) -> str:
    """Unpack the archive on stdin beside the target, and put it in place if it was whole.

    Whole means that tar ended with 0 and that the marker, the archive's last member, is there:
    tar takes an archive that was cut between two members for complete. Every tar unlinks an old
    file before it writes the new one; staging keeps the old one until the new one is complete.

    :param top: the one name at the archive's top.
    :param gnu: whether ``tar`` there is GNU tar, which bsdtar's order of members needs to be
        told about, so that directories keep their times.
    """
    options = _GNU_OPTIONS if gnu else "--numeric-owner"
    return (
        f"nonce={nonce}\nstage={quote(staging_name(nonce))}\n"
        f"directory={quote(placement.directory)}\nname={quote(placement.name)}\n"
        f"top={quote(top)}\noptions='{options}'\n" + _PLACE + _CLEAN + _EXTRACT + _RECEIVE
    )


_SWEEP = r"""
cd -P -- "$directory" || exit 0
tries=0
while [ -e "$stage" ] && [ "$tries" -lt 20 ]; do
  tries=$((tries + 1))
  sleep 0.1 2>/dev/null || { sleep 1; tries=$((tries + 9)); }
done
clean
[ ! -e "$stage" ]
"""


def sweep(directory: bytes, nonce: str) -> str:
    """Remove the staging folder of a run that failed; exit 0 when nothing of it is left.

    The run's own shell removes it as soon as its stdin ends, so it is given two seconds first.
    """
    return f"stage={quote(staging_name(nonce))}\ndirectory={quote(directory)}" + _CLEAN + _SWEEP
