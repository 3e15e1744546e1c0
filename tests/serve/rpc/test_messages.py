from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import aweigh.serve.rpc
from aweigh.serve.rpc.messages import Messages

FOLDER = Path(aweigh.serve.rpc.__path__[0])


def test_the_compiled_messages_are_those_of_the_source(tmp_path: Path) -> None:
    compiled = tmp_path / "open_inference.binpb"
    command = [sys.executable, "-P", "-m", "grpc_tools.protoc", "-I", str(FOLDER), f"--descriptor_set_out={compiled}"]
    subprocess.run([*command, "open_inference.proto"], check=True)
    assert compiled.read_bytes() == (FOLDER / "open_inference.binpb").read_bytes(), "run make protos"


def test_the_wire_format_is_tritonclients() -> None:
    """Field by field, against the messages that a client of the protocol carries."""
    from google.protobuf.descriptor import Descriptor
    from tritonclient.grpc import service_pb2

    def fields(descriptor: Descriptor) -> dict[str, tuple[int, int, bool]]:
        return {f.name: (f.number, f.type, f.is_repeated) for f in descriptor.fields}

    messages = Messages()
    compared = 0
    for request, response in messages.methods().values():
        for message in (request, response):
            theirs = getattr(service_pb2, message.DESCRIPTOR.name).DESCRIPTOR
            assert fields(message.DESCRIPTOR) == fields(theirs)
            for nested in message.DESCRIPTOR.nested_types:
                assert fields(nested) == fields(theirs.nested_types_by_name[nested.name])
                compared += 1
    assert compared >= 8
    for name in ("InferParameter", "InferTensorContents", "ModelRepositoryParameter"):
        assert fields(getattr(messages, name).DESCRIPTOR) == fields(getattr(service_pb2, name).DESCRIPTOR)
    with pytest.raises(AttributeError):
        _ = messages.NoSuchMessage
