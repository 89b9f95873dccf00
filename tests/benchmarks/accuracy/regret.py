"""Regret of the default: AutoMetaRegressor beside every fixed choice and what users take else, on 14 collections.

Tasks are left out in folds; a method is fitted on the others, adapted to 1, 3, 5 and 10 rows of each left-out task (as
many as leave two), and judged on its other rows. Every choice of AutoMetaRegressor is made inside the folds. The
regret of a collection is the geometric mean over numbers of rows of the default's root mean squared error over that of
the best fixed candidate. Four tables: the regret; each candidate beside the best one; what the default loses without
one of its parts; and what a guard changes.

    python tests/benchmarks/accuracy/regret.py --output FILE
    python tests/benchmarks/accuracy/regret.py --output FILE --only levels trends

Simulated families are drawn from the seed in the command (``--seed``); real data come from ``METAEST_DATA_HOME``, and
are skipped where they are not there. Results are kept in the file, and those that are there are not computed again.
"""

import argparse
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from machine import describe
from pooled_baselines import SHOTS, PooledBoosting, PooledGP, RidgePerTask
from sklearn.base import clone
from sklearn.utils import check_random_state
from task_collections import COLLECTIONS

from metaest import AutoMetaRegressor, MAMLRegressor
from metaest.selection.candidates import default_candidates
from metaest.selection.choice import choose
from metaest.selection.episodes import feasible_shots
from metaest.selection.folds import folds
from metaest.selection.held_out import predict_held_out
from metaest.selection.targets import FEWEST_QUERY, Numbers

# folds; then at most: tasks of a fold that are judged on, episodes that are guarded for a number of rows, query rows
FOLDS, MOST_TASKS, MOST_GUARDED, MOST_QUERY = 3, 60, 12, 50
# methods whose guard is measured, beside the default
GUARDED = ("MAML", "fixed: network by evidence")
BASELINES = {"pooled boosting": PooledBoosting, "ridge a task": RidgePerTask, "pooled GP": PooledGP}
# what the default is without, and the candidates that this takes away
PARTS = {
    "evidence": ("network by evidence",),
    "Gaussian process": ("Gaussian process",),
    "trees": ("boosted trees and levels", "boosted trees and slopes"),
    "random coefficients": ("linear mixed model", "boosted trees and levels", "boosted trees and slopes"),
}


def episodes(tasks, left_out, seed):
    """Draw few rows to adapt on and others to predict, of each left-out task."""
    draws = 3 if len(tasks) < 30 else 1
    for shot in SHOTS:
        for i in left_out:
            task = tasks[int(i)]
            if len(task) < shot + FEWEST_QUERY:
                continue
            rng = np.random.default_rng([seed, shot, int(i)])
            for _ in range(draws):
                order = rng.permutation(len(task))
                few, rest = order[:shot], order[shot : shot + MOST_QUERY]
                yield shot, task.X[few], task.y[few], task.X[rest], task.y[rest]


def timed(call):
    """Return what a call gives, and its seconds of CPU."""
    started = time.process_time()
    result = call()
    return result, time.process_time() - started


def ablated(candidates, tasks, same):
    """Return the weights of the default's candidates where some of them, or averages, are taken away."""
    rng = np.random.default_rng(same)
    parts = folds(tasks.sizes >= min(SHOTS) + FEWEST_QUERY, AutoMetaRegressor().cv, rng)
    shots = feasible_shots(tasks.sizes, SHOTS, Numbers().unit)
    shots = feasible_shots(tasks.sizes[np.concatenate([of for _, of in parts])], shots, Numbers().unit)
    held_out = predict_held_out(Numbers(), [(c.name, c.trial) for c in candidates], tasks, parts, shots, "random", same)
    weights = {"averages": choose(held_out, shots, averages=False).weights}
    for part, gone in PARTS.items():
        left = {name: values for name, values in held_out.predictions.items() if name not in gone}
        if left and len(left) < len(held_out.predictions):
            weights[part] = choose(replace(held_out, predictions=left), shots, averages=True).weights
    even = {name: 1 / len(held_out.predictions) for name in held_out.predictions}
    return {**weights, "learned weights": even}


