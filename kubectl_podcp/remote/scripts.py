r"""Every shell line that we run in a container.

In go paths (``bytes``) and a run's nonce (32 hexadecimal digits); out come scripts for
``sh -c``. POSIX sh, with the tools that coreutils, busybox and toybox share; each word that is
not ours goes through :func:`quote`. No I/O, raises nothing.

What a copy is proved by is said on stdout, and always carries the nonce:

==================================  ===========================================================
``podcp-<nonce> <rc>``              source: the trailer, after its tar ended with ``rc``
``podcp-<nonce> rest <size> <t>``   source: the rest of a file came before it; its size and time
                                    now, each at the right of 20 columns
``<nonce> <mode> <u>:<g> …``        source, behind it: a name, and who owns it
``<nonce> <mode> <size> <time> …``  source, behind it: a name whose time is since it began
``podcp-<nonce> ready[ u:g][ folds]``  destination: staging exists, the archive may come; who will
                                    own all of it, where that is whoever unpacks it; and that names
                                    there which differ in case are one
``podcp-<nonce> <rc> <m> <p>``      destination: the acknowledgement. Its tar ended with ``rc``,
                                    the marker was found (``m`` is 1), placing ended with ``p``
                                    (0 done, 1 nothing was changed, 2 a merge stopped half-way);
                                    with :class:`Rules`, then files kept and files backed up
``<nonce> <mode> <size> …``         either: a line of a listing
``podcp-<nonce> listed <rc> <…>``   either: a listing's end
``<nonce> <digest>  <name>``        either: a digest; behind ``many``, a line for each of many files
``podcp-<nonce> answered <rc>``     either: the end of an :func:`answer`
``<nonce> end <rc>``                either: the end of owners, of names that changed, of digests
==================================  ===========================================================

In front of each ``podcp-`` goes a newline, whatever came before it. The nonce reaches the container
only in the script, so nothing that merely passes through can imitate it. Only the digest of a part
has none, which is compared.

Three rules hold everywhere. Descriptors 1 and 2 of the outermost shell stay open, since
containerd closes stdin when both reach their end (containerd#13934). Nothing of a file is ever
written to stderr. The last reader of stdin reads it to its end, since a process that leaves
input behind hangs the session or turns its failure into ``Success``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kubectl_podcp.ignore import Prune
from kubectl_podcp.paths import Placement, SourceFacts

JOINED, SINCE = "9 9 9", "0 0 0"
"""What stands for the time of a file that was joined from its parts: by a listing before, and by
this one. No file has such a time."""

LISTING = 4 * 1024 * 1024
"""Bytes of a listing that are taken; one more says that it is longer. No script may have more to
say than is read: what writes on would stay blocked for ever where its client has gone."""

MOST_WORDS = 48 * 1024
"""Bytes of names, as :func:`words` spells them, that a session is told at once: they are sent
before anything is received."""

CHUNK_BLOCK = 64 * 1024
"""Bytes in a block, by which a chunk is measured where stdin cannot be ended (v4). ``dd`` holds one
in memory."""

SHA256 = ("sha256sum", "busybox sha256sum", "toybox sha256sum", "openssl dgst -sha256 -r")
"""Commands that say the SHA-256 of their input, or of files: digest, space, ``*`` or space, name.
The probe takes the first that is there and knows the digest of nothing."""

PACKERS = {"gzip": "gzip -1", "zstd": "zstd -1qc"}
"""Commands that compress what passes, by the name of the format."""

UNPACKERS = {"gzip": ("gzip -dc", "gunzip -c"), "zstd": ("zstd -dqc",)}
"""Commands that undo it; the probe takes the first that is there and knows the format."""

# What an image may say that changes what cd does, GNU tar, bsdtar, and bash's read (TMOUT: the
# seconds after which it takes a client that says nothing for one that is gone). On macOS bsdtar
# takes a file called ._x for metadata of x, and makes none of that name, unless it is told not to
# (libarchive, archive_read_support_format_tar.c, HAVE_COPYFILE_H). An option that it does not know
# is an error in --options and none in this variable (tar/read.c), where no other tar looks.
# Times are compared as text (listing.py): in local time one hour comes twice.
_HEAD = """
unset CDPATH TAR_OPTIONS TAR_WRITER_OPTIONS TMOUT
export LC_ALL=C TAR_READER_OPTIONS=!mac-ext TZ=UTC0
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
    return f"'\"$(printf '{_octal(match[0].encode('utf-8', 'surrogateescape'))}')\"'"


def _octal(data: bytes) -> str:
    return "".join(f"\\{byte:03o}" for byte in data)


ANSWERED = 64
"""Bytes that :func:`answer` adds to what a script says, at most."""


def answer(script: str, nonce: str) -> str:
    """Return a script that does what ``script`` does, and says behind it that this was all, and how
    it ended: a server that has lost some of it says ``Success``."""
    return f"""(
{script})
rc=$?
printf '\\npodcp-%s answered %d' {nonce} "$rc"
exit "$rc"
"""


def staging_name(digits: str) -> bytes:
    """Name of a staging folder beside its target, and of the marker member inside it.

    :param digits: 32 hexadecimal ones, the folder's or, for the marker, the attempt's.
    """
    return f".podcp-{digits}".encode("ascii")


# --- probes --------------------------------------------------------------------------------
# Facts are printed as key=value, each ended by a NUL, for a path may hold anything else.

_PROBE = (
    _HEAD
    + f"sha256s={quote(':'.join(SHA256).encode())}\n"
    + r"""fact() { printf '%s=%s\0' "$1" "$2"; }
kind() {
  if [ -z "$follow" ] && [ -L "$1" ]; then echo link; elif [ -d "$1" ]; then echo directory
  elif [ -f "$1" ]; then echo file; elif [ -e "$1" ]; then echo other; else echo missing; fi
}
if command -v tar >/dev/null 2>&1; then
  fact tar "$(tar --version 2>&1 </dev/null | { IFS= read -r line; printf %s "$line"; })"
fi
while [ -n "$sha256s" ]; do
  case $(${sha256s%%:*} </dev/null 2>/dev/null) in
    e3b0c44298fc1c149afbf4c8996fb924*) fact sha256 "${sha256s%%:*}"; break ;;
  esac
  case $sha256s in *:*) sha256s=${sha256s#*:} ;; *) sha256s= ;; esac
done
"""
)

_PROBE_SOURCE = r"""
fact kind "$(kind "$p")"
case $p in ?*/) [ ! -f "${p%/}" ] || fact slash 1 ;; esac
case $(kind "$p") in
  file) fact size "$(stat -L -c %s -- "$p" 2>/dev/null)" ;;
  other) { [ -b "$p" ] || [ -c "$p" ] || [ -S "$p" ]; } && fact special 1 ;;
esac
case ${p##*/} in
  ''|.|..) cd -P -- "$p" 2>/dev/null || exit 0; p=$PWD ;;
esac
q=${p%/*}
cd -P -- "${q:-/}" 2>/dev/null || exit 0
fact directory "$PWD"
fact top "${p##*/}"
fact now "$(date +%s 2>/dev/null)"
fact mounts "$(while read -r _ _ _ _ m t; do t=${t##* - }; printf '%s %s\n' "${t%% *}" "$m"
done </proc/self/mountinfo)" 2>/dev/null
@PACKERS
[ -z "$follow" ] || for q in /proc/self /sys/kernel; do
  d=$(stat -c %d "$q") && [ -d "$q" ] && [ "$d" = "$(stat -L -c %d "./${p##*/}")" ] &&
    fact made "${q%/*}"
done 2>/dev/null
exit 0
"""

_PROBE_TARGET = r"""
[ "$(printf x | dd bs=1 count=1 iflag=fullblock 2>/dev/null)" = x ] && fact fullblock 1
if [ -d "$p" ]; then
  fact kind directory
  cd -P -- "$p" 2>/dev/null || exit 0
  fact inner "$(kind "$PWD/$n")"
  [ -w "$PWD/$n/." ] && fact inner_writable 1
else
  while :; do case $p in ?*/) p=${p%/} ;; *) break ;; esac; done
  fact kind "$(kind "$p")"
  fact name "${p##*/}"
  q=${p%/*}
  cd -P -- "${q:-/}" 2>/dev/null || exit 0
fi
fact directory "$PWD"
[ -w . ] && fact writable 1
fact umask "$(umask)"
@UNPACKERS
fact leftovers "$(cd -- "$PWD/$n" 2>/dev/null; echo .podcp-*) $(echo .podcp-*)"
fact mounts "$(while read -r _ _ _ _ m _; do printf '%s\n' "$m"; done </proc/self/mountinfo)" \
  2>/dev/null
fact uids "$(cat /proc/self/uid_map 2>/dev/null)"
fact gids "$(cat /proc/self/gid_map 2>/dev/null)"
exit 0
"""


