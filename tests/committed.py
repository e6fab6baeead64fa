"""What is committed of a notebook: its cells of code, its parameters, and the tables that it shows."""

import ast

import nbformat


def code_cells(path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def outputs_of(path) -> list:
    return [output for cell in code_cells(path) for output in cell.outputs]


def parameter_cell(path):
    (cell,) = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    return cell


def parameters_of(path) -> dict:
    """The values in a notebook's first cell."""
    return {node.targets[0].id: ast.literal_eval(node.value) for node in ast.parse(parameter_cell(path).source).body}
