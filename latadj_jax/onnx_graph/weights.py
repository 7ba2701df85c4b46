"""One file of weights for many graphs: ONNX calls it external data."""

import hashlib
from pathlib import Path

import onnx

SMALLEST = 1024  # bytes; what is smaller stays in its graph
ALIGNED = 4096  # bytes; so that a runtime can map weights into memory


class SharedWeights:
    """A file beside the graphs; each array is in it once, whatever graphs have it."""

    def __init__(self, file: Path):
        self._file, self._places = file, {}
        file.touch()

    def move(self, model: onnx.ModelProto) -> None:
        """Puts the weights of a graph into the file, and in the graph where they are there."""
        with self._file.open("ab") as file:
            for tensor in model.graph.initializer:
                if len(tensor.raw_data) >= SMALLEST:
                    self._move(tensor, file)

    def _move(self, tensor: onnx.TensorProto, file) -> None:
        data = tensor.raw_data
        digest = hashlib.sha256(data).digest()
        if digest not in self._places:
            file.write(bytes(-file.tell() % ALIGNED))
            self._places[digest] = file.tell()
            file.write(data)
        where = {
            "location": self._file.name, "offset": self._places[digest], "length": len(data)
        }  # fmt: skip
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in where.items():
            tensor.external_data.add(key=key, value=str(value))
