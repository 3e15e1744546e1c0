"""The messages of open_inference.proto as classes.

They have a descriptor pool of their own: generated modules register in the pool of the process, where a client of the
same protocol, such as tritonclient, has registered the same names.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

SERVICE = "inference.GRPCInferenceService"


class Messages:
    """Message classes by name, and the methods of the service."""

    def __init__(self) -> None:
        self._pool = DescriptorPool()
        compiled = files("aweigh.serve.rpc").joinpath("open_inference.binpb").read_bytes()
        for file in FileDescriptorSet.FromString(compiled).file:
            self._pool.Add(file)

    def __getattr__(self, name: str) -> Any:
        """The class of a message of the package. Raises AttributeError for an unknown name."""
        try:
            return GetMessageClass(self._pool.FindMessageTypeByName(f"inference.{name}"))
        except KeyError as error:
            raise AttributeError(name) from error

    def methods(self) -> dict[str, tuple[Any, Any]]:
        """The classes of request and response, by method name."""
        service = self._pool.FindServiceByName(SERVICE)
        return {m.name: (GetMessageClass(m.input_type), GetMessageClass(m.output_type)) for m in service.methods}
