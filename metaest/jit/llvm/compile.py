"""LLVM compiles text to machine code in memory. It comes as a wheel and is not loaded on import."""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import logging
import os
import re
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from metaest.functional.interrupts import run_in_thread
from metaest.jit.errors import UnavailableError
from metaest.jit.llvm.cache import CachedCode
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["aligned", "compile_function", "native_vector"]

T = TypeVar("T")
# most libraries that stay in memory unused; the least recently used is dropped first
MOST_LIBRARIES = 128
# most bytes of the code of all of these
MOST_BYTES = 2**26
# how much LLVM optimises, 0 to 3; most tests compile with 0, which takes a sixth of the time
OPTIMISATION = 3
_logger = logging.getLogger("metaest.compile")
_lock = threading.Lock()


@dataclass(frozen=True)
class _Machine:
    """LLVM, the processor that it writes code for, and the linker of this process."""

    binding: Any
    linker: Any
    cpu: str
    features: str
    width: int
    versions: tuple[str, ...]


class _Library:
    """Machine code in memory, for as long as somebody calls it."""

    # code that nobody calls any more; the next thread that works with LLVM gives its memory back
    unused: ClassVar[deque[Any]] = deque()
    _numbers = itertools.count()

    def __init__(self, code: bytes, names: list[str], machine: _Machine) -> None:
        self.size = len(code)
        builder = machine.binding.JITLibraryBuilder().add_object_img(code).add_current_process()
        for name in names:
            builder.export_symbol(name)
        self.addresses = builder.link(machine.linker, f"metaest{next(self._numbers)}")

    def __del__(self, unused: deque[Any] = unused) -> None:
        if hasattr(self, "addresses"):
            unused.append(self.addresses)


_libraries: OrderedDict[str, _Library] = OrderedDict()


def _by_llvm(work: Callable[[], T]) -> T:
    """Run work that calls LLVM in a separate thread, since one call can take seconds.

    A process ends after that thread: LLVM's own end would meet it at work, which ended one process of six in a crash.
    """

    def tidied() -> T:
        _Library.unused.clear()
        return work()

    return run_in_thread(tidied)


@cache
def _machine() -> _Machine:
    return _by_llvm(_this_machine)


def _this_machine() -> _Machine:
    try:
        import llvmlite.binding as binding
    except ImportError as error:
        raise UnavailableError("llvmlite is not installed (pip install 'metaest[compile]')") from error
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    can = binding.get_host_cpu_features()
    width = 512 if can.get("avx512f") else 256 if can.get("avx2") else 128
    # without this LLVM keeps to half of the registers of a processor with vectors of 512 bits
    features = can.flatten() + (",-prefer-256-bit" if width == 512 else "")
    cpu = binding.get_host_cpu_name()
    # this linker meets what is no code with an error, where LLVM's older one ends the process
    linker = binding.create_lljit_compiler(
        _target(binding, cpu, features), use_jit_link=os.name != "nt", suppress_errors=True
    )
    versions = (_version("metaest"), _version("llvmlite"), ".".join(map(str, binding.llvm_version_info)))
    return _Machine(binding, linker, cpu, features, width, versions)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # it is imported from where it lies
        return "unknown"


def _target(binding: Any, cpu: str, features: str) -> Any:
    """Return a new description of this machine in LLVM's words."""
    return binding.Target.from_default_triple().create_target_machine(
        cpu=cpu, features=features, opt=OPTIMISATION, reloc="pic", codemodel="jitdefault", jit=True
    )


def native_vector(bits: int) -> VectorType:
    """Return vectors as wide as this processor's registers."""
    return VectorType(bits, _machine().width // bits)


def _code_of(text: str, machine: _Machine) -> bytes:
    """Have LLVM verify, optimise and translate a text; return an object file."""
    binding, target = machine.binding, _target(machine.binding, machine.cpu, machine.features)
    # a context of its own, which ends with the module: in the common one types and constants stay for good
    module = binding.parse_assembly(text, binding.create_context())
    module.triple = target.triple
    module.data_layout = str(target.target_data)
    module.verify()
    options = binding.create_pipeline_tuning_options(speed_level=OPTIMISATION)
    options.slp_vectorization = False  # values are vectors already
    binding.create_pass_builder(target, options).getModulePassManager().run(
        module, binding.create_pass_builder(target, options)
    )
    code: bytes = target.emit_object(module)
    return code


def _load_or_compile(text: str, key: str, machine: _Machine) -> _Library:
    """Load a library from disk, or else compile it."""
    names = re.findall(r"^define (?!internal |private )[^@]*@(\w+)\(", text, re.MULTILINE)
    cached = CachedCode(key)
    code = cached.load()
    if code is not None:
        try:
            return _Library(code, names, machine)
        except RuntimeError as error:
            _logger.info("machine code on disk is not used: %s", error)
    code = _code_of(text, machine)
    library = _Library(code, names, machine)
    cached.store(code)
    return library


def _library(text: str) -> _Library:
    machine = _machine()
    told = (text, machine.cpu, machine.features, str(OPTIMISATION), *machine.versions)
    key = hashlib.sha256("\0".join(told).encode()).hexdigest()
    with _lock:
        library = _libraries.pop(key, None) or _by_llvm(lambda: _load_or_compile(text, key, machine))
        _libraries[key] = library
        while len(_libraries) > MOST_LIBRARIES or sum(each.size for each in _libraries.values()) > MOST_BYTES:
            _libraries.popitem(last=False)
    return library


def compile_function(text: str, name: str, arguments: list[Any], result: Any = None) -> Any:
    """Compile a text, and return one of its functions as one that Python can call.

    Parameters
    ----------
    text : str
        A module of LLVM's intermediate representation.
    name : str
        Name of a function in it.
    arguments : list of ctypes types
    result : ctypes type, optional

    Raises
    ------
    UnavailableError
        When LLVM is not installed, or fails.
    """
    try:
        library = _library(text)
    except UnavailableError:
        raise
    except RuntimeError as error:  # whatever LLVM does not like here
        raise UnavailableError(f"LLVM refuses: {str(error).splitlines()[0][:200]}") from error
    function = ctypes.CFUNCTYPE(result, *arguments)(library.addresses[name])
    function.library = library  # type: ignore[attr-defined]  # the code lives as long as the function
    return function


def aligned(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return zeros at an address that vectors can be read from."""
    raw = np.zeros(size * dtype.itemsize + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size * dtype.itemsize].view(dtype)
