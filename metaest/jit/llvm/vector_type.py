"""LLVM's names for vectors of numbers."""

from __future__ import annotations

import struct
from dataclasses import dataclass

__all__ = ["VectorType"]


@dataclass(frozen=True)
class VectorType:
    """Numbers of one precision, some at a time.

    Parameters
    ----------
    bits : {32, 64}
    lanes : int
        Tasks in one vector.
    halves : bool, default=False
        Whether a vector fills two registers.
    """

    bits: int
    lanes: int
    halves: bool = False

    @property
    def align(self) -> int:
        """Bytes on whose multiples vectors lie: those of a register."""
        return self.bits * self.lanes // (16 if self.halves else 8)

    @property
    def doubled(self) -> VectorType:
        """As many numbers in double precision as here in single."""
        return VectorType(64, self.lanes, halves=True)

    @property
    def scalar(self) -> str:
        """LLVM's type of one number."""
        return "float" if self.bits == 32 else "double"

    @property
    def floats(self) -> str:
        """LLVM's type of a vector of numbers, one of each task."""
        return f"<{self.lanes} x {self.scalar}>"

    @property
    def integers(self) -> str:
        """LLVM's type of a vector of integers as wide as the numbers."""
        return f"<{self.lanes} x i{self.bits}>"

    @property
    def bools(self) -> str:
        """LLVM's type of a vector of truth values."""
        return f"<{self.lanes} x i1>"

    @property
    def suffix(self) -> str:
        """Last part of the name of an intrinsic function of such vectors."""
        return f"v{self.lanes}f{self.bits}"

    def literal(self, value: float) -> str:
        """Return one number, exactly."""
        if self.bits == 32:  # as LLVM wants it: the bits of the double that equals the float
            value = struct.unpack("f", struct.pack("f", value))[0] if abs(value) <= 3.4e38 else value
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"

    def splat(self, value: float) -> str:
        """Return one number in all lanes, as an operand without its type."""
        return f"splat ({self.scalar} {self.literal(value)})"

    def splat_integer(self, value: int) -> str:
        """Return one whole number in all lanes."""
        return f"splat (i{self.bits} {value})"
