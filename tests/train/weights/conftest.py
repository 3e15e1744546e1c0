"""A local server of weight files."""

from file_server import file_server, secure_server

__all__ = ["file_server", "secure_server"]
