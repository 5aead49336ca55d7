"""Hostile members: names times types times dialects, and each header that lies.

Whatever the cut, nothing of them goes on, and a terminal gets none of what their names hold.
"""

from __future__ import annotations

import pytest

from kubectl_podcp.archive.follower import Follower, MalformedArchive
from kubectl_podcp.archive.safety import Refused
from tests.unit.hostile import TOP, Hostile, hostile_members
from tests.unit.tar_blocks import END, NONCE, header, in_steps, member, trailer

GOOD = header(TOP + b"/", b"5", mode=b"0000755\0") + member(TOP + b"/good", b"good")
STEPS = (1, 511, 512, 100_000)


@pytest.mark.parametrize("hostile", hostile_members().values(), ids=str)
def test_nothing_of_a_hostile_member_goes_on(hostile: Hostile) -> None:
    """What is before it may; what is behind it does not either."""
    good = GOOD + hostile.before
    stream = good + hostile.archive + member(TOP + b"/more", b"more") + END + trailer()
    for step in STEPS:
        follower = Follower(NONCE, TOP)
        went_on = b""
        with pytest.raises((Refused, MalformedArchive)) as caught:
            for message in in_steps(stream, step):
                for item in follower.feed(message):
                    went_on += item if isinstance(item, bytes) else b""
        assert good.startswith(went_on)
        assert went_on == good or step == STEPS[-1]
        said = str(caught.value)
        assert hostile.why in said
        assert hostile.printed in said
        assert [each for each in said if each != "\n" and not each.isprintable()] == []
