"""Whether a call was answered right: the numbers of the plain call, or a clear error, and nothing else changed.

An error is clear when metaest (or scikit-learn's checks) raised it in so many words: the frame that raised it is one of
theirs, by a `raise` statement, the type is one that the documentation names, and the message says what is wrong in words of
the caller's. Everything else, such as numpy's words about a failed conversion, is a failure.
"""

import contextlib
import dis
import os
import pickle
import random
import re
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from attacks.hostile import Given

SECONDS = 60  # longer is a hang
PACKAGES = ("metaest", "metaest_domains", "metaest_datasets")
CHECKS = ("sklearn.utils", "sklearn.base", "sklearn.metrics", "sklearn.preprocessing")
EXPLICIT = {dis.opmap[name] for name in ("RAISE_VARARGS", "RERAISE") if name in dis.opmap}

RAW = re.compile(
    "|".join(
        [
            "Expected all tensors", "setting an array element", "ufunc", "annot convert", "could not convert", "must be real number",
            "object has no attribute", "is not subscriptable", "unsupported operand", "not iterable", r"has no len\(",
            "truth value", "unhashable type", "could not be broadcast", "shape mismatch", "size of tensor", "can't convert",
            "annot cast", "cannot be interpreted", "not supported between", "invalid literal", "does not require grad",
            "Tensor that requires grad", "only length-1 arrays", r"float\(\) argument", "implicit conversion",
            "inhomogeneous shape", "index out of", "cannot reshape", "Buffer dtype", "must be str", "can't be cast",
            "Traceback", "surrogates not allowed",
        ]
    )
)  # fmt: skip
WORDS = re.compile(
    r"\b(X|y|groups?|sample_weight|weights?|tasks?|rows?|columns?|labels?|frame|support|names?|samples?|features?|parameters?|models?|estimators?|np.matrix|inputs?|meta-loss|adaptation|tensor|data|matrices|path|damaged|"
    r"files?|cache|returns?|prices?|positions?|trials|regimen|doses?|times?|readings?|glucose|histor(y|ies)|fraction|"
    r"temperature|horizons|covariates?|dates?|asset|[Pp]opulations?|standard error|constants?|noise|provenance|Block|formula|functions|settings)\b"
)
REFUSALS = (ValueError, TypeError, ArithmeticError)
NEVER = (OverflowError, ZeroDivisionError, FloatingPointError, UnicodeError)


def _tracebacks(error: BaseException) -> list[traceback.FrameSummary | Any]:
    frames, tb = [], error.__traceback__
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    return frames


def unclear(error: BaseException, words: tuple[str, ...] = (), kinds: tuple[type, ...] = ()) -> str | None:
    """Return what is wrong with an error, or None where it is clear.

    Parameters
    ----------
    error : exception
    words : tuple of str
        Names of arguments, one of which the message may mention instead of rows, columns or tasks.
    kinds : tuple of type
        Further types that this call documents.
    """
    last = _tracebacks(error)[-1]
    module = last.tb_frame.f_globals.get("__name__", "?")
    place = f"{module}:{last.tb_lineno}"
    message = str(error)
    if not isinstance(error, (*REFUSALS, *kinds)) or (isinstance(error, NEVER) and not isinstance(error, kinds)):
        return f"{type(error).__name__} at {place}: {message[:200]}"
    if isinstance(error, OSError):  # a documented one: of the file system's
        return None
    ours = module.split(".")[0] in PACKAGES
    if not ours and not module.startswith(CHECKS):
        return f"raised by {place}, not by a check: {type(error).__name__}: {message[:200]}"
    if ours and last.tb_frame.f_code.co_code[last.tb_lasti] not in EXPLICIT:
        return f"raised by an operation at {place}, not by a check: {type(error).__name__}: {message[:200]}"
    # words that scikit-learn's checks of estimators look for
    if RAW.search(message.replace("(an argument must be a string or a real number)", "")):
        return f"raw words at {place}: {message[:300]}"
    if not WORDS.search(message) and not any(word in message for word in words):
        return f"names nothing, at {place}: {message[:200]}"
    if len(message) > 800:
        return f"{len(message)} characters at {place}: {message[:200]}"
    return None


