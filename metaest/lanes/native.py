"""From text to machine code, by LLVM: no compiler is needed on the user's machine, and none is loaded on import."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from functools import cache, lru_cache
from typing import Any

from metaest.lanes.kept import Kept
from metaest.lanes.writer import Kind

__all__ = ["UnavailableError", "compiled", "kind_of_machine"]

_lock = threading.Lock()


class UnavailableError(RuntimeError):
    """LLVM cannot be had here; the message says why."""


@cache
def _binding() -> Any:
    try:
        import llvmlite.binding as binding
    except ImportError as error:
        raise UnavailableError("llvmlite is not installed (pip install 'metaest[compile]')") from error
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


def kind_of_machine(bits: int) -> Kind:
    """Return vectors as long as this processor's."""
    return Kind(bits, _width() // bits)


def _width() -> int:
    """Return how many bits this processor works on at once."""
    features = _binding().get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx2") else 128


def _features() -> str:
    """Return what this processor can do beyond the least of its kind, in LLVM's words."""
    text: str = _binding().get_host_cpu_features().flatten()
    # without this LLVM keeps to half of the registers of a processor with vectors of 512 bits
    return text + ",-prefer-256-bit" if _width() == 512 else text


def _machine() -> Any:
    """Return a new description of this machine: the engine that is made with it owns it, and frees it at its end."""
    binding = _binding()
    target = binding.Target.from_default_triple()
    return target.create_target_machine(
        cpu=binding.get_host_cpu_name(), features=_features(), opt=3, reloc="pic", codemodel="jitdefault", jit=True
    )


class _Library:
    """Machine code in memory, for as long as somebody calls it."""

    def __init__(self, text: str, key: str) -> None:
        binding, machine = _binding(), _machine()
        module = binding.parse_assembly(text)
        module.triple = machine.triple
        module.data_layout = str(machine.target_data)
        kept = Kept(key)
        if kept.load(None) is None:
            module.verify()
            options = binding.create_pipeline_tuning_options(speed_level=3)
            options.slp_vectorization = False  # values are vectors already
            binding.create_pass_builder(machine, options).getModulePassManager().run(
                module, binding.create_pass_builder(machine, options)
            )
        self.engine = binding.create_mcjit_compiler(module, machine)
        self.engine.set_object_cache(kept.keep, kept.load)
        self.engine.finalize_object()
        self.engine.run_static_constructors()


@lru_cache(maxsize=128)
def _library(text: str) -> _Library:
    binding = _binding()
    told = (
        text,
        binding.get_host_cpu_name(),
        _features(),
        str(binding.llvm_version_info),
    )
    return _Library(text, hashlib.sha256("\0".join(told).encode()).hexdigest())


def compiled(text: str, name: str, arguments: list[Any], result: Any = None) -> Any:
    """Return a function of the text as one that Python can call.

    Parameters
    ----------
    text : str
        A module of LLVM's intermediate representation.
    name : str
        Of a function in it.
    arguments : list of ctypes types
    result : ctypes type, optional

    Raises
    ------
    UnavailableError
        When LLVM is not installed, or fails.
    """
    try:
        with _lock:
            library = _library(text)
    except RuntimeError as error:  # whatever LLVM does not like here
        raise UnavailableError(f"LLVM refuses: {str(error).splitlines()[0][:200]}") from error
    function = ctypes.CFUNCTYPE(result, *arguments)(library.engine.get_function_address(name))
    function.library = library  # type: ignore[attr-defined]  # the code lives as long as the function
    return function
