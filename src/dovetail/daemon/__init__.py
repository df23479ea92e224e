"""The daemon: one engine behind three sockets."""
