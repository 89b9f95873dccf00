"""Attention by elementary operations, since torch's fused kernels have no second derivative.

torch chooses the kernel of ``scaled_dot_product_attention`` by flags of the whole process (torch 2.13). While metaest
calls a module they ask for the kernel of elementary operations, whose derivatives exist in every order and which
``torch.vmap`` maps; so does the switch of the fused encoder layer. The last call that is under way puts both back.
"""

import threading
from typing import Any

import torch.backends.cuda
from torch.backends import mha

__all__ = ["differentiable_attention"]

cuda: Any = torch.backends.cuda  # torch leaves its functions without types


class _DifferentiableAttention:
    """A scope that several threads may be in at once: the first sets the flags, the last puts them back.

    Attention that other threads compute outside the scope meanwhile is as exact, and slower.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._before = (True, True, True, True, True)

    def __enter__(self) -> None:
        with self._lock:
            if self._calls == 0:
                self._before = (
                    cuda.flash_sdp_enabled(),
                    cuda.mem_efficient_sdp_enabled(),
                    cuda.cudnn_sdp_enabled(),
                    cuda.math_sdp_enabled(),
                    mha.get_fastpath_enabled(),
                )
                _set(False, False, False, True, False)
            self._calls += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._calls -= 1
            if self._calls == 0:
                _set(*self._before)


def _set(flash: bool, mem_efficient: bool, cudnn: bool, math: bool, fast_path: bool) -> None:
    """Allow or forbid each kernel of attention."""
    cuda.enable_flash_sdp(flash)
    cuda.enable_mem_efficient_sdp(mem_efficient)
    cuda.enable_cudnn_sdp(cudnn)
    cuda.enable_math_sdp(math)
    mha.set_fastpath_enabled(fast_path)


differentiable_attention = _DifferentiableAttention()
