r"""exp, log, tanh and their like for vectors, to a few units in the last place, on any processor LLVM knows.

Written out rather than taken from a mathematical library: those that work on vectors exist on some systems only, and
give other digits on each. Reductions are the textbook ones: :math:`e^x = 2^n e^r`, :math:`\log x = n \log 2 +
2\,\mathrm{atanh}((m-1)/(m+1))`; coefficients are those of FreeBSD's and Cephes' public tables (log: e_log.c; tanh:
tanh.c), and Taylor's series for the short interval of the exponential.
"""

import math
from collections.abc import Callable

from metaest.jit.codegen.writer import Writer
from metaest.jit.llvm.vector_type import VectorType

__all__ = ["FUNCTIONS", "definitions"]

LOG2_HIGH = {32: 0.693359375, 64: 6.93147180369123816490e-01}
LOG2_LOW = {32: -2.12194440054690583e-4, 64: 1.90821492927058770002e-10}
# numerators and denominators of tanh(x) / x - 1 over x squared, up to 0.625
TANH_P = [-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3]
TANH_Q = [1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3]
LOG_TERMS = [
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
]


def _horner(w: Writer, x: str, coefficients: list[float]) -> str:
    total = w.vector.splat(coefficients[0])
    for coefficient in coefficients[1:]:
        total = w.arithmetic("fadd", w.arithmetic("fmul", total, x), w.vector.splat(coefficient))
    return total


def _power_of_two(w: Writer, n: str) -> str:
    """Return two to a whole number, by its bits."""
    vector = w.vector
    bias, mantissa = (127, 23) if vector.bits == 32 else (1023, 52)
    biased = w.put(f"add {vector.integers} {n}, {vector.splat_integer(bias)}")
    shifted = w.put(f"shl {vector.integers} {biased}, {vector.splat_integer(mantissa)}")
    return w.put(f"bitcast {vector.integers} {shifted} to {vector.floats}")


def _exp(w: Writer, x: str) -> str:
    vector, bits = w.vector, w.vector.bits
    highest, lowest = (88.722839, -104.0) if bits == 32 else (709.782712893384, -745.2)
    # beyond these the answer is known; between, two powers of two reach denormal numbers as well
    inside = w.intrinsic("minnum", w.intrinsic("maxnum", x, vector.splat(lowest)), vector.splat(highest + 0.01))
    n = w.intrinsic("rint", w.arithmetic("fmul", inside, vector.splat(1 / math.log(2))))
    r = w.arithmetic("fsub", inside, w.arithmetic("fmul", n, vector.splat(LOG2_HIGH[bits])))
    r = w.arithmetic("fsub", r, w.arithmetic("fmul", n, vector.splat(LOG2_LOW[bits])))
    degree = 7 if bits == 32 else 13
    series = _horner(w, r, [1 / math.factorial(i) for i in range(degree, -1, -1)])
    whole = w.put(f"fptosi {vector.floats} {n} to {vector.integers}")
    half = w.put(f"ashr {vector.integers} {whole}, {vector.splat_integer(1)}")
    rest = w.put(f"sub {vector.integers} {whole}, {half}")
    value = w.arithmetic("fmul", w.arithmetic("fmul", series, _power_of_two(w, half)), _power_of_two(w, rest))
    value = w.select(w.compare("ogt", x, vector.splat(highest)), vector.splat(math.inf), value)
    value = w.select(w.compare("olt", x, vector.splat(lowest)), vector.splat(0.0), value)
    return w.select(w.compare("uno", x, x), x, value)


def _log(w: Writer, x: str) -> str:
    vector, bits = w.vector, w.vector.bits
    bias, mantissa = (127, 23) if bits == 32 else (1023, 52)
    smallest = 2.0 ** (1 - bias)
    small = w.compare("olt", x, vector.splat(smallest))
    scaled = w.select(small, w.arithmetic("fmul", x, vector.splat(2.0 ** (mantissa + 1))), x)
    raw = w.put(f"bitcast {vector.floats} {scaled} to {vector.integers}")
    # exponent and mantissa, with the mantissa between sqrt(1/2) and sqrt(2)
    root = 0x3F3504F3 if bits == 32 else 0x3FE6A09E667F3BCD
    moved = w.put(f"sub {vector.integers} {raw}, {vector.splat_integer(root)}")
    exponent = w.put(f"ashr {vector.integers} {moved}, {vector.splat_integer(mantissa)}")
    shifted = w.put(f"shl {vector.integers} {exponent}, {vector.splat_integer(mantissa)}")
    m = w.put(f"bitcast {vector.integers} {w.put(f'sub {vector.integers} {raw}, {shifted}')} to {vector.floats}")
    n = w.put(f"sitofp {vector.integers} {exponent} to {vector.floats}")
    n = w.select(small, w.arithmetic("fsub", n, vector.splat(mantissa + 1.0)), n)
    f = w.arithmetic("fsub", m, vector.splat(1.0))
    s = w.arithmetic("fdiv", f, w.arithmetic("fadd", f, vector.splat(2.0)))
    z = w.arithmetic("fmul", s, s)
    series = w.arithmetic("fmul", z, _horner(w, z, LOG_TERMS if bits == 64 else LOG_TERMS[2:]))
    # log(1 + f) = f - (f*f/2 - s (f*f/2 + series)), which keeps the digits of f
    half = w.arithmetic("fmul", w.arithmetic("fmul", f, f), vector.splat(0.5))
    low = w.arithmetic("fmul", n, vector.splat(LOG2_LOW[bits]))
    inner = w.arithmetic("fadd", w.arithmetic("fmul", s, w.arithmetic("fadd", half, series)), low)
    value = w.arithmetic("fsub", f, w.arithmetic("fsub", half, inner))
    value = w.arithmetic("fadd", w.arithmetic("fmul", n, vector.splat(LOG2_HIGH[bits])), value)
    value = w.select(w.compare("oeq", x, vector.splat(math.inf)), x, value)
    value = w.select(w.compare("oeq", x, vector.splat(0.0)), vector.splat(-math.inf), value)
    return w.select(w.compare("ult", x, vector.splat(0.0)), vector.splat(math.nan), value)