def one_fold(tasks, training, left_out, seed):
    """Return the errors and seconds of all methods, and what the default chose."""
    learned, out, answers = tasks[training], {}, {}
    for baseline, kind in BASELINES.items():
        fitted, seconds = timed(lambda kind=kind: kind().fit(learned))
        answers[baseline], out[baseline] = fitted.answer, {"seconds": seconds}
    model, seconds = timed(lambda: AutoMetaRegressor(random_state=seed).fit(learned))
    out["default"] = {"seconds": seconds, "weights": model.weights_, "choice": model.choice_}
    models = {"default": model}
    models["MAML"], seconds = timed(lambda: MAMLRegressor(random_state=seed).fit(learned))
    out["MAML"] = {"seconds": seconds}
    # the seed that the default gives its candidates
    same = int(check_random_state(seed).randint(2**31 - 1))
    compared = model.table_.index[model.table_["status"] == "compared"]
    candidates = [c for c in default_candidates(learned, "random", same) if c.name in compared]
    for candidate in candidates:
        name = f"fixed: {candidate.name}"
        models[name], seconds = timed(lambda c=candidate: clone(c.estimator).fit(learned))
        out[name] = {"seconds": seconds}
    weights = ablated(candidates, learned, same) if len(candidates) > 1 else {}
    guarded = [name for name in ("default", *GUARDED) if name in models]
    for name in [
        *answers,
        *models,
        *(f"without {part}" for part in weights),
        *(f"{name}, guarded" for name in guarded),
    ]:
        out.setdefault(name, {})["errors"] = {str(shot): [] for shot in SHOTS}
    for shot, X, y, query, truth in episodes(tasks, left_out[:MOST_TASKS], seed):
        predicted = {name: answer(X, y, query) for name, answer in answers.items()}
        for name, fitted in models.items():
            predicted[name], seconds = timed(lambda m=fitted: m.adapt(X, y, guard=False).predict(query))  # noqa: B023
            out[name].setdefault("adapting", []).append(seconds)
        for part, of_part in weights.items():
            predicted[f"without {part}"] = sum(w * predicted[f"fixed: {name}"] for name, w in of_part.items())
        for name in guarded:
            if len(out[f"{name}, guarded"]["errors"][str(shot)]) < MOST_GUARDED:
                answer, seconds = timed(lambda m=models[name]: m.adapt(X, y, guard=True).predict(query))  # noqa: B023
                predicted[f"{name}, guarded"] = answer
                out[f"{name}, guarded"].setdefault("adapting", []).append(seconds)
        for name, values in predicted.items():
            out[name]["errors"][str(shot)].append(float(np.mean((values - truth) ** 2)))
    return out


def kept(path, name, make, seed):
    """Return the results of a collection, computed fold by fold where they are not in the file."""
    done = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    of_name = {entry["fold"]: entry for entry in done if entry["collection"] == name and entry["seed"] == seed}
    tasks = make(np.random.default_rng([seed, len(name)]))
    order = np.random.default_rng(seed).permutation(len(tasks))
    for fold, left_out in enumerate(np.array_split(order, FOLDS)):
        if fold in of_name:
            continue
        training = np.setdiff1d(order, left_out)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = one_fold(tasks, training, np.sort(left_out), seed)
        of_name[fold] = {"collection": name, "seed": seed, "fold": fold, "tasks": len(tasks), "results": results}
        with path.open("a") as file:
            file.write(json.dumps(of_name[fold]) + "\n")
    return [of_name[fold] for fold in range(FOLDS)]


def squares(entries, method, shot):
    """Return the mean squared errors of a method, of each episode of all folds."""
    return [value for entry in entries for value in entry["results"][method]["errors"][str(shot)]]


def summary(entries):
    """Return root mean squared errors by method and number of rows, over the tasks of all folds."""
    methods = set.intersection(*(set(entry["results"]) for entry in entries))
    table = {}
    for method in sorted(methods):
        values = [squares(entries, method, shot) for shot in SHOTS]
        table[method] = np.array([np.sqrt(np.mean(of_shot)) if of_shot else np.nan for of_shot in values])
    return table


def ratio(one, other):
    """Return the geometric mean of the ratio of errors over the numbers of rows that both have."""
    return float(np.exp(np.nanmean(np.log(one / other))))


def guard_ratio(entries, method):
    """Return the same ratio of a guarded method to itself without a guard, on the episodes that both saw."""
    logs = []
    for shot in SHOTS:
        pairs = [
            (guarded, plain)
            for entry in entries
            for guarded, plain in zip(
                entry["results"].get(f"{method}, guarded", {}).get("errors", {}).get(str(shot), []),
                entry["results"].get(method, {}).get("errors", {}).get(str(shot), []),
                strict=False,
            )
        ]
        if pairs:
            guarded, plain = np.mean(pairs, axis=0)
            logs.append(0.5 * np.log(guarded / plain))
    return float(np.exp(np.mean(logs))) if logs else np.nan


def adapting(entry, method):
    """Return the CPU seconds of a method's adaptations with their predictions."""
    return entry["results"].get(method, {}).get("adapting", [])


