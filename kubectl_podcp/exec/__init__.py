"""One session with a command: the exec protocol, its connection, and the two put together.

Modules, each importing only those before it::

    deadline     one time limit over several steps
    nonblocking  what a socket that never blocks says when it cannot go on
    channels     the messages of v4.channel.k8s.io and v5.channel.k8s.io; no I/O
    frames       what a server sends, as messages; no I/O
    trace        what passes, a log line each
    masking      binary frames, masked
    refusals     what a refused request or a failed start means, as an error of ours; no I/O
    tunnel       through an HTTP proxy: CONNECT, and TLS within TLS
    tls          the connection to the API server: Endpoint, Proxy, dial, connect
    records      TLS between two buffers; no I/O
    stream       a connected socket that one reader and one writer may use at once
    handshake    the request that opens a session, and the body of a refusal
    session      ExecSession and run
    lease        descriptors that several threads use, given up by any of them
    process      the same for a command on this machine
    inlet        this process's stdin, as if a command wrote it
    outlet       this process's stdout, as if a command stood behind it
    inflating    a session whose stdout comes compressed, as if it did not
"""
