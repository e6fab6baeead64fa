"""A training's step as a GPU wants it: its random numbers sent ahead, its thousand kernels one CUDA graph.

At batch 64 a kernel takes less time than Python takes to launch it. On any other device the step is the plain call, so
what the tests prove of it there holds here, too, but for capture and replay.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

BLOCK = 64  # steps whose numbers travel to a GPU together
WARM_UP = 3  # calls before the capture, in which libraries choose their kernels and allocate

Values = dict[str, Tensor]
Step = Callable[..., Values]


def sent_ahead(draw: Callable[[int], Values], total: int, device: torch.device) -> Callable[[int], Values]:
    """`draw(step)` on `device`; to a GPU a block of steps goes in one asynchronous copy for each name."""

    @lru_cache(maxsize=1)
    def block(start: int) -> Values:
        drawn = [draw(step) for step in range(start, min(start + BLOCK, total))]
        rows = {name: torch.stack([values[name] for values in drawn]) for name in drawn[0]}
        return {name: value.pin_memory().to(device, non_blocking=True) for name, value in rows.items()}

    def at(step: int) -> Values:
        if device.type != "cuda":  # a scalar is read by Python, and MPS has no float64
            return {name: value.to(device) if value.ndim else value for name, value in draw(step).items()}
        return {name: rows[step % BLOCK] for name, rows in block(step - step % BLOCK).items()}

    return at


def captured(step: Step, parts: Mapping[str, Any], device: torch.device) -> Step:
    """`step`, on a CUDA device as one graph, captured at its first call, or plain where that fails (one line says so).

    `step(**values)` takes tensors of the same shapes each time, gives scalars, and changes nothing but `parts`:
    modules and optimisers. What a graph gives is overwritten by the next call.
    """
    if device.type != "cuda":
        return step
    run: Step | None = None

    def call(**values: Tensor) -> Values:
        nonlocal run
        run = run or _capture(step, parts, values, device)
        return run(**values)

    return call


def _capture(step: Step, parts: Mapping[str, Any], values: Values, device: torch.device) -> Step:
    for optimizer in (part for part in parts.values() if isinstance(part, torch.optim.Optimizer)):
        for group in optimizer.param_groups:  # a rate that is a Python number would be frozen
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
            group |= {name: True for name in ("fused", "capturable") if name in group}
        for state in optimizer.state.values():  # which may have been resumed from another device
            state |= {name: value.to(device) for name, value in state.items() if name == "step"}
    inputs = {name: value.clone() for name, value in values.items()}
    graph, side, current = torch.cuda.CUDAGraph(), torch.cuda.Stream(device), torch.cuda.current_stream(device)
    numbers = torch.cuda.get_rng_state(device)
    side.wait_stream(current)
    with torch.cuda.stream(side), undone(parts):
        for _ in range(WARM_UP):
            step(**inputs)
    current.wait_stream(side)
    draws = not torch.equal(numbers, torch.cuda.get_rng_state(device))
    torch.cuda.set_rng_state(numbers, device)
    if draws:  # dropout, which a replay would draw as the capture did
        print("no CUDA graph: the network draws random numbers; the training is slower", file=sys.stderr, flush=True)
        return step
    try:
        with torch.cuda.graph(graph, stream=side):
            outputs = step(**inputs)
    except RuntimeError as e:
        torch.cuda.set_stream(current)  # which a capture that fails does not leave behind
        print(f"no CUDA graph ({str(e).splitlines()[0]}); the training is slower", file=sys.stderr, flush=True)
        return step

    def replay(**values: Tensor) -> Values:
        for name, value in values.items():
            inputs[name].copy_(value)
        graph.replay()
        return outputs

    return replay


@contextmanager
def undone(parts: Mapping[str, Any]) -> Iterator[None]:
    """Give every tensor of these modules and optimisers its value again; what an optimiser adds starts at zero."""
    before = {tensor: tensor.clone() for tensor in _tensors(parts)}
    yield
    with torch.no_grad():
        for tensor in _tensors(parts):
            tensor.copy_(before[tensor]) if tensor in before else tensor.zero_()


def _tensors(parts: Mapping[str, Any]) -> Iterable[Tensor]:
    for part in parts.values():
        if isinstance(part, nn.Module):
            yield from (*part.parameters(), *part.buffers())
        else:
            yield from (value for state in part.state.values() for value in state.values() if isinstance(value, Tensor))
