"""tar archives: read as they pass, rewritten into one form, and checked.

======== =======================================================================
headers  one block: the four dialects in, the canonical one out
sparse   the maps of sparse files
members  the headers of one member, settled into one description of it
safety   what a member may not do
tape     what of a message goes on, and what is still undecided
follower an archive as it passes: bytes in, bytes and events out
======== =======================================================================

Nothing here does I/O.
"""