def show(name, entries, table):
    """Print the errors of all methods, and the choices of the default."""
    print(f"\n{name}: {entries[0]['tasks']} tasks")
    for method, errors in table.items():
        seconds = np.mean([entry["results"][method].get("seconds", np.nan) for entry in entries])
        shown = " ".join(f"{value:9.4g}" for value in errors)
        print(f"  {method:42} {shown}   {ratio(errors, table['default']):6.3f} of the default's   {seconds:6.1f} s")
    for entry in entries:
        print(f"    fold {entry['fold']}: {entry['results']['default']['choice']}")


def print_table(header, lines, *, means=False):
    """Print a table; with `means` also geometric mean, least and greatest of each column of numbers."""
    if means:
        columns = [
            [value for value in column if not isinstance(value, str)] for column in list(zip(*lines, strict=True))[1:]
        ]
        for name, of in (
            ("geometric mean", lambda v: np.exp(np.log(v).mean())),
            ("least", np.min),
            ("greatest", np.max),
        ):
            lines = [*lines, [name, *(float(of(values)) if values else "-" for values in columns)]]
    print(f"\n| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for line in lines:
        print(f"| {' | '.join(number if isinstance(number, str) else f'{number:.3f}' for number in line)} |")


def main(arguments):
    torch.set_num_threads(1)
    print(describe())
    results = {}
    for name in arguments.only or COLLECTIONS:
        try:
            entries = kept(arguments.output, name, COLLECTIONS[name], arguments.seed)
        except (OSError, LookupError) as error:
            print(f"{name}: skipped: {error}")
            continue
        entries = json.loads(json.dumps(entries))
        results[name] = entries, summary(entries)
        show(name, *results[name])
    if results:
        tables(results)


def is_fixed(method):
    """Tell whether a method is one of the candidates, fitted alone."""
    return method.startswith("fixed: ") and not method.endswith(", guarded")


def tables(results):
    """Print the four tables."""
    regrets, regret_lines, fixed_lines, part_lines, guard_lines = [], [], [], [], []
    names = list(dict.fromkeys(m for _, table in results.values() for m in table if is_fixed(m)))
    parts = ["averages", *PARTS, "learned weights"]
    for name, (entries, table) in results.items():
        default, n_tasks = table["default"], entries[0]["tasks"]
        fixed = {method: errors for method, errors in table.items() if is_fixed(method)}
        best = min(fixed, key=lambda method: ratio(fixed[method], default))
        regrets.append((ratio(default, fixed[best]), n_tasks))
        others = [ratio(default, table[baseline]) for baseline in [*BASELINES, "MAML"]]
        seconds = [
            f"{np.mean([e['results'][method]['seconds'] for e in entries]):.0f}" for method in ("default", "MAML")
        ]
        regret_lines.append([name, f"{n_tasks}", regrets[-1][0], best.removeprefix("fixed: "), *others, *seconds])
        choices = ["default", *names, "MAML"]
        fixed_lines.append([name, *(ratio(table[m], table[best]) if m in table else "-" for m in choices)])
        part_lines.append([name])
        for part in parts:
            method = f"without {part}"
            part_lines[-1].append(ratio(table[method], default) if method in table else "-")
        ratios = [guard_ratio(entries, method) for method in ("default", *GUARDED)]
        guard_lines.append([name, *("-" if np.isnan(value) else value for value in ratios)])
    print_table(
        ["collection", "tasks", "regret", "best fixed", *BASELINES, "MAML", "CPU s", "CPU s of MAML"], regret_lines
    )
    for least in (1, 30):
        values = np.array([regret for regret, n_tasks in regrets if n_tasks >= least])
        if len(values):
            mean = np.exp(np.log(values).mean())
            print(f"{len(values)} collections of {least} tasks or more: mean {mean:.3f}, worst {values.max():.3f}")
    print_table(
        ["over the best", "default", *(m.removeprefix("fixed: ") for m in names), "MAML"], fixed_lines, means=True
    )
    print_table(["without", *parts], part_lines, means=True)
    print_table(
        ["guarded / not", "default", *(method.removeprefix("fixed: ") for method in GUARDED)], guard_lines, means=True
    )
    for method in ("default", *GUARDED):
        plain, guarded = (
            [
                1000 * seconds
                for entries, _ in results.values()
                for entry in entries
                for seconds in adapting(entry, name)
            ]
            for name in (method, f"{method}, guarded")
        )
        if plain and guarded:  # the median leaves out the first guarded one of each fit, which learns the guard
            print(f"{method}: {np.median(plain):.1f} ms to adapt and predict, guarded {np.median(guarded):.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("regret.jsonl"), help="file of results")
    parser.add_argument("--only", nargs="*", choices=list(COLLECTIONS), help="collections")
    parser.add_argument("--seed", type=int, default=0)
    main(parser.parse_args())
