//! The runtime of the real server: threads, sockets, files.
