"""Runs the Colab notebook from top to bottom and stores it with its outputs, kept small.

    python notebooks/execute.py notebooks/alexnet_colab.ipynb [OUTPUT.ipynb]

With small settings (ALEXNET_TF_NOTEBOOK_SMALL): 28 photographs and a few steps. Progress bars and
warnings (standard error) are not stored. Without OUTPUT the notebook itself is written. Its files
go to alexnet_run/ in the current directory.
"""

import os
import pathlib
import sys

import nbformat
from nbclient import NotebookClient


def execute(source: str, output: str, seconds: int = 400) -> nbformat.NotebookNode:
    """Runs every cell in a fresh kernel and writes the result.

    Args:
      source: the notebook.
      output: where it goes with its outputs; `source` may be given.
      seconds: that one cell may take.

    Returns:
      The notebook as it was written.

    Raises:
      nbclient.exceptions.CellExecutionError: a cell raised.
    """
    notebook = nbformat.read(source, as_version=4)
    environment = {**os.environ, "ALEXNET_TF_NOTEBOOK_SMALL": "1"}
    client = NotebookClient(notebook, timeout=seconds, kernel_name="python3")
    client.execute(env=environment, cwd=os.getcwd())
    for cell in notebook.cells:
        # When each cell began and ended would make every run another file.
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            # Keras' log goes to standard output in pieces: one piece reads better.
            for first, second in zip(cell.outputs[:-1], cell.outputs[1:], strict=True):
                if first.get("name") == second.get("name") == "stdout":
                    first["text"], second["text"] = "", first["text"] + second["text"]
            cell.outputs = [out for out in cell.outputs if out.get("text") != ""]
    # The kernel says its own version, which is this machine's.
    notebook.metadata["language_info"] = {"name": "python"}
    pathlib.Path(output).write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
    return notebook


if __name__ == "__main__":
    execute(sys.argv[1], sys.argv[-1])