# ---- what must not change ---------------------------------------------------------------------------------------


def process_state() -> dict[str, Any]:
    """Return the state of the process that a call must leave as it is."""
    return {
        "numpy's generator": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "Python's generator": hash(random.getstate()),
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's threads": torch.get_num_threads(),
        "gradients enabled": torch.is_grad_enabled(),
        "warning filters": list(warnings.filters),
        "numpy's error handling": np.geterr(),
        "environment": dict(os.environ),
        "threads alive": threading.active_count(),
    }


def imprint(value: Any) -> Any:
    """Return what tells whether an input was changed in place, or None where nothing can."""
    if isinstance(value, np.ma.MaskedArray):
        return value.data.tobytes(), np.ma.getmaskarray(value).tobytes()
    if isinstance(value, np.ndarray) and value.dtype.kind not in ("O", "T"):
        return value.tobytes(), value.shape, value.dtype.str, value.flags.writeable
    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided or value.device.type == "meta":
            return None
        return (
            value.detach().clone().reshape(-1).tolist(),
            value.requires_grad,
            value.grad is None if value.is_leaf else True,
        )
    if isinstance(value, (pd.DataFrame, pd.Series)):
        return imprint(value.to_numpy()), value.shape, str(getattr(value, "columns", ""))
    if isinstance(value, (list, tuple)):
        return repr(value)
    if isinstance(value, np.ndarray):
        return repr(value.tolist())
    if sparse.issparse(value):
        return value.toarray().tobytes()
    return None


@contextlib.contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TimeoutError(f"no answer within {SECONDS} s")

    alone = threading.current_thread() is threading.main_thread()
    if alone:
        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        if alone:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


def flatten(result: Any) -> np.ndarray | None:
    """Return the numbers of a result as one vector, words as hashes; None where there are none."""
    if result is None or isinstance(result, (str, bool)):
        return None
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, (pd.DataFrame, pd.Series)):
        result = result.to_numpy()
    if isinstance(result, (list, tuple)):
        parts = [part for part in (flatten(item) for item in result) if part is not None]
        return np.concatenate(parts) if parts else None
    if isinstance(result, torch.Tensor):
        result = result.detach().numpy()
    array = np.asarray(result)
    if array.dtype.kind in "iufb":
        return array.astype(np.float64).ravel()
    if array.dtype.kind in "US":
        return np.array([float(hash(word) % 2**31) for word in array.ravel().tolist()])
    if array.dtype == object:
        numbers = [cell for cell in array.ravel().tolist() if isinstance(cell, (int, float))]
        return np.array(numbers, dtype=np.float64)
    return None


class Outcome:
    """What one call did: its numbers or its error, its warnings, and what it changed that it must not.

    Parameters
    ----------
    call : callable
        Without arguments.
    words : tuple of str
        Names of arguments.
    kinds : tuple of type
        Further types of errors that the call documents.
    """

    def __init__(self, call: Callable[[], Any], words: tuple[str, ...] = (), kinds: tuple[type, ...] = ()) -> None:
        self.numbers: np.ndarray | None = None
        self.error: BaseException | None = None
        self.failure: str | None = None
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            before = process_state()
            try:
                with _alarm():
                    self.numbers = flatten(call())
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # a panic of Rust is no Exception
                self.error = error
                self.failure = unclear(error, words, kinds)
            after = process_state()
        self.warnings = given
        changed = [name for name, value in before.items() if after[name] != value]
        if changed:
            self.failure = f"changed: {', '.join(changed)}"
            np.random.set_state(pickle.loads(before["numpy's generator"]))  # noqa: NPY002
        for warning in given:
            if not _is_said(warning):
                self.failure = self.failure or (
                    f"warning {warning.category.__name__} at {os.path.basename(warning.filename)}:{warning.lineno}: "
                    f"{str(warning.message)[:150]}"
                )
        finite = self.numbers is None or bool(np.isfinite(self.numbers).all())
        if self.failure is None and not finite and not given:
            self.failure = "NaN or infinity returned without a warning"

    @property
    def refused(self) -> bool:
        """Whether the call raised."""
        return self.error is not None


