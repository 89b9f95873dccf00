"""Elementwise operations of torch, and the primitives that they are written with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from metaest.jit.errors import UnsupportedError
from metaest.jit.ir import Constant, Formula, Operand, broadcast

__all__ = ["ELEMENTWISE", "PRIMITIVES", "formula"]

Number = float | int | bool
Argument = Operand | Number

PRIMITIVES: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "max": max,
    "min": min,
    "neg": lambda a: -a,
    "abs": abs,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "log": math.log,
    "tanh": math.tanh,
    "expm1": math.expm1,
    "log1p": math.log1p,
    "sigmoid": lambda a: 1 / (1 + math.exp(-a)),
    "floor": math.floor,
    "sin": math.sin,
    "cos": math.cos,
    "lt": lambda a, b: float(a < b),
    "le": lambda a, b: float(a <= b),
    "gt": lambda a, b: float(a > b),
    "ge": lambda a, b: float(a >= b),
    "eq": lambda a, b: float(a == b),
    "ne": lambda a, b: float(a != b),
    "and": lambda a, b: float(bool(a) and bool(b)),
    "or": lambda a, b: float(bool(a) or bool(b)),
    "not": lambda a: float(not a),
    "where": lambda c, a, b: a if c else b,
}


def formula(operation: str, *arguments: Argument) -> Operand:
    """Return an operation on arguments that are brought to one shape, worked out where all are constants."""
    shapes = [argument.shape for argument in arguments if not isinstance(argument, (float, int))]
    # torch's function of that name imports SymPy
    shape = tuple(np.broadcast_shapes(*shapes))
    operands = [
        Constant(float(argument), shape) if isinstance(argument, (float, int)) else broadcast(argument, shape)
        for argument in arguments
    ]
    constants = [argument.value for argument in operands if isinstance(argument, Constant)]
    if len(constants) == len(operands):
        try:
            return Constant(float(PRIMITIVES[operation](*constants)), shape)
        except (ValueError, OverflowError, ZeroDivisionError):
            pass  # the processor's answer to that is not Python's
    return _simpler(operation, operands) or Formula(operation, tuple(operands), shape)


def _simpler(operation: str, operands: list[Operand]) -> Operand | None:
    """Return what an operation comes to where one operand is a constant that makes it trivial."""
    if len(operands) != 2:
        return None
    a, b = operands
    left = a.value if isinstance(a, Constant) else None
    right = b.value if isinstance(b, Constant) else None
    if operation == "mul" and left is not None:
        return formula("mul", b, a)
    if (operation in ("mul", "div", "pow") and right == 1) or (operation in ("add", "sub") and right == 0):
        return a
    if operation == "add" and left == 0:
        return b
    if operation == "mul" and right == -1:
        return Formula("neg", (a,), a.shape)
    if operation == "div" and right:
        return Formula("mul", (a, Constant(1 / right, b.shape)), a.shape)
    if operation == "pow" and right == 0:
        return Constant(1.0, a.shape)
    if operation == "pow" and right == 0.5:
        return Formula("sqrt", (a,), a.shape)
    if operation == "pow" and right == -1:
        return Formula("div", (Constant(1.0, a.shape), a), a.shape)
    return None


def _scaled(sign: str) -> Callable[..., Operand]:
    def apply(a: Argument, b: Argument, *, alpha: Number = 1) -> Operand:
        return formula(sign, a, b if alpha == 1 else _times(b, alpha))

    return apply


def _times(a: Argument, factor: Number) -> Argument:
    return a * factor if isinstance(a, (float, int)) else formula("mul", a, factor)


def _plain(operation: str) -> Callable[..., Operand]:
    def apply(*arguments: Argument) -> Operand:
        return formula(operation, *arguments)

    return apply


def _clamp(x: Operand, low: Argument | None = None, high: Argument | None = None) -> Operand:
    if low is not None:
        x = formula("max", x, low)
    return x if high is None else formula("min", x, high)


def _division(a: Argument, b: Argument, *, rounding_mode: str | None = None) -> Operand:
    if rounding_mode is not None:
        raise UnsupportedError("division with rounding")
    return formula("div", a, b)


def _sign(x: Operand) -> Operand:
    return formula("sub", formula("gt", x, 0.0), formula("lt", x, 0.0))


def _copied(like: Operand, x: Operand, *_: Any) -> Operand:
    return broadcast(x, like.shape)


ELEMENTWISE: dict[str, Callable[..., Operand]] = {
    "add.Tensor": _scaled("add"),
    "add.Scalar": _scaled("add"),
    "sub.Tensor": _scaled("sub"),
    "sub.Scalar": _scaled("sub"),
    "rsub.Scalar": lambda a, b, alpha=1: formula("sub", b, _times(a, alpha)),
    "rsub.Tensor": lambda a, b, alpha=1: formula("sub", b, _times(a, alpha)),
    "mul.Tensor": _plain("mul"),
    "mul.Scalar": _plain("mul"),
    "div.Tensor": _division,
    "div.Scalar": _division,
    "div.Tensor_mode": _division,
    "pow.Tensor_Scalar": _plain("pow"),
    "pow.Tensor_Tensor": _plain("pow"),
    "pow.Scalar": lambda a, b: formula("exp", formula("mul", b, math.log(a))),
    "maximum.default": _plain("max"),
    "minimum.default": _plain("min"),
    "clamp.default": _clamp,
    "clamp.Tensor": _clamp,
    "clamp_min.default": _plain("max"),
    "clamp_max.default": _plain("min"),
    "neg.default": _plain("neg"),
    "abs.default": _plain("abs"),
    "sign.default": _sign,
    "sgn.default": _sign,
    "sqrt.default": _plain("sqrt"),
    "rsqrt.default": lambda x: formula("div", 1.0, formula("sqrt", x)),
    "reciprocal.default": lambda x: formula("div", 1.0, x),
    "exp.default": _plain("exp"),
    "log.default": _plain("log"),
    "log10.default": lambda x: formula("mul", formula("log", x), 1 / math.log(10)),
    "log2.default": lambda x: formula("mul", formula("log", x), 1 / math.log(2)),
    "exp2.default": lambda x: formula("exp", formula("mul", x, math.log(2))),
    "sin.default": _plain("sin"),
    "cos.default": _plain("cos"),
    "expm1.default": _plain("expm1"),
    "log1p.default": _plain("log1p"),
    "tanh.default": _plain("tanh"),
    "sigmoid.default": _plain("sigmoid"),
    "floor.default": _plain("floor"),
    "relu.default": lambda x: formula("max", x, 0.0),
    "threshold_backward.default": lambda g, x, t: formula("where", formula("le", x, t), 0.0, g),
    "tanh_backward.default": lambda g, y: formula("mul", g, formula("sub", 1.0, formula("mul", y, y))),
    "sigmoid_backward.default": lambda g, y: formula("mul", g, formula("mul", y, formula("sub", 1.0, y))),
    "where.self": _plain("where"),
    "where.ScalarSelf": _plain("where"),
    "where.ScalarOther": _plain("where"),
    "masked_fill.Scalar": lambda x, mask, value: formula("where", mask, value, x),
    "masked_fill.Tensor": lambda x, mask, value: formula("where", mask, value, x),
    "logical_and.default": _plain("and"),
    "logical_or.default": _plain("or"),
    "logical_not.default": _plain("not"),
    "bitwise_and.Tensor": _plain("and"),
    "bitwise_or.Tensor": _plain("or"),
    "bitwise_not.default": _plain("not"),
    "copy.default": _copied,
    "addcmul.default": lambda x, a, b, value=1: formula("add", x, _times(formula("mul", a, b), value)),
    "addcdiv.default": lambda x, a, b, value=1: formula("add", x, _times(formula("div", a, b), value)),
    **{f"prims.{name}.default": _plain(name) for name in PRIMITIVES},
    "prims.rsqrt.default": lambda x: formula("div", 1.0, formula("sqrt", x)),
    **{
        f"{name}.{kind}": _plain(name) for name in ("lt", "le", "gt", "ge", "eq", "ne") for kind in ("Scalar", "Tensor")
    },
}
