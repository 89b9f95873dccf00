"""Text of a function in LLVM's intermediate representation, in which a value is a vector with one task in each lane."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from metaest.jit.llvm.vector_type import VectorType

__all__ = ["Writer"]


@dataclass
class Writer:
    """Lines of one function, and fresh names of its values."""

    vector: VectorType
    lines: list[str] = field(default_factory=list)
    block: str = "entry"
    _count: int = 0

    def name(self) -> str:
        """Return a new name of a value."""
        self._count += 1
        return f"%v{self._count}"

    def put(self, text: str) -> str:
        """Write an instruction with a result; return its name."""
        name = self.name()
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """Write an instruction without a result."""
        self.lines.append(f"  {text}")

    def enter(self, label: str) -> None:
        """Begin a block."""
        self.lines.append(f"{label}:")
        self.block = label

    def arithmetic(self, operation: str, *operands: str) -> str:
        """Write an operation on vectors; a product and a sum may become one instruction."""
        return self.put(f"{operation} contract {self.vector.floats} {', '.join(operands)}")

    def compare(self, how: str, a: str, b: str) -> str:
        """Write a comparison."""
        return self.put(f"fcmp {how} {self.vector.floats} {a}, {b}")

    def select(self, condition: str, yes: str, no: str) -> str:
        """Write a selection in each lane."""
        vector = self.vector
        return self.put(f"select {vector.bools} {condition}, {vector.floats} {yes}, {vector.floats} {no}")

    def call(self, function: str, *operands: str) -> str:
        """Write a call of a function from vectors to a vector."""
        floats = self.vector.floats
        return self.put(f"call {floats} @{function}({', '.join(f'{floats} {operand}' for operand in operands)})")

    def function(self, name: str, *operands: str) -> str:
        """Write a call of one of the functions that `vector_math` defines for such vectors."""
        return self.call(f"lane_{name}.{self.vector.suffix}", *operands)

    def convert(self, value: str, source: VectorType) -> str:
        """Bring numbers of another precision to that of this function."""
        if source == self.vector:
            return value
        how = "fpext" if source.bits < self.vector.bits else "fptrunc"
        return self.put(f"{how} {source.floats} {value} to {self.vector.floats}")

    def intrinsic(self, name: str, *operands: str) -> str:
        """Write a call of one of LLVM's own functions."""
        return self.call(f"llvm.{name}.{self.vector.suffix}", *operands)

    def load(self, base: str, index: str, *, shared: bool) -> str:
        """Read a number of each task, or one number for all."""
        vector = self.vector
        if not shared:
            place = self.put(f"getelementptr inbounds {vector.floats}, ptr {base}, i64 {index}")
            return self.put(f"load {vector.floats}, ptr {place}, align {vector.align}")
        place = self.put(f"getelementptr inbounds {vector.scalar}, ptr {base}, i64 {index}")
        return self.spread(self.put(f"load {vector.scalar}, ptr {place}, align {vector.bits // 8}"))

    def spread(self, scalar: str) -> str:
        """Put one number into all lanes."""
        floats, lanes = self.vector.floats, f"<{self.vector.lanes} x i32>"
        first = self.put(f"insertelement {floats} poison, {self.vector.scalar} {scalar}, i64 0")
        return self.put(f"shufflevector {floats} {first}, {floats} poison, {lanes} zeroinitializer")

    def store(self, value: str, base: str, index: str) -> None:
        """Write a number of each task to memory."""
        vector = self.vector
        place = self.put(f"getelementptr inbounds {vector.floats}, ptr {base}, i64 {index}")
        self.do(f"store {vector.floats} {value}, ptr {place}, align {vector.align}")

    def linear(self, terms: list[tuple[str, int]], constant: int) -> str:
        """Return an index: the sum of names times whole numbers, and a number."""
        total = ""
        for name, factor in terms:
            if factor == 0:
                continue
            term = name if factor == 1 else self.put(f"mul nsw i64 {name}, {factor}")
            total = term if not total else self.put(f"add nsw i64 {total}, {term}")
        if not total:
            return str(constant)
        return total if constant == 0 else self.put(f"add nsw i64 {total}, {constant}")

    @contextmanager
    def loop(self, count: int | str, step: int = 1, carried: tuple[str, ...] = ()) -> Iterator["Loop"]:
        """Write a loop over 0, step, ... below `count`; `carried` are vectors handed from one iteration to the next."""
        label = f"L{len(self.lines)}"
        before, floats = self.block, self.vector.floats
        self.do(f"br label %{label}")
        self.enter(label)
        counter, after = self.name(), self.name()
        loop = Loop(counter, [self.name() for _ in carried], [])
        head = len(self.lines)
        yield loop
        for i, (name, start, end) in enumerate(zip(loop.carried, carried, loop.ends, strict=True)):
            phi = f"  {name} = phi {floats} [ {start}, %{before} ], [ {end}, %{self.block} ]"
            self.lines.insert(head + i, phi)
        self.lines.insert(head, f"  {counter} = phi i64 [ 0, %{before} ], [ {after}, %{self.block} ]")
        self.do(f"{after} = add nuw nsw i64 {counter}, {step}")
        more = self.put(f"icmp ult i64 {after}, {count}")
        self.do(f"br i1 {more}, label %{label}, label %{label}e")
        self.enter(f"{label}e")


@dataclass
class Loop:
    """Names inside a loop, and the values that the next iteration starts from."""

    counter: str
    carried: list[str]
    ends: list[str]
