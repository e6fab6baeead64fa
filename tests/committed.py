"""What is committed of a notebook: its cells of code, its parameters, and the tables that it shows."""

import ast

import nbformat


def code_cells(path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def parameters_of(path) -> dict:
    """The values in a notebook's first cell."""
    (cell,) = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(cell.source).body}


def html_of(path) -> str:
    """The tables that a committed notebook shows."""
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    return "".join(output.get("data", {}).get("text/html", "") for output in outputs)
