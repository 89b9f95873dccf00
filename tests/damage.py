"""Files that are not what `save` wrote: by accident, or by somebody who can compute a hash."""

import contextlib
import copy
import json
import math
import zlib

import torch

from metaest.saving import container

ACCIDENTS = ("cut", "longer", "bit", "bytes", "swapped", "zeros", "noise", "length", "twice", "empty")
FORGERIES = (
    "value", "class", "gone", "deep", "wide", "number", "shape", "tensor", "nan", "negative", "reference", "settings",
    "format", "name", "list",
)  # fmt: skip
ODD = (
    None, True, -1, 0, 2**63, -(2**70), 1e308, "", "x" * 1000, "../../etc/passwd", "os.system", [], {}, [[]], {"dict": {}},
    {"class": "os.system"}, {"ref": 10**9}, {"range": [0, 10**12, 1]}, {"tuple": []}, {"float": "nan"},
    {"tensor": {"type": "float32", "shape": [10**9, 10**9], "values": []}}, {"bytes": "zz"}, {"given": "eval"},
    {"array": "X", "dtype": "<U1000000"}, {"scalar": {"array": "q", "dtype": "O"}}, {"device": "meta"},
)  # fmt: skip


def accident(content, kind, rng):
    """Return bytes of which some were lost or changed."""
    changed = bytearray(content)
    if kind == "cut":
        return content[: rng.integers(len(content))]
    if kind == "longer":
        return content + rng.bytes(int(rng.integers(1, 100)))
    if kind == "bit":
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    elif kind == "bytes":
        at = int(rng.integers(len(changed)))
        changed[at : at + 20] = rng.bytes(len(changed[at : at + 20]))
    elif kind == "swapped":
        half = int(rng.integers(1, len(changed)))
        changed = changed[half:] + changed[:half]
    elif kind == "zeros":
        at = int(rng.integers(len(changed)))
        changed[at : at + 64] = bytes(len(changed[at : at + 64])) if any(changed[at : at + 64]) else b"\1"
    elif kind == "noise":
        return rng.bytes(len(content))
    elif kind == "length":
        changed[:8] = [2**63, 2**64 - 1, 2**40, 2**31, 1][rng.integers(5)].to_bytes(8, "little")
    elif kind == "twice":
        return content + content
    elif kind == "empty":
        return b""
    return bytes(changed)


def forgery(content, kind, rng):
    """Return a file with another content whose hash is right."""
    header, tensors = container.unpack(content)
    header = copy.deepcopy(header)
    places = list(_places(header["object"], ()))
    path = places[rng.integers(len(places))]
    odd = copy.deepcopy(ODD[rng.integers(len(ODD))])
    if kind == "value":
        _set(header["object"], path, odd)
    elif kind == "class":
        names = [
            "Posterior",
            "MAMLRegressor",
            "Judge",
            "physiology.Doses",
            "Plan",
            "subprocess.Popen",
            "trading.Backtest",
        ]
        _each(header["object"], "class", lambda own: names[rng.integers(len(names))] if rng.random() < 0.3 else own)
    elif kind == "gone":
        _remove(header["object"], path)
    elif kind == "deep":
        nested = []
        for _ in range(int(rng.choice([70, 500, 3000]))):
            nested = [nested]
        _set(header["object"], path, nested)
    elif kind == "wide":
        _set(header["object"], path, list(range(10_000)))
    elif kind == "number":
        numbers = [own for own in places if type(_get(header["object"], own)) in (int, float)]
        if numbers:
            _set(header["object"], numbers[rng.integers(len(numbers))], rng.choice([-1, 10**15, 1e300, 0, 7]).item())
    elif kind == "shape":
        shapes = [own for own in places if own and own[-1] == "shape"]
        if shapes:
            _set(header["object"], shapes[rng.integers(len(shapes))], [int(own) for own in rng.integers(-1, 10**12, 3)])
        tensors = {name: own.reshape(-1) if rng.random() < 0.5 else own for name, own in tensors.items()}
    elif kind == "tensor":
        tensors = {name: _other(own, rng) if rng.random() < 0.3 else own for name, own in tensors.items()}
        _each(header["object"], "values", lambda own: own[1:] if rng.random() < 0.3 else own)
    elif kind == "nan":
        tensors = {n: torch.full_like(own, math.nan) if own.is_floating_point() else own for n, own in tensors.items()}
        _each(header["object"], "values", lambda own: ["nan" if type(one) is float else one for one in own])
    elif kind == "negative":
        tensors = {name: -own if own.is_floating_point() else own for name, own in tensors.items()}
        _each(header["object"], "values", lambda own: [-one if type(one) is float else one for one in own])
    elif kind == "reference":
        _set(header["object"], path, {"ref": int(rng.integers(1, 5))})
    elif kind == "settings":
        _each(
            header["object"],
            "settings",
            lambda own: {name: odd if rng.random() < 0.2 else v for name, v in own.items()},
        )
    elif kind == "format":
        header["format"] = [99, 0, -1, "1", None, 1.0][rng.integers(6)]
    elif kind == "name":
        _each(header["object"], "fields", lambda own: {**own, "predict": odd} if rng.random() < 0.5 else own)
    elif kind == "list":
        header["object"] = odd
    return _sealed(header, tensors, content)


def _sealed(header, tensors, content):
    inline = content.startswith(b"{")
    try:
        return container.pack(header, None if inline else tensors)
    except (ValueError, TypeError, RecursionError):  # JSON itself refuses
        return json.dumps({"metaest": "model", "format": 1, "object": {}}).encode()


def bomb():
    """Return a predictor's file of a few kilobytes that unpacks to gigabytes."""
    return container.PACKED + zlib.compress(bytes(2**31 // 8), 9)


def _places(node, path):
    yield path
    if isinstance(node, dict):
        for name, own in node.items():
            yield from _places(own, (*path, name))
    elif isinstance(node, list):
        for i, own in enumerate(node[:50]):
            yield from _places(own, (*path, i))


def _get(node, path):
    for step in path:
        node = node[step]
    return node


def _set(node, path, value):
    if path:
        _get(node, path[:-1])[path[-1]] = value


def _remove(node, path):
    if path:
        del _get(node, path[:-1])[path[-1]]


def _each(node, name, change):
    if isinstance(node, dict):
        for key in list(node):
            if key == name:
                with contextlib.suppress(TypeError, AttributeError):
                    node[key] = change(node[key])
            _each(node[key], name, change)
    elif isinstance(node, list):
        for own in node:
            _each(own, name, change)


def _other(tensor, rng):
    how = rng.integers(4)
    if how == 0:
        return tensor.to(torch.int32)
    if how == 1:
        return tensor.double() if tensor.dtype == torch.float32 else tensor.float()
    if how == 2:
        return torch.cat([tensor.reshape(-1), tensor.reshape(-1)])
    return tensor.reshape(-1)[:-1]
