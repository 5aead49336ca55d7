"""One suite for both clusters: real TLS, real tar processes, real files."""
