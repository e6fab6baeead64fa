"""What both training loops share: device and precision, batches by (seed, step)."""

import ctypes
import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache

import torch
from torch import Tensor

from rag_lib.base import UserError


def pick_device() -> torch.device:
    """CUDA, else Apple's MPS, else the CPU; `RAG_DEVICE` in the environment (cpu, cuda, cuda:1, mps) overrides."""
    name = os.environ.get("RAG_DEVICE")
    if not name:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as e:
        raise UserError(f"RAG_DEVICE = {name!r} cannot be used here ({str(e).splitlines()[0]}); try cpu") from e
    if device.type == "cuda":  # fp32 is what it says, without TF32; batches are of one size, so autotuning pays
        torch.backends.cuda.matmul.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "ieee"
        torch.backends.cudnn.benchmark = True
    return device


def pick_precision(requested: str, device: torch.device) -> str:
    """`fp32` or `bf16`: as requested, or, for `auto`, bf16 only where the processor computes in it."""
    if requested != "auto":
        return requested
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch >= 2.11
        return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "fp32"
    return "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Convolutions and products in bf16 where `precision` says so; weights and sums stay in fp32."""
    if precision != "bf16":
        return nullcontext()
    # a CUDA graph would keep the cached copy of weights that have changed
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=device.type != "cuda")


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Compute with so many threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Has glibc keep freed memory for the next step instead of handing it back to the system.

    Every step frees and allocates the same tensors; fetching their pages anew takes time, and the
    process keeps the memory of its largest step. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt, trim_threshold, mmap_max = ctypes.CDLL(None).mallopt, -1, -4  # the numbers of malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def seed_of(*parts: int | str) -> int:
    """Return a 63-bit seed from any parts: independent streams without a table of offsets."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def rng(*parts: int | str) -> torch.Generator:
    """Return a generator on the CPU seeded by `parts`; the CPU's, so that every device sees the same numbers."""
    return torch.Generator().manual_seed(seed_of(*parts))


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=rng(seed, "epoch", epoch))


def batch_indices(n: int, batch_size: int, seed: int, step: int) -> Tensor:
    """Batch `step` of an endless shuffled stream over `n` images, each once an epoch; int64, `batch_size`.

    It depends on its arguments alone.
    """
    start, end = step * batch_size, (step + 1) * batch_size
    epochs = range(start // n, (end - 1) // n + 1)
    return torch.cat([_permutation(n, seed, e)[max(0, start - e * n) : end - e * n] for e in epochs])