def _tanh(w: Writer, x: str) -> str:
    vector = w.vector
    size = w.intrinsic("fabs", x)
    z = w.arithmetic("fmul", x, x)
    ratio = w.arithmetic("fdiv", _horner(w, z, TANH_P), _horner(w, z, TANH_Q))
    near = w.arithmetic("fadd", x, w.arithmetic("fmul", w.arithmetic("fmul", x, z), ratio))
    grown = w.function("exp", w.arithmetic("fadd", size, size))
    far = w.arithmetic("fdiv", vector.splat(2.0), w.arithmetic("fadd", grown, vector.splat(1.0)))
    far = w.intrinsic("copysign", w.arithmetic("fsub", vector.splat(1.0), far), x)
    value = w.select(w.compare("olt", size, vector.splat(0.625)), near, far)
    return w.select(w.compare("uno", x, x), x, value)


def _expm1(w: Writer, x: str) -> str:
    vector = w.vector
    half = w.function("tanh", w.arithmetic("fmul", x, vector.splat(0.5)))
    near = w.arithmetic("fdiv", w.arithmetic("fadd", half, half), w.arithmetic("fsub", vector.splat(1.0), half))
    far = w.arithmetic("fsub", w.function("exp", x), vector.splat(1.0))
    return w.select(w.compare("olt", w.intrinsic("fabs", x), vector.splat(0.5)), near, far)


def _log1p(w: Writer, x: str) -> str:
    vector = w.vector
    u = w.arithmetic("fadd", vector.splat(1.0), x)
    # what rounding took from 1 + x, relative to it
    lost = w.arithmetic("fsub", x, w.arithmetic("fsub", u, vector.splat(1.0)))
    value = w.arithmetic("fadd", w.function("log", u), w.arithmetic("fdiv", lost, u))
    not_infinite, not_zero = w.compare("one", u, vector.splat(math.inf)), w.compare("one", u, vector.splat(0.0))
    plain = w.put(f"and {vector.bools} {not_infinite}, {not_zero}")
    return w.select(plain, value, w.function("log", u))


def _sigmoid(w: Writer, x: str) -> str:
    vector = w.vector
    # of minus the size, so that nothing overflows and small answers keep their digits
    shrunk = w.function("exp", w.put(f"fneg {vector.floats} {w.intrinsic('fabs', x)}"))
    top = w.select(w.compare("olt", x, vector.splat(0.0)), shrunk, vector.splat(1.0))
    return w.arithmetic("fdiv", top, w.arithmetic("fadd", vector.splat(1.0), shrunk))


def _pow(w: Writer, x: str, y: str) -> str:
    vector = w.vector
    size = w.function("exp", w.arithmetic("fmul", y, w.function("log", w.intrinsic("fabs", x))))
    whole = w.compare("oeq", w.intrinsic("rint", y), y)
    half = w.arithmetic("fmul", y, vector.splat(0.5))
    odd = w.compare("une", w.intrinsic("rint", half), half)
    signed = w.select(odd, w.put(f"fneg {vector.floats} {size}"), size)
    below = w.select(whole, signed, vector.splat(math.nan))
    value = w.select(w.compare("olt", x, vector.splat(0.0)), below, size)
    one = w.put(f"or {vector.bools} {w.compare('oeq', y, vector.splat(0.0))}, {w.compare('oeq', x, vector.splat(1.0))}")
    return w.select(one, vector.splat(1.0), value)


FUNCTIONS: dict[str, Callable[[Writer, str], str]] = {
    "exp": _exp,
    "log": _log,
    "tanh": _tanh,
    "expm1": _expm1,
    "log1p": _log1p,
    "sigmoid": _sigmoid,
}


# sine and cosine are those of the C library, one lane after the other: right for numbers of any size
INTRINSICS = {
    "minnum": 2, "maxnum": 2, "copysign": 2, "rint": 1, "fabs": 1, "sqrt": 1, "floor": 1, "sin": 1, "cos": 1,
}  # fmt: skip


def definitions(vector: VectorType, *, wide: bool = False) -> str:
    """Return the text of all functions, for vectors of this precision, and of double precision where `wide`."""
    return _definitions(vector) + (_definitions(vector.doubled) if wide else "")


def _definitions(vector: VectorType) -> str:
    floats = vector.floats
    texts = [
        f"declare {floats} @llvm.{name}.{vector.suffix}({', '.join([floats] * count)})"
        for name, count in INTRINSICS.items()
    ]
    functions: dict[str, Callable[..., str]] = {**FUNCTIONS, "pow": _pow}
    for name, write in functions.items():
        w, arguments = Writer(vector), ["%x", "%y"][: 1 + (name == "pow")]
        result = write(w, *arguments)
        body, given = "\n".join(w.lines), ", ".join(f"{floats} {name}" for name in arguments)
        # internal and small: the compiler puts them where they are called, or leaves them out
        head = f"define internal {floats} @lane_{name}.{vector.suffix}({given}) alwaysinline"
        texts.append(f"{head} {{\n{body}\n  ret {floats} {result}\n}}")
    return "\n".join(texts) + "\n"