# A command that compresses is known by how the format begins, one that undoes it by two letters.
_PACKER = """[ -z "$({packer} </dev/null 2>/dev/null | head -c 2)" ] || fact packs:{name} 1
"""
_UNPACKER = """[ "$(printf '{packed}' | {unpacker} 2>/dev/null)" != ok ] ||
  fact unpacks:{name} '{unpacker}'
"""
_PACKED = {
    "gzip": bytes.fromhex("1f8b0800000000000203cbcf060047dddc7902000000"),
    "zstd": bytes.fromhex("28b52ffd0448110000 6f6b f95c1416"),
}
"""The two letters, compressed."""


def probe_source(path: bytes, *, follow: bool = False, packers: bool = False) -> str:
    """Say what stands at ``path`` and where; a final ``/``, ``.`` or ``..`` is resolved.

    :param follow: whether a symbolic link there is what it leads to.
    :param packers: whether to say which of :data:`PACKERS` are there.
    """
    told = f"follow={'-L' if follow else ''}\n"
    asked = (_PACKER.format(name=name, packer=each) for name, each in PACKERS.items())
    steps = _PROBE_SOURCE.replace("@PACKERS\n", "".join(asked) if packers else "")
    return told + _with_path(path) + _PROBE + steps


def probe_target(path: bytes, name: bytes, *, unpackers: bool = False) -> str:
    """Say what stands at ``path``, and at ``path/name`` where it is a directory.

    :param unpackers: whether to say which of :data:`UNPACKERS` are there.
    """
    asked = (
        _UNPACKER.format(name=name, packed=_octal(_PACKED[name]), unpacker=each)
        for name, them in UNPACKERS.items()
        for each in reversed(them)  # of two the later line counts
    )
    steps = _PROBE_TARGET.replace("@UNPACKERS\n", "".join(asked) if unpackers else "")
    return _with_path(path) + f"n={quote(name)}\nfollow=\n" + _PROBE + steps


# A path is absolute, or begins at the home folder, or at the working directory. The home folder is
# $HOME, else the user's in /etc/passwd, else the root, as container runtimes have it. It is entered
# ("/."), so that it may be a link, and so that nothing ever comes to stand in its place.
_PATH = r"""
case $p in
  '~'|'~/'*)
    if [ -z "$HOME" ] && u=$(id -u); then
      while IFS=: read -r _ _ uid _ _ home _; do
        [ "$uid" != "$u" ] || { HOME=$home; break; }
      done </etc/passwd
    fi 2>/dev/null
    p=${p#?}
    while :; do case $p in /*) p=${p#/} ;; *) break ;; esac; done
    p=${HOME%/}/${p:-.}
    ;;
  /*) ;;
  *) p=${PWD%/}/$p ;;
esac
"""


def _with_path(path: bytes) -> str:
    return f"p={quote(path)}" + _PATH


# --- several sources -----------------------------------------------------------------------

_EXPAND = r"""
if ! cd -- "$p" 2>/dev/null; then
  set --
elif [ -e "./$literal" ] || [ -L "./$literal" ]; then
  set -- "./$literal"
else
  set -- @PATTERN
fi
{
  for f; do
    [ ! -e "$f" ] && [ ! -L "$f" ] || printf '%s\0' "${f#./}"
  done
  printf 'podcp-%s end' "$nonce"
} | head -c @MOST
""".replace("@MOST", str(LISTING))

_GLOB_WORDS = re.compile(rb"[-A-Za-z0-9_.,/:=@%+^!*?\[\]]+")


def expand(directory: bytes, pattern: bytes, nonce: str) -> str:
    """Say what ``pattern`` stands for in ``directory``: names, each ended by a NUL, and the end.

    A name that is exactly this is meant before any other. As for any sh, a name that begins with a
    dot is none that a wildcard stands for. Nothing but wildcards is left to the shell.
    """
    word = quote(pattern[:0])
    at = 0
    for plain in _GLOB_WORDS.finditer(pattern):
        word += quote(pattern[at : plain.start()]) + plain[0].decode("ascii")
        at = plain.end()
    word += quote(pattern[at:])
    told = f"nonce={nonce}\nliteral={quote(pattern)}\n"
    return told + _with_path(directory) + _HEAD + _EXPAND.replace("@PATTERN", f"./{word}")


def resolve(path: bytes) -> str:
    """Say what ``path`` leads to, where it is a symbolic link."""
    return _with_path(path) + 'readlink -f -- "$p"\n'


# What GNU tar writes and reads at once, in blocks of 512 bytes: 32 KiB, which is what a node reads
# of a pipe. tar's own 10 KiB make three messages of that, each of which costs the server, and us.
_RECORDS = "--blocking-factor=64"

UNQUOTED = " --no-unquote"
"""Keeps GNU tar from taking a backslash in a name that it is given for an escape."""

# --- the source ----------------------------------------------------------------------------

# The trap may run between "&" and whatever comes next, so it asks for "$!" itself; "busy" says
# whether that is still a child of ours.
_SEND = (
    _HEAD
    + r"""exec 3<&0
cd -P -- "$directory" || exit 1
busy= watcher=
trap '[ -z "$busy$watcher" ] || kill -9 ${busy:+$!} $watcher; exit 143' TERM
watch() {
  ( read -r release <&3 || { kill $$; sleep 1; kill -9 $$; }
    [ "$release" != owners ] ) >/dev/null 2>&1 &
  watcher=$!
}
"""
)

_READ_ALL = 'tar cf - --numeric-owner -- "$top" </dev/null 3<&-'

_REST_BLOCK = 1024 * 1024

# What begins the stream is raw: the relay knows how long it is, and what it is. dd goes at once to
# the block where it begins. busybox' tail knows no numbers above 4 GiB, and like toybox' it reads
# all that comes before; but not every toybox has a dd.
_READ_REST = """{
if command -v dd >/dev/null; then
  dd bs=@BLOCK skip="$skip" if="$file" 2>/dev/null | tail -c +"$from"
else
  tail -c +"$((skip * @BLOCK + from))" -- "$file"
fi
} </dev/null 3<&- | head -c "$size" 3<&-""".replace("@BLOCK", str(_REST_BLOCK))

_READ_NAMES = (
    'printf %s "$names" | tar cf - --numeric-owner --no-recursion ${names:+-T -} "$@" 3<&-'
)

# It may have shrunk, and no pipe says so: then this line does not stand where it should. And it may
# have been written to, of which tar says nothing since it reads it no more.
_REST_READ = (
    """printf '\\npodcp-%s rest %20s %20s\\n' "$nonce" """
    "$(stat -L -c '%s %Y' -- \"$file\" 2>/dev/null)\n"
)

_BUSY = """busy=1
{} &
wait "$!"
rc=$?
busy=
"""

_TRAILER = r"""printf '\npodcp-%s %d\n' "$nonce" "$rc"
wait "$watcher"
"""

# The trailer is compressed with what it is about, so that it counts when that was found whole.
_PACKED_STREAM = r"""busy=1
{
@READ
printf '\npodcp-%s %d\n' "$nonce" "$?"
} 3<&- | @PACKER 3<&- &
wait "$!"
busy= rc=0
wait "$watcher"
"""

# What reads a disk may write nothing for minutes, and would not hear that nobody listens any more:
# so the shell ends all that it, and what it started, has started. First what writes to stdout:
# there nothing more is to come while the others are looked for. Nor is the watcher to end us then.
_OFFSPRING = r"""
offspring() {
  all=" $$ " more=1
  while [ "$more" ]; do
    more=
    for p in /proc/[0-9]*; do
      p=${p#/proc/}
      case $all in *" $p "*) continue ;; esac
      while read -r key value; do
        case $key in
          PPid:) case $all in *" $value "*) all="$all$p "; more=1 ;; esac; break ;;
        esac
      done <"/proc/$p/status"
    done 2>/dev/null
  done
  echo "${all# $$ }"
}
trap '{
  kill -9 ${busy:+$!}
  kill -STOP $watcher
  kill -9 $watcher $(offspring)
} 2>/dev/null; exit 143' TERM
"""

