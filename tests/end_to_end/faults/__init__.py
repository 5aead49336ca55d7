"""The fault matrix: every fault, over each protocol, and what a user then sees.

::

    run         one copy that meets one fault: arranged, run, and judged by its trees
    causes      how each fault is brought about, at a moment that bytes tell
    table       the faults, and what each may come to: a declaration, no code
    document    docs/faults.md: written by a run, and compared with one
    test_faults runs the table
"""