def _is_said(warning: warnings.WarningMessage) -> bool:
    """Whether a warning is in words of metaest or of scikit-learn's checks, and no accident of numpy or torch."""
    if issubclass(warning.category, (DeprecationWarning, FutureWarning, PendingDeprecationWarning)):
        return False
    module = warning.category.__module__
    if module.split(".")[0] in PACKAGES or module.startswith("sklearn"):
        return True
    return warning.category is UserWarning and not re.search("tensor|torch|numpy", str(warning.message))


def judge(
    call: Callable[..., Any],
    given: Mapping[str, Given],
    *,
    kinds: tuple[type, ...] = (),
    state: Callable[[], Any] | None = None,
    compare: bool = True,
) -> tuple[str, str]:
    """Make a hostile call and say how it went.

    Parameters
    ----------
    call : callable
        Takes the arguments by name.
    given : mapping of str to Given
    kinds : tuple of type
        Further types of errors that the call documents.
    state : callable, optional
        Returns what a failed call must leave as it is, such as the bytes of a prediction.
    compare : bool
        Whether the plain values are passed as well, for the right answer.

    Returns
    -------
    str
        "right", "refused" or "failure".
    str
        What the failure is.
    """
    words = tuple(given)
    refuse = any(one.refuse for one in given.values())
    plain = all(one.value is one.plain for one in given.values())
    before = {name: imprint(one.value) for name, one in given.items()}
    held = state() if state else None
    result = Outcome(lambda: call(**{name: one.value for name, one in given.items()}), words, kinds)
    if result.failure:
        return "failure", result.failure
    for name, one in given.items():
        if before[name] is not None and not _same(before[name], imprint(one.value)):
            return "failure", f"{name} was changed in place"
    if result.refused and state and not _same(held, state()):
        return "failure", "a refused call changed the estimator"
    if refuse and not result.refused:
        return "failure", "accepted, though no answer is right"
    if not compare or plain or refuse:
        if result.refused and not refuse and all(one.sure for one in given.values()):
            return "failure", f"refused, though it is plain: {str(result.error)[:300]}"
        return ("refused" if result.refused else "right"), ""
    right = Outcome(lambda: call(**{name: one.plain for name, one in given.items()}), words, kinds)
    if right.failure:
        return "failure", f"with plain arrays: {right.failure}"
    if result.refused:
        if not right.refused and all(one.sure for one in given.values()):
            return "failure", f"refused, though the same numbers in a plain array are not: {str(result.error)[:300]}"
        return "refused", ""
    if right.refused:
        return "failure", f"accepted, though a plain array is refused: {str(right.error)[:200]}"
    if not _agree(result.numbers, right.numbers, max(one.rtol for one in given.values())):
        return "failure", f"another answer than for a plain array: {result.numbers} and {right.numbers}"[:300]
    return "right", ""


def _same(before: Any, after: Any) -> bool:
    return repr(before) == repr(after)


def _agree(one: np.ndarray | None, other: np.ndarray | None, rtol: float) -> bool:
    if one is None or other is None:
        return one is other
    if one.shape != other.shape:
        return False
    if not len(one):
        return True
    largest = np.abs(other[np.isfinite(other)]).max(initial=1e-300)
    if largest > 1e12:  # beyond this, single and double precision overflow at different places
        return True
    return bool(np.allclose(one, other, rtol=rtol, atol=rtol * max(largest, 1.0), equal_nan=True))