_ASKED = r"""watch
busy=1
{
@FIND
  printf '%s end %d\n' "$nonce" "$?"
} 3<&- 2>/dev/null | cat 3<&- &
wait "$!"
busy=
wait "$watcher"
"""

# Some minutes too many are looked at: whoever listens knows to the second when the copy began. Not
# -newer, which wants a file of that time, and which busybox compares by whole seconds.
_CHANGED = _ASKED.replace(
    "@FIND",
    r"""  minutes=$((($(date +%s) - began) / 60 + 2))
  find "./$top" \( -type f -o -type d \) -mmin "-$minutes" \
    -exec stat -c "$nonce %f %s %Y %n" {} +""",
)

# Of some hundreds of names all are said where one has an owner of eight digits: whoever listens
# knows which are too high, and which are sent. busybox' find knows no owners above a number. It
# ends with 1 where a directory is gone by now. An empty record each time says that it goes on, and
# that it could ask at all: so there is one where the top is gone.
_OWNERS = """if [ "$owners" = 1 ]; then
@ASKED
fi
""".replace(
    "@ASKED\n",
    _ASKED.replace(
        "@FIND",
        """  stat -c %u . >/dev/null && {
    find "./$top" -exec sh -c "$high" "$nonce" {} + || [ "$?" = 1 ]
  } && { [ -e "./$top" ] || [ -L "./$top" ] || printf '%s \\n' "$nonce"; }""",
    ),
)
_HIGH = r"""
case $(stat -c %u:%g "$@") in
  *[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]*) stat -c "$0 %f %u:%g %n" "$@" ;;
esac
printf '%s \n' "$0"
"""

OWNERS = b"owners\n"
"""The line that asks the source who owns what it has sent."""


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
    :ivar names: length of the list of names that comes on stdin, a line each; None: all that
        there is is archived.
    :ivar odd: further names, which cannot be in a list since they hold a newline. Without any
        name, no archive follows ``rest``.
    """

    rest: Rest | None
    names: int | None
    odd: tuple[bytes, ...] = ()


def send(
    source: SourceFacts,
    nonce: str,
    some: Some | None = None,
    *,
    gnu: bool = False,
    follow: bool = False,
    apart: bool = False,
    fractions: bool = False,
    xattrs: bool = False,
    holes: bool = False,
    packed: str = "",
    owners: bool = False,
) -> str:
    """Write the source's archive to stdout, then the trailer, then wait for a line on stdin.

    Held open until that line, the session cannot end while bytes are still on their way, which
    is how the API server loses the tail for a slow reader (kubernetes#142376). When stdin ends
    instead, the client is gone: the watcher ends the shell, and the shell its tar, which would
    otherwise stay blocked in a pipe write for ever.

    Where tar says nothing of files that change while it reads them, the first line on stdin lets
    the shell say which files and directories have a time since it began, or a little before, and a
    second one lets it end.

    Where tar says high owners wrong, a first line on stdin that is :data:`OWNERS` lets the shell
    say before that which names have such; another line lets it go on.

    :param gnu: whether ``tar`` there is GNU tar, which takes backslashes in names for escapes.
    :param follow: whether symbolic links are archived as what they lead to.
    :param apart: whether each name of a file is archived as a file of its own; GNU tar alone can.
    :param fractions: whether times have fractions: in pax format, of GNU tar and bsdtar.
    :param xattrs: whether extended attributes are archived, by GNU tar and bsdtar.
    :param holes: whether GNU tar says where files have holes; bsdtar does so unasked.
    :param packed: one of :data:`PACKERS`, which compresses archive and trailer; empty: none does.
    :param owners: whether it may be asked for high owners; not of GNU tar.
    """
    top = operand(source.top)
    facts = f"nonce={nonce}\ndirectory={quote(source.directory)}\ntop={quote(top)}"
    more = f" {_RECORDS}{UNQUOTED}" if gnu else ""
    more += (" -h" if follow else "") + (" --hard-dereference" if apart else "")
    if fractions or xattrs:  # other times would be records of which nothing goes on
        more += " --format=pax" + (" --pax-option=delete=atime,delete=ctime" if gnu else "")
    if holes and gnu:
        more += " --sparse"
    if xattrs and gnu:  # bsdtar does so unasked
        more += " --xattrs --xattrs-include='user.*'"
    began, asked = ("", "") if gnu else ("began=$(date +%s)\n", _asked(owners, follow))
    told, steps, read = _reads(some, "{}\n" if packed else _BUSY)
    read = read.replace("--numeric-owner", "--numeric-owner" + more)
    if packed:
        read = _PACKED_STREAM.replace("@READ\n", read).replace("@PACKER", PACKERS[packed])
    else:
        read += _TRAILER
    return facts + told + "\n" + _flat(_SEND + began + steps + read + asked + 'exit "$rc"\n')


def _asked(owners: bool, follow: bool) -> str:
    """Return what a source does that is asked for more than its archive."""
    find = _following if follow else str
    if not owners:
        return _OFFSPRING + find(_CHANGED)
    # The last command has waited for the watcher, which says what line it has heard.
    told = f"owners=$?\nhigh={quote(find(_HIGH).encode())}"
    return told + _OFFSPRING + find(_OWNERS + _CHANGED)


def operand(top: bytes) -> bytes:
    """Return a name as every tar takes it for one, in a list too.

    Behind ``--`` it may begin with ``-``; but ``@`` means an archive to bsdtar, and to GNU tar a
    line of a list is an option where there is a ``-`` behind white space.
    """
    return b"./" + top if top.startswith((b"@", b"-")) or top[:1].isspace() else top


def _reads(some: Some | None, step: str) -> tuple[str, str, str]:
    """Return what is told, what is done first, and the commands whose output is the stream.

    :param step: how one that reads is written, for ``str.format``.
    """
    if some is None:
        return "", "watch\n", step.format(_READ_ALL)
    told = steps = read = ""
    if some.rest is not None:
        file = quote(b"./" + some.rest.name)
        skip, inside = divmod(some.rest.start, _REST_BLOCK)
        told += f"\nfile={file}\nskip={skip}\nfrom={inside + 1}\nsize={some.rest.size}"
        read += step.format(_READ_REST) + _REST_READ
    if some.names is None:
        read += step.format(_READ_ALL)
    elif some.names or some.odd:
        told += f"\nodd={_words(some.odd)}"
        steps += (
            f'names=$(head -c {some.names} <&3; echo .)\nnames=${{names%.}}\neval "set -- $odd"\n'
        )
        read += step.format(_READ_NAMES)
    return told, steps + "watch\n", read


def sample(source: SourceFacts, size: int, *, follow: bool = False) -> str:
    """Say the first ``size`` bytes of the source's archive.

    :param follow: whether symbolic links are archived as what they lead to.
    """
    top = b"./" + source.top
    read = f"tar cf - {'-h ' if follow else ''}{quote(top)} </dev/null 2>/dev/null"
    return f"{_HEAD}cd -P -- {quote(source.directory)} && {{ {read} | head -c {size}; }}\n"


def swallow(size: int) -> str:
    """Answer a line on stdin, another one, and then ``size`` bytes."""
    answer = "read -r line && echo"
    return f"{_HEAD}{answer} && {answer} && head -c {size} >/dev/null && echo\n"


def _words(names: Iterable[bytes]) -> str:
    """Return a word that ``eval`` splits into one for each of ``names``."""
    return quote(" ".join(map(quote, names)).encode("utf-8", "surrogateescape"))


def _following(script: str) -> str:
    """Return ``script`` where ``find`` and ``stat`` follow symbolic links, as tar will."""
    return script.replace("find ", "find -L ").replace("stat -c", "stat -L -c")


# So many names of directories are looked at. stat gets them by xargs, and not from find's -exec:
# so a find that walks in circles is ended as soon as that many have come.
_FOLLOWED = r"""cd -P -- "$directory" || exit 1
{
  [ -z "$target" ] || stat -L -c "$nonce %d:%i " -- "$target"
  { find -L "./$top" -type d -print0 2>&3 | head -c 1048576 |
    xargs -0 stat -L -c "$nonce %d:%i %n"; } 3>&1 2>/dev/null
} | head -c @MOST
""".replace("@MOST", str(LISTING))


def list_followed(source: SourceFacts, nonce: str, target: bytes) -> str:
    """Say device and inode of all directories of a source whose links are followed, and what
    ``find`` says of circles in it.

    :param target: a directory of the same file systems, of which the same is said first; or empty.
    """
    return (
        f"nonce={nonce}\ndirectory={quote(source.directory)}\ntop={quote(source.top)}\n"
        f"target={quote(target)}" + _HEAD + _FOLLOWED
    )


# --- the destination -----------------------------------------------------------------------

# The first line of stdin says how the archive comes. "plain": as it is, until stdin ends.
# "chunked", where stdin cannot be ended (v4): a line with a decimal number of blocks, then those;
# 0 ends the archive. Where there is none, the client was gone before it heard of us, and nobody
# knows of a folder that is new. When tar is gone dd fails, and then nothing of stdin is read as a
# line any more: no byte of a file is ever taken for one. tar's working directory is the staging
# folder: that is how _WORKERS finds it.
_UNCHUNK_BLOCKS = r"""
unchunk() {
  while read -r n; do
    case $n in 0|''|*[!0-9]*) return ;; esac
    dd bs=@BLOCK count="$n" iflag=fullblock 2>/dev/null || return
  done
}
""".replace("@BLOCK", str(CHUNK_BLOCK))
_UNTAR = r"""
unpack() ( cd "$stage" && exec tar xpf - $options $owner )
"""
# busybox' tar ends with 0 where it could not make a directory, a FIFO or a device: it only says so.
# What it says goes to no file, for that would stay empty where the disk is full.
_HEED = r"""
heed() {
  said=$({ tar xpf - "$@" 2>&1; echo " $?"; } | tail -c 65536)
  rc=${said##* }
  said=${said% *}
  [ -z "$said" ] || printf '%s\n' "$said" >&2
  case $rc$said in 0*tar:*) rc=1 ;; esac
  return ${rc:-1}
}
"""
_EXTRACT = r"""
extract() {
  read -r feed
  case $feed in
    plain) unpack ;;
    chunked) unchunk | unpack ;;
    *) [ -z "$new" ] || keep=; return 1 ;;
  esac
}
"""

# The same, compressed: in chunks of any length, for what follows the end would be no zeros to
# whoever undoes it. Its own word counts: tar's end says nothing of a checksum behind the archive.
# What it still writes behind that end must be read, or it fails: toybox' tar does not.
_UNCHUNK = r"""
unchunk() {
  while read -r n; do
    case $n in 0|''|*[!0-9]*) return ;; esac
    dd bs="$n" count=1 iflag=fullblock 2>/dev/null || return
  done
}
"""
_UNPACK = r"""
unpack() {
  rm -f -- "$stage/$stage-sound"
  { @UNPACKER && >"$stage/$stage-sound"; } |
    ( cd "$stage" && tar xpf - $options $owner && cat >/dev/null ) &&
    [ -e "$stage/$stage-sound" ]
}
"""

# As below, for what is no directory: "mv x ./" never follows a link called x.
_PLACE_FILE = r"""
place() {
  if [ -d "$name" ] && [ ! -L "$name" ]; then
    printf 'cannot overwrite directory %s with non-directory %s\n' "$PWD/$name" "$top" >&2
    return 1
  fi
  { [ "$top" = "$name" ] || mv "$stage/$top" "$stage/$name"; } && mv -f "$stage/$name" ./
}
"""

# One file, whose length nobody knew before its end. Behind it comes a line of a known length, which
# says how long it was: that nothing is missing is seen by it, as by the marker of an archive. A
# file that is replaced gives it its mode, and its owner where that can be given. All of it runs in
# the staging folder, where _WORKERS finds it: stdin may be silent for as long as it likes.
_EXTRACT_FILE = (
    _UNCHUNK
    + r"""
