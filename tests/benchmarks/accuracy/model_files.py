"""Print the table of "Files of models" in safe.md: sizes, times, and what comes of damaged and of forged files.

python tests/benchmarks/accuracy/model_files.py [how many files, 1000 by default]
"""

import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

import damage
from metaest import MAMLRegressor, load, save
from metaest.exceptions import ModelFileError
from metaest_datasets import load_theophylline
from metaest_domains.physiology import OneCompartmentRegressor


def milliseconds(function, times=5):
    """Return the least processor time of a call."""
    spent = []
    for _ in range(times):
        start = time.process_time()
        function()
        spent.append(time.process_time() - start)
    return 1e3 * min(spent)


def outcome(content, path, passed):
    """Return what comes of a file: an error, a model, or something else."""
    path.write_bytes(content)
    try:
        thing = load(path, **passed)
    except ModelFileError:
        return "ModelFileError"
    try:
        thing.predict(load_theophylline()[0].X)
    except Exception as error:
        return f"loads, and predict raises {type(error).__name__}"
    return "loads and predicts"


def main(n):
    """Fit, save, measure, damage."""
    tasks, folder = load_theophylline(), Path(tempfile.mkdtemp())
    X, y = tasks[11].X[:4], tasks[11].y[:4]
    files = []
    print("| file | bytes | save, ms | load, ms |\n|---|---|---|---|")
    for name, model in (
        ("compartment model", OneCompartmentRegressor(random_state=0)),
        ("default network", MAMLRegressor(random_state=0)),
        ("network of 64 x 64", MAMLRegressor(hidden_layer_sizes=(64, 64), random_state=0)),
    ):
        model.fit(tasks[:11])
        patient = model.adapt(X, y, guard=True)
        for what, thing, passed in (("model", model, {}), ("patient of four samples", patient, {"model": model})):
            path = folder / "file"
            save(thing, path)
            files.append((path.read_bytes(), passed))
            saving = milliseconds(lambda thing=thing, path=path: save(thing, path))
            loading = milliseconds(lambda path=path, passed=passed: load(path, **passed))
            print(f"| {name}, {what} | {len(files[-1][0]):,} | {saving:.1f} | {loading:.1f} |")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print("\n| files | outcome | |\n|---|---|---|")
    for name, kinds, make in (
        ("cut, longer, flipped, swapped, noise", damage.ACCIDENTS, damage.accident),
        ("forged, with a right hash", damage.FORGERIES, damage.forgery),
    ):
        found, rng = Counter(), np.random.default_rng(0)
        for i in range(n):
            content, passed = files[i % len(files)]
            changed = make(content, kinds[i // len(files) % len(kinds)], rng)
            if changed != content:
                found[outcome(changed, folder / "file", passed)] += 1
        for what, count in found.most_common():
            print(f"| {name} | {what} | {count:,} |")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e3
    print(f"\nMost memory beyond what the fits took: {grown:.0f} MB; no process died.")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