size_is() { [ "$(stat -c %s -- "$file")" = "$1" ]; }
extract() (
  umask 022
  file=./$top old=../$name
  cd "$stage" && read -r feed || exit
  case $feed in
    plain) @UNPACKER >"$file" || exit ;;
    chunked) unchunk | @UNPACKER >"$file" || exit ;;
    *) exit 1 ;;
  esac
  { line=$(tail -c @LENGTH -- "$file"); } 2>/dev/null
  case $line in *"podcp-$nonce "*) size=${line##* } ;; *) exit 0 ;; esac
  case $size in ''|*[!0-9]*) exit 0 ;; esac
  size_is "$((size + @LENGTH))" && truncate -s "$size" "$file" && size_is "$size" || exit
  if [ -f "$old" ] && [ ! -L "$old" ]; then
    [ -n "$owner" ] || chown "$(stat -c %u:%g -- "$old")" "$file"
    chmod "$(stat -c %a -- "$old")" "$file" || exit
  fi
  >"$mark"
)
"""
)

# A directory that exists keeps its own mode and owner; what is new in it comes in by rename. That
# of a try whose acknowledgement was lost may stand there since the plan was made.
# Nothing is moved before the whole tree was found to fit, and at the end nothing may be left.
# "mv x d/" renames to d/x and never follows a link called d/x. A directory that its owner may not
# write cannot be moved by anybody but root, since its ".." changes: it is made writable meanwhile.
# The time of a directory is kept aside, because emptying it changes that. A process costs as much
# as a hundred tests, so there are none for a directory of which nothing is moved. Of variables,
# only a function's arguments survive a recursion.
_PLACE = r"""
is_dir() { [ -d "$1" ] && [ ! -L "$1" ]; }
exists() { [ -e "$1" ] || [ -L "$1" ]; }
misfit() {
  printf 'cannot overwrite %s %s with %s %s\n' "$1" "$2" "$3" "${4#"$stage"/}" >&2
  return 1
}
fits() {
  if is_dir "$1"; then
    is_dir "$2" || misfit non-directory "$2" directory "$1" || return
    [ -r "$1" ] && [ -w "$1" ] && [ -x "$1" ] || chmod u+rwx "$1" || return
    for e in "$1"/* "$1"/.[!.]* "$1"/..?*; do
      exists "$e" && exists "$2/${e##*/}" || continue
      fits "$e" "$2/${e##*/}" || return
    done
  else
    leaf "$1" "$2" @SAFE
  fi
}
leaf() { ! is_dir "$2" || misfit directory "$2" non-directory "$1"; }
put() {
  [ -n "$moved" ] || touch -r "$from" "$stage/$stage-time" || return
  moved=1
  land "$@"
}
land() { @LAND; }
move() {
  if is_dir "$1" && [ ! -w "$1" ]; then
    chmod u+w "$1" && put "$1" && chmod u-w "$to/${1##*/}"
  else
    put "$1"
  fi
}
merge() {
  for e in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    is_dir "$e" && is_dir "$2/${e##*/}" || continue
    merge "$e" "$2/${e##*/}" || return
  done
  from=$1 to=$2 moved=
  @SETTLE
  set --
  for e in "$from"/* "$from"/.[!.]* "$from"/..?*; do
    exists "$e" || continue
    if is_dir "$e"; then
      ! is_dir "$to/${e##*/}" || continue
      [ -w "$e" ] || { move "$e" || return; continue; }
    fi
    set -- "$@" "$e"
    if [ $# = 200 ]; then put "$@" || return; set --; fi
  done
  [ $# = 0 ] || put "$@" || return
  [ -z "$moved" ] || from=$stage/$stage-time
  ! [ "$from" -nt "$to" ] && ! [ "$from" -ot "$to" ] || touch -r "$from" "$to" 2>/dev/null || :
}
place() {
  there=${name:+/$name}
  if is_dir ".$there"; then
    fits "$stage/$top" "$PWD$there" || return 1
    merge "$stage/$top" ".$there" || return 2
    left=$(find "$stage/$top" ! -type d) && [ -z "$left" ] || return 2
  else
    from=$stage to=. moved=
    if exists "$name"; then
      fits "$stage/$top" "$PWD/$name" || return 1
      @ONE
    fi
    [ "$top" = "$name" ] || mv "$stage/$top" "$stage/$name" && move "$stage/$name" @UNDO
  fi
}
"""

# What is mounted below the target is another file system: there mv would write a file in its
# place, may fail half-way, and toybox' says 0 then. So what belongs there is unpacked in a folder
# over there first, with umask 0 as before: busybox' tar goes by it where its user is not root. A
# file that is mounted by itself (as /etc/hosts is, in a container) can be replaced by no rename.
# With --partial the folder's name is known, and one of a run that was killed here may be there.
_ACROSS = r"""
leaf() {
  @MAY case $2 in @MOUNTS)
    printf '%s is mounted there by itself, and cannot be replaced\n' "$2" >&2
    return 1 ;;
  esac
  ! is_dir "$2" || misfit directory "$2" non-directory "$1"
}
land() {
  case $PWD/${to#./} in @BELOW) across "$@" ;; *) @LAND ;; esac
}
across() {
  rm -rf -- "$to/$stage"
  ( umask 077; mkdir -- "$to/$stage" ) || return 1
  sent=$PWD/$stage/$stage-sent
  rm -f -- "$sent"
  for e; do shift; set -- "$@" "./${e##*/}"; done
  [ "$(id -u)" = 0 ] && o= || o=-o
  { ( cd -- "$from" && exec tar cf - --numeric-owner@WRITING "$@" ) && >"$sent"; } |
  ( umask 0; cd -- "$to/$stage" && exec tar xpf -@OPTIONS $o ) && [ -e "$sent" ] @SAME|| {
    rm -rf -- "$to/$stage"
    return 1
  }
  ( cd -- "$from" && { rm -rf -- "$@" 2>/dev/null || {
    chmod -R u+rwx "$@"; rm -rf -- "$@"; }; } ) || return 1
  @OVER && rmdir -- "$to/$stage" || {
    rm -rf -- "$to/$stage"
    return 1
  }
}
"""

# With --verify: what was read again is what is staged, and now there is a copy of that. A file for
# which sh says nothing is none that is equal.
_SAME = r"""
each() {
  code=$1
  shift
  ( cd -- "$from" && find "$@" -type f -exec sh -c "$code" "$far" {} + ) | wc -l
}
same() {
  far=$PWD/$to/$stage
  all=$(each 'for f; do echo; done' "$@")
  [ "$all" = "$(each 'for f; do
    a=$(@SHA256 <"$f") && [ "$a" = "$(@SHA256 <"$0/$f")" ] && echo
  done' "$@")" ] || {
    printf 'not all that was verified is the same where it was taken, in %s\n' "$to" >&2
    return 1
  }
}
"""

_REPLACING = {
    " @SAFE": "",
    "@LAND": 'mv -f -- "$@" "$to/"',
    "@SETTLE\n": "",
    "@ONE\n": "",
    " @UNDO": "",
    "@MAY ": "",
    "@OVER": '( cd -- "$to/$stage" && mv -f -- "$@" .. )',
}
"""What :data:`_PLACE` and :data:`_ACROSS` do with what stands there: they replace it."""

# --- with rules for what stands there --------------------------------------------------------
# What is there and may not be replaced stays, and ours is removed from the folder. What may is
# linked under its backup's name first, so that its own name never stands for nothing, and then
# replaced. All that is left should be new: it is moved by "mv -n", which leaves alone what came
# meanwhile (GNU's asks the kernel for that, the others look before they rename); then the rules
# hold for that, too. toybox' "ln -f" leaves a name of its own where both are one file already. A
# symlink is renamed, for not every ln links what it is. "may" is made in Python: it knows names.
_SPARING = {
    "@SAFE": '&& safe "$1" "$2"',
    "@LAND": 'arrive "$to" "$@"',
    "@SETTLE": "settle || return 1",
    "@ONE": """may "$stage/$top" || { spare "$stage/$top"; return; }
      back_up "./$name" || return 1
      over=-f""",
    "@UNDO": """|| {
      [ "$saved" = 0 ] || { exists "./$name" && rm -f -- "$b" || mv -f -- "$b" "./$name"; }
      saved=0
      return 1
    }""",
    "@MAY ": '! may "$1" || ',
    "@OVER &&": """for e; do shift; set -- "$@" "$to/$stage/${e##*/}"; done
  arrive "$to" "$@" &&""",
}

_RULES = r"""
kept=0 saved=0 over=-n numbers=1
clashes() { exists "$1" && ! is_dir "$1" && exists "$2/${1##*/}"; }
named() {
  n=0
  if [ "$backup" != simple ] && [ -n "$numbers" ]; then
    for b in "$1".~[1-9]*~; do
      b=${b#"$1".~}
      b=${b%\~}
      case $b in *[!0-9]*|??????????????????*) continue ;; esac
      [ "$b" -le "$n" ] || n=$b
    done
  fi
  case $backup$n in
    simple0|existing0) b=$1$suffix ;;
    *) b=$1.~$((n + 1))~ ;;
  esac
}
safe() {
  [ -n "$backup" ] && may "$1" || return 0
  is_dir "$2$suffix" || is_dir "$1$suffix" || return 0
  named "$2"
  [ "$b" = "$2$suffix" ] || return 0
  printf 'cannot back up %s: %s is a directory\n' "$2" "$b" >&2
  return 1
}
back_up() {
  [ -n "$backup" ] || return 0
  ! is_dir "$1" || return 1
  named "$1"
  ! exists "$b" || rm -f -- "$b" || return 1
  { [ ! -L "$1" ] && ln -- "$1" "$b"; } 2>/dev/null || mv -f -- "$1" "$b" || return 1
  saved=$((saved + 1))
}
spare() {
  [ -n "$moved" ] || touch -r "$from" "$stage/$stage-time" || return 1
  moved=1
  rm -f -- "$@" && kept=$((kept + $#))
}
settle() {
  set --
  for e in "$from"/* "$from"/.[!.]* "$from"/..?*; do
    clashes "$e" "$to" && ! may "$e" || continue
    set -- "$@" "$e"
    if [ $# = 200 ]; then spare "$@" || return 1; set --; fi
  done
  [ $# = 0 ] || spare "$@" || return 1
  numbers=
  for b in "$to"/*.~[1-9]*~ "$to"/.*.~[1-9]*~; do
    ! exists "$b" || { numbers=1; break; }
  done
  over=-f
  set --
  for e in "$from"/* "$from"/.[!.]* "$from"/..?*; do
    clashes "$e" "$to" && may "$e" || continue
    back_up "$to/${e##*/}" || return 1
    set -- "$@" "$e"
    if [ $# = 200 ]; then put "$@" || return 1; set --; fi
  done
  [ $# = 0 ] || put "$@" || return 1
  over=-n numbers=1
}
arrive() {
  into=$1
  shift
  if [ "$over" = -f ]; then mv -f -- "$@" "$into/"; return; fi
  mv -n -- "$@" "$into/"
  for e; do
    exists "$e" || continue
    clashes "$e" "$into" || return 1
    if may "$e"; then
      back_up "$into/${e##*/}" && mv -f -- "$e" "$into/" || return 1
    else
      rm -f -- "$e" || return 1
      kept=$((kept + 1))
    fi
  done
}
"""

_CLEAN = r"""
clean() {
  rm -rf "$stage" 2>/dev/null || {
    [ -L "$stage" ] || chmod -R u+rwx "$stage"; rm -rf "$stage"
  }
}
"""

# A folder that was there before: with --partial anybody can know its name, and may have made it, or
# a link of that name to somewhere else.
_OURS = r"""
ours() { [ -n "$(find "$stage" -prune -type d -user "$(id -u)" 2>/dev/null)" ]; }
"""

# Whoever puts the folder's contents in place, or removes it, takes it first: of two that rename one
# file, one comes too late. So nothing is moved out of a folder that vanishes meanwhile.
_TAKING = 'mv "$stage/$stage-since" "$stage/$stage-taken"'
_TAKE = """
take() { echo $$ >"$stage/$stage-placing" && @TAKING; }
""".replace("@TAKING", _TAKING)

# Its shell is there yet, and no other has got its number meanwhile: it works in this directory.
_PLACING = r"""
placing() {
  read -r pid <"$stage/$stage-placing" && kill -0 "$pid" || return
  case $(readlink "/proc/$pid/cwd") in ''|"$PWD") ;; *) return 1 ;; esac
} 2>/dev/null
"""

# Root may be one that may not change mode or time of what another owns (without CAP_FOWNER). Who
# gives nothing away leaves the folder its group, which is that of a directory with setgid.
_GIVES_AWAY = r"""
gives_away() { [ "$(id -u)" = 0 ] && chown 1 $stage && {
chmod 700 $stage && chown 0:0 $stage && chmod g-s $stage ||
{ chown 0 $stage; false; }; }; }
"""

# What is of digits and dots alone stands without quotes, for the room that they take.
_RECEIVE = (
    _HEAD
    + _GIVES_AWAY
    + r"""trap '' PIPE HUP
found=0 placed=1 rc=1
if cd -P -- "$directory" && @FOLDER; then
  owner=-o
  ! gives_away 2>/dev/null || owner=
  folds=
  [ ! -e $stage/.PODCP${stage#.podcp}-since ] || folds=' folds'
  printf '\npodcp-%s ready%s\n' $nonce "${owner:+ $(id -u):$(id -g)}$folds"
  umask 0
  extract
  rc=$?
  umask 022
  if [ -f $stage/$mark ]; then
    found=1
    rm -f $stage/$mark
    [ $rc != 0 ] || ! take || { place; placed=$?; }
  fi
  [ -n "$keep" ]@KEPT || clean
fi
printf '\npodcp-%s %d %d %d\n' $nonce $rc $found $placed
cat >/dev/null
exit $rc
"""
)

_KEPT = {
    "": "",
    "always": "",
    "failed": " && [ $found$placed != 10 ]",
    "whole": " && [ $rc$found = 01 ]",
}
"""When what arrived stays, by when it may."""

_NEW = 'new=1 && ( umask 077; mkdir "$stage" && >"$stage/$stage-since" )'
_OLD = """new= && { ours || { echo 'what had arrived is not there any more' >&2; false; }; } &&
rm -f $stage/$stage-joined"""

_OWN = _RECEIVE.replace(_GIVES_AWAY, "gives_away() { return 1; }\n")
"""The same where whoever unpacks is to own all of it."""

_GNU_OPTIONS = f"--numeric-owner {_RECORDS} --delay-directory-restore --warning=no-timestamp"


@dataclass(frozen=True, slots=True)
class Staging:
    """Where an archive is unpacked before it comes to stand in its place.

    :ivar digits: of the folder's name; 32 hexadecimal ones.
    :ivar top: the one name at the archive's top.
    :ivar keep: whether what arrived stays there when the archive did not arrive whole.
    :ivar place: whether it is put in place at once; otherwise it waits for :func:`commit`.
    :ivar again: whether a try before has made it: then it must be there, and be ours.
    :ivar mounts: paths below the target at which something else is mounted.
    :ivar options: what else ``tar`` there is told, whether it reads or writes.
    :ivar writing: what it is told besides where it writes.
    :ivar lax: whether ``tar`` there ends with 0 where it could not make something, and only says
        so, as busybox' does.
    :ivar sha256: one of :data:`SHA256`, by which what was taken to another mount is compared with
        what was staged; empty: it is not.
    """

    placement: Placement
    digits: str
    top: bytes
    keep: bool = False
    place: bool = True
    again: bool = False
    mounts: tuple[bytes, ...] = ()
    options: str = ""
    writing: str = ""
    lax: bool = False
    sha256: str = ""

    @property
    def name(self) -> bytes:
        """The folder's name."""
        return staging_name(self.digits)


def file_end(nonce: str, size: int) -> bytes:
    """Return what follows a file of ``size`` bytes on its way to :func:`receive_file`."""
    return b"\npodcp-%b %20d\n" % (nonce.encode("ascii"), size)


def receive_file(staging: Staging, nonce: str, *, unpacker: str = "") -> str:
    """Write stdin beside the target, as one file, and put it in place if it was whole.

    Whole means that :func:`file_end` came last, and that the file is as long as that says. It says
    what :func:`receive` says.

    :param unpacker: one of :data:`UNPACKERS`, where stdin is compressed.
    """
    extract = _EXTRACT_FILE.replace("@LENGTH", str(len(file_end(nonce, 0))))
    extract = extract.replace("@UNPACKER", unpacker or "cat")
    place = _TAKE + _PLACE_FILE if staging.place else _HOLD
    keep = "" if staging.place else "whole"
    return _received(staging, nonce, keep, place + _CLEAN + extract + _RECEIVE, _NEW)


def receive(
    staging: Staging, nonce: str, *, gnu: bool, owners: bool = True, unpacker: str = ""
) -> str:
    """Unpack the archive on stdin beside the target, and put it in place if it was whole.

    Whole means that tar ended with 0 and that the marker, the archive's last member, is there:
    tar takes an archive that was cut between two members for complete. Every tar unlinks an old
    file before it writes the new one; staging keeps the old one until the new one is complete.

    :param gnu: whether ``tar`` there is GNU tar, which bsdtar's order of members needs to be
        told about, so that directories keep their times.
    :param owners: whether owners are kept where our user may give files away.
    :param unpacker: one of :data:`UNPACKERS`, where stdin is compressed: too much to be placed at
        once, in a URL.
    """
    if unpacker:
        extract = _UNCHUNK + _UNPACK.replace("@UNPACKER", unpacker) + _EXTRACT
    else:
        extract = _UNCHUNK_BLOCKS + _UNTAR + _EXTRACT
    options = (_GNU_OPTIONS if gnu else "--numeric-owner") + staging.options
    place = _TAKE + _place(staging) if staging.place else _HOLD
    if staging.place:
        keep = "failed" if staging.keep else ""
    else:
        keep = "always" if staging.keep else "whole"
    told = f"options='{options}'\n"
    folder = _OURS if staging.again else ""
    steps = _heeding(staging, place + _CLEAN + extract) + folder
    steps += _RECEIVE if owners else _OWN
    return told + _received(staging, nonce, keep, steps, _OLD if staging.again else _NEW)


def _heeding(staging: Staging, script: str) -> str:
    """Return ``script`` as it is where tar says by its exit code whether it could do it all."""
    if not staging.lax or "tar xpf -" not in script:
        return script
    return _HEED + re.sub(r"(exec )?tar xpf -", "heed", script)


def _received(staging: Staging, nonce: str, keep: str, steps: str, folder: str) -> str:
    """Return ``steps``, the last of which are :data:`_RECEIVE`.

    :param keep: one of :data:`_KEPT`.
    :param folder: how the shell gets its folder.
    """
    told = f"nonce={nonce}\nmark={quote(staging_name(nonce))}\nkeep={keep and 1}\n"
    steps = steps.replace("@FOLDER", folder).replace("@KEPT", _KEPT[keep])
    return told + _staged(staging) + _flat(steps)


def _place(staging: Staging, how: dict[str, str] = _REPLACING) -> str:
    same = _SAME.replace("@SHA256", staging.sha256) if staging.sha256 else ""
    template = _PLACE + (same + _ACROSS if staging.mounts else "")
    template = template.replace("@SAME", '&& same "$@" ' if same else "")
    for word, meaning in how.items():
        template = template.replace(word, meaning)
    if not staging.mounts:
        return template
    root = b"/" if staging.placement.directory == b"/" else b""  # then PWD ends with a slash
    mounts = staging.mounts
    outermost = [each for each in mounts if not any(each.startswith(m + b"/") for m in mounts)]
    exactly = "|".join(quote(root + mount) for mount in mounts)
    below = "|".join(f"{quote(root + mount)}|{quote(root + mount)}/*" for mount in outermost)
    writing = staging.options + staging.writing
    template = template.replace("@WRITING", writing).replace("@OPTIONS", staging.options)
    return template.replace("@MOUNTS", exactly).replace("@BELOW", below)


_PLAIN_QUOTED = re.compile(r'"(\$stage(?:/\$stage(?:-[a-z]+)?)?)"')


def _flat(script: str) -> str:
    """Return ``script``, in which no text has several lines, without its indents and empty lines,
    and without quotes around what is of digits, dots and letters alone: in the URL each of them is
    three bytes."""
    return _PLAIN_QUOTED.sub(r"\1", re.sub(r"(?m)^\s+", "", script))


def _staged(staging: Staging) -> str:
    return (
        f"stage={quote(staging.name)}\ndirectory={quote(staging.placement.directory)}\n"
        f"name={quote(staging.placement.name)}\ntop={quote(staging.top)}\n"
    )


_HOLD = """
take() { :; }
place() { :; }
"""

_COMMIT = (
    _HEAD
    + r"""trap '' PIPE HUP
cd -P -- "$directory" && [ -d "$stage" ] || exit 1
umask 022
{ take && join && place; } 2>&1
placed=$?
clean
printf '\npodcp-%s 0 1 %d%s\n' "$nonce" "$placed" "${kept+ $kept $saved}"
"""
)


def commit(staging: Staging, nonce: str, size: int = 0) -> str:
    """Put in place what was unpacked, and held back, before; say why not, and how that ended.

    A file of which the first part came earlier is made whole first (:func:`set_aside`).

    :param size: length of the :func:`rules` that stdin has; without any, what is there is replaced.
    """
    place = _heeding(staging, _place(staging))
    if size:
        place = f'eval "$(head -c {size})"\n[ "$ruled" = "$nonce" ] || exit 1\n'
    steps = "unset kept\n" + place + _CLEAN + _TAKE + _WHOLE + _JOIN + _COMMIT
    return f"nonce={nonce}\n" + _staged(staging) + _flat(steps)


@dataclass(frozen=True, slots=True)
class Rules:
    """What becomes of files that stand where a copy puts its own.

    :ivar backup: how one that is replaced is kept: ``simple``, ``numbered``, ``existing`` (which is
        ``numbered`` for a file that has such backups, and ``simple`` for any other); empty: it is
        not.
    :ivar suffix: which a simple backup adds to the name.
    :ivar only: names in the source that alone may replace what is there; None: all may.
    """

    backup: str = ""
    suffix: bytes = b"~"
    only: tuple[bytes, ...] | None = None


def rules(staging: Staging, how: Rules) -> bytes:
    """Return what :func:`commit` reads from stdin: it would be too long for a URL."""
    may = ":"
    if how.only is not None:
        names = "|".join(map(quote, how.only))
        may = f'case ${{1#"$stage"/}} in {names}) ;; *) return 1 ;; esac' if names else "return 1"
    told = f"backup={how.backup}\nsuffix={quote(how.suffix)}\nmay() {{ {may}; }}\n"
    return (
        told + _RULES + _heeding(staging, _place(staging, _SPARING)) + "ruled=$nonce\n"
    ).encode()


# Where no process is seen (macOS), nobody is at work in a folder that is a day old.
_SWEEP = r"""
seen() { [ -e "/proc/$$/stat" ] || [ -n "$(find "$stage" -prune -mtime +0)" ]; }
cd -P -- "$directory" || exit 0
[ -z "$busy" ] || { seen && [ -z "$(workers)" ]; } || exit 1
tries=0 ours=
free() { [ -n "$ours" ] || { @TAKING && ours=1; } || ! placing; } 2>/dev/null
while [ -e "$stage" ] && [ "$tries" -lt 20 ] && { [ -n "$wait" ] || ! free; }; do
  tries=$((tries + 1))
  sleep 0.1 2>/dev/null || { sleep 1; tries=$((tries + 9)); }
done
free || exit 1
end_workers
clean
[ ! -e "$stage" ] && [ ! -L "$stage" ]
""".replace("@TAKING", _TAKING)


def sweep(staging: Staging, *, busy: bool = False) -> str:
    """Remove the staging folder of a run that failed; exit 0 when nothing of it is left.

    The run's own shell removes it as soon as its stdin ends, unless it keeps it: then it is
    given two seconds first. A shell that is putting it in place is left alone: with what is still
    to be moved gone, a merge would stop half-way. One that comes later moves nothing.

    :param busy: whether to leave it alone while somebody is at work in it.
    """
    return (
        f"wait={'' if staging.keep else '1'}\nbusy={'1' if busy else ''}\n"
        + _staged(staging)
        + _CLEAN
        + _PLACING
        + _WORKERS
        + _SWEEP
    )


_PROGRESS = (
    _HEAD
    + r"""cd -P -- "$directory" && [ -d "$stage" ] || exit 0
[ ! -e "$stage/$stage-taken" ] || echo placing
{
  find "$stage" | wc -l
  du -sk "$stage"
  for w in $(workers); do cat "/proc/$w/schedstat" "/proc/$w/stat"; done
} 2>/dev/null
exit 0
"""
)


def progress(staging: Staging) -> str:
    """Say how many names there are in the staging folder, how much they take on the disk, and what
    only changes while those run who are at work there: at its end a tar sets times and modes that
    nothing else shows. Or ``placing``, when all is there and being put in place."""
    return _staged(staging) + _WORKERS + _PROGRESS


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
z=%z
list() {
  [ -e "./$top" ] || [ -L "./$top" ] || return 0
  find_stat "./$top"
}
find_stat() { find "$@" -exec stat -c "$nonce %f %s %b %Y %u:%g %h $z %n" {} +; }
listed() { printf '\npodcp-%s listed %d %s\n' "$nonce" "$1" "$2"; }
up_to() { head -c @MOST; }
""".replace("@MOST", str(LISTING + 1))

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
  mv -f "$stage/$stage-part" "$rest" || return 1
  touch -r "$stage/$stage-name" "${rest%/*}"
  mv -f "$stage/$stage-name" "$stage/$stage-joined"
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

# Symlinks go: they are sent again, and the next archive might write through them, which nobody
# would notice who looks at that archive alone. toybox cannot replace one that leads out either.
# Directories made in one that is setgid are so too, until tar has set their modes; where it finds
# them made, GNU tar leaves that bit as it is.
# What changed last may have been written by a tar that was ended: which that is must be seen again
# where all this is asked again. So a file that was joined since comes first, with the time
# @JOINED, and one that is joined now comes once more, with @SINCE.
_LIST_STAGED = (
    _HEAD
    + _OURS
    + r"""cd -P -- "$directory" || exit 0
ours || { [ ! -e "$stage" ] && [ ! -L "$stage" ] || echo foreign; exit 0; }
if [ -z "$end" ] && { placing || [ -n "$(workers)" ]; }; then echo busy; exit 0; fi
end_workers || exit 1
joined() (
  [ -e "$stage-joined" ] || exit 0
  top=$(cat "$stage-joined"; echo .)
  top=${top#./} z=$1
  top=${top%.}
  list
)
{
[ "$(id -u)" = 0 ] || find "$stage" -type d -exec chmod u+rwx {} +
[ ! -d "$stage/$top" ] || find "$stage/$top" -type d -exec chmod g-s {} +
( cd "$stage" && rm -f -- .podcp-???????????????????????????????? &&
  { [ ! -e "$stage-taken" ] || mv "$stage-taken" "$stage-since"; } &&
  find . -type l -exec rm -f {} + && joined '@JOINED' && list ) 2>/dev/null
rc=$?
part=
[ ! -e "$stage/$stage-part" ] || part=1
join || exit 1
[ -z "$part" ] || ( cd "$stage" && joined '@SINCE' )
listed "$rc" "$(id -u) $(stat -c %Y "$stage/$stage-since")"
} | up_to
"""
)
_LIST_STAGED = _LIST_STAGED.replace("@JOINED", JOINED).replace("@SINCE", SINCE)


def list_staged(staging: Staging, nonce: str, *, end: bool) -> str:
    """List what is in the staging folder, and remove its symlinks; say our user's id and since
    when the folder is there.

    A file that was there in part comes a second time, as it is with its rest joined to it, and
    :data:`SINCE` for its time; one that was joined by a listing before comes first, with
    :data:`JOINED`, until :func:`spoil` or another archive comes.

    :param end: whether to end whoever is still at work there; otherwise ``busy`` is all we say.

    ``foreign`` is all we say where something has the folder's name that is none of ours. Nothing is
    said where there is nothing, or nothing in it.
    """
    told = f"nonce={nonce}\nend={'1' if end else ''}\n"
    steps = _PLACING + _WORKERS + _SHORTEN + _JOIN + _LIST + _LIST_STAGED
    return told + _staged(staging) + steps


_LIST_SOURCE = (
    _HEAD
    + r"""cd -P -- "$directory" || exit 1
names=
echo dev | tar cf - -C / --no-recursion -T - >/dev/null 2>&1 && names=names
{ @LIST 2>/dev/null; listed "$?" "$names"; } | up_to
"""
)

# What is missing is left out, for find would take it for an error. A name may be a symlink to
# nowhere.
_LIST_NAMED = r"""
named() {
  for f; do
    shift
    [ ! -e "$f" ] && [ ! -L "$f" ] || set -- "$@" "$f"
  done
  [ $# = 0 ] || find_stat "$@"
}
eval "set -- $(head -c "$size")"
"""

MOST_PRUNES = 1024
"""Bytes of what ``find`` is told not to look at; in a URL, each may be three."""


def list_source(
    source: SourceFacts, nonce: str, prunes: Iterable[Prune] = (), *, follow: bool = False
) -> str:
    """List the source; say ``names`` where its tar reads names from a list (``-T``).

    :param prunes: what may be left out, with all that is in it.
    :param follow: whether symbolic links are what they lead to.
    """
    return (
        f"nonce={nonce}\ndirectory={quote(source.directory)}\ntop={quote(source.top)}"
        + _pruned(source, prunes, follow)
        + _LIST_SOURCE.replace("@LIST", "list")
    )


def list_named(
    source: SourceFacts,
    nonce: str,
    size: int,
    prunes: Iterable[Prune] = (),
    *,
    deep: bool,
    follow: bool = False,
) -> str:
    """List those names in the source that stdin has; otherwise like :func:`list_source`.

    :param size: length of what :func:`words` makes of the names.
    :param deep: whether what is in directories is listed, too.
    :param follow: whether symbolic links are what they lead to.
    """
    if deep:
        listed = _pruned(source, prunes, follow)
    else:
        listed = _list(follow).replace('"$@" -exec', '"$@" -prune -exec')
    return (
        f"nonce={nonce}\ndirectory={quote(source.directory)}\nsize={size}"
        + listed
        + _LIST_NAMED
        + _LIST_SOURCE.replace("@LIST", 'named "$@"')
    )


def _list(follow: bool) -> str:
    """Return :data:`_LIST`, where symbolic links may be what they lead to."""
    return _following(_LIST) if follow else _LIST


def _pruned(source: SourceFacts, prunes: Iterable[Prune], follow: bool) -> str:
    """Return :func:`_list` where ``find`` looks at nothing of ``prunes``."""
    top = b"./" + re.sub(rb"([\\*?\[])", rb"\\\1", source.top)
    tests, room = list[str](), MOST_PRUNES
    for prune in prunes:
        pattern = top + b"/" + prune.pattern if prune.test == "-path" else prune.pattern
        kind = "-type d " if prune.directories_only else ""
        test = f"{kind}{prune.test} {quote(pattern)}"
        room -= len(test)
        if room >= 0:
            tests.append(test)
    if not tests:
        return _list(follow)
    but = f"! -path {quote(top)} \\( {' -o '.join(tests)} \\) -prune -o"
    return _list(follow).replace('"$@" -exec', f'"$@" {but} -exec')


_LIST_TARGET = (
    _HEAD
    + _GIVES_AWAY
    + r"""cd -P -- "$directory" || exit 1
gives=
{ mkdir -m 700 "$stage" && gives_away && gives=gives; rmdir "$stage"; } 2>/dev/null
top=${name:-.}
{ list 2>/dev/null; listed "$?" "$gives"; } | up_to
"""
)


def list_target(staging: Staging, nonce: str) -> str:
    """List what stands where the copy will; say ``gives`` where our user can give files away,
    which nothing but trying tells."""
    return f"nonce={nonce}\n" + _staged(staging) + _LIST + _LIST_TARGET


_SET_ASIDE = (
    _HEAD
    + r"""cd -P -- "$directory/$stage" || exit 1
part=$stage-part
printf %s "$file" >"$stage-name"
mv -- "$file" "$part" 2>/dev/null || : >"$part"
truncate -s "$size" "$part" || exit 1
directory=.
"""
)


def spoil(staging: Staging, size: int) -> str:
    """Give those staged files another time that stdin names, so that nobody ever takes them for
    whole.

    :param size: length of what :func:`words` makes of the names.
    """
    touch = f'words=$(head -c {size})\ncd -P -- "$directory/$stage" && eval "touch -- $words" &&\n'
    return _staged(staging) + _HEAD + touch + 'rm -f -- "$stage-joined"\n'


# --- verification --------------------------------------------------------------------------
# A record is the nonce, then a digest and a name, or "many" and a line with both for each of many
# files. Those the command writes itself. Some commands escape some names: where there are such,
# each file goes to its stdin. A file that its owner may not read is made readable meanwhile.

_SAY = r"""
nl='
'
cr=$(printf '\r')
each() {
  for f; do
    h=$($sha256 <"$f") && printf '%s %s  %s\n' "$nonce" "${h%% *}" "$f"
  done
}
case $0 in
  locked) for f; do chmod u+r "$f"; each "$f"; chmod u-r "$f"; done ;;
  *)
    case $* in
      *\\*|*"$nl"*|*"$cr"*) each "$@" ;;
      *) printf '%s many\n' "$nonce"; $sha256 "$@" ;;
    esac ;;
esac
"""

_DIGESTS = (
    _OFFSPRING
    + r"""
export nonce sha256
%s
watch
busy=1
{ %s; printf '%%s end %%d\n' "$nonce" "$?"; } 3<&- | cat 3<&- &
wait "$!"
busy=
wait "$watcher"
"""
)

_PREFIX = """h=$(head -c "$size" -- "$part" | $sha256) &&
  printf '%s %s  %s\\n' "$nonce" "${h%% *}" "$file\""""
_NAMED = 'eval "sh -c \\"\\$say\\" all $words"'
_FOUND = r"""find "./$top" -type f -perm -400 -exec sh -c "$say" all {} + \
    -o -type f -exec sh -c "$say" locked {} +"""


def digest_of_prefix(source: SourceFacts, name: bytes, size: int, nonce: str, sha256: str) -> str:
    """Say the SHA-256 of the first ``size`` bytes of the source's file ``name``; wait for a line.

    :param sha256: one of :data:`SHA256`.
    """
    return (
        f"nonce={nonce}\nsha256={quote(sha256.encode())}\nsize={size}\n"
        f"directory={quote(source.directory)}\nfile={quote(b'./' + name)}\npart=$file"
        + _SEND
        + _DIGESTS % ("", _PREFIX)
    )


def set_aside(staging: Staging, name: bytes, size: int, nonce: str, sha256: str) -> str:
    """Keep the first ``size`` bytes of the staged file ``name`` as the part to which a rest will
    be joined; say their SHA-256; wait for a line.

    :param sha256: one of :data:`SHA256`.
    """
    return (
        f"nonce={nonce}\nsha256={quote(sha256.encode())}\nsize={size}\n"
        f"file={quote(b'./' + name)}\n"
        + _staged(staging)
        + _SET_ASIDE
        + _SEND
        + _DIGESTS % ("", _PREFIX)
    )


def digests_of_staged(staging: Staging, nonce: str, sha256: str) -> str:
    """Say the SHA-256 of each plain file that was unpacked and held back; wait for a line.

    A file of which the first part came earlier is made whole first (:func:`set_aside`).

    :param sha256: one of :data:`SHA256`.
    """
    join = 'cd -P -- "$directory" && join || exit 1\ndirectory=$stage'
    return (
        f"nonce={nonce}\nsha256={quote(sha256.encode())}\nsay={quote(_SAY.encode())}\n"
        + _staged(staging)
        + _WHOLE
        + _JOIN
        + join
        + _SEND
        + _DIGESTS % ("", _FOUND)
    )


def digests_of_named(directory: bytes, nonce: str, sha256: str, size: int) -> str:
    """Say the SHA-256 of those files in ``directory`` that stdin names; wait for a line.

    :param sha256: one of :data:`SHA256`.
    :param size: length of what :func:`words` makes of the names.
    """
    return (
        f"nonce={nonce}\nsha256={quote(sha256.encode())}\nsay={quote(_SAY.encode())}\n"
        f"directory={quote(directory)}"
        + _SEND
        + _DIGESTS % (f"words=$(head -c {size} <&3)", _NAMED)
    )


def words(names: Iterable[bytes]) -> bytes:
    """Return ``names`` as a script that is told their length reads them from stdin."""
    return " ".join(quote(b"./" + name) for name in names).encode()
