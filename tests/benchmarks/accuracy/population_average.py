"""Five published models of vancomycin averaged: patients simulated from each in turn, adapted to 1, 2 and 4 levels.

All vancomycin models that `load_published` has; the patients of all have covariates from one distribution, so that some are
unlike those of the papers on the obese. Errors are those of the curve at later times, with the constants drawn: root mean
squares of its logarithm and in mg/L, over patients and times. The average knows all five models and not which is true. Beside
it: the true model, the best and the worst of the other four (each chosen in hindsight), and the selection of one by the same
weights. "Learned": with weights and temperature from 60 further patients of all five. Then 30 further patients of the true model teach
temperature and weights, with the true model among those averaged and without it.

    python tests/benchmarks/accuracy/population_average.py --patients 200
"""

import argparse
import time
import warnings
from typing import Any

import numpy as np
import torch
from machine import describe

from metaest import PopulationAverage, Task, TaskSet
from metaest.exceptions import quiet
from metaest_domains.physiology import (
    Regimen,
    body_surface_area,
    creatinine_clearance,
    fat_free_mass,
    list_published,
    load_published,
    published_model,
)

NAMES = [name for drug, name in list_published()[["drug", "name"]].to_numpy().tolist() if drug == "vancomycin"]
N_DOSES = 6
# troughs, and one hour after the end of the second infusion
LEVELS = np.array([11.5, 14.5, 23.5, 35.5])
NUMBERS = (1, 2, 4)
LATER = np.array([38.5, 42.0, 47.5, 52.0, 59.5, 71.5])
LEAST = 0.5  # mg/L, below which a simulated level is reported as this


def patient(rng: np.random.Generator) -> Regimen:
    """Draw an adult, with 15 mg/kg every 12 hours, in steps of 250 mg up to 2,000 mg, each over 1.5 hours."""
    sex = "male" if rng.random() < 0.5 else "female"
    age, height = rng.uniform(20, 85), rng.normal(176, 7) if sex == "male" else rng.normal(163, 6.5)
    bmi = np.clip(29 * np.exp(0.22 * rng.normal()), 18, 55)
    creatinine = np.clip(np.exp(0.35 * rng.normal()), 0.4, 3.0)
    weight = bmi * (height / 100) ** 2
    ffm = fat_free_mass(weight, height, sex)
    covariates = {
        "weight": weight,
        "ffm": ffm,
        "bsa": body_surface_area(weight, height),
        "crcl": creatinine_clearance(age, weight, creatinine, sex),
        "crcl_ffm": creatinine_clearance(age, ffm, creatinine, sex),
        "dialysis": 0.0,
    }
    dose = min(2000.0, 250 * round(15 * weight / 250))
    return Regimen.repeated(dose, interval=12, n=N_DOSES, duration=1.5, **covariates)


def simulated(name: str, n: int, rng: np.random.Generator) -> tuple[TaskSet, np.ndarray]:
    """Return patients of one model with four levels each, and their curves at later times."""
    population = load_published("vancomycin", name)
    equation = published_model("vancomycin", name, n_doses=N_DOSES)
    root = np.linalg.cholesky(population.covariance() + 1e-12 * np.eye(len(population.constants)))
    tasks, curves = {}, []
    for i in range(n):
        regimen = patient(rng)
        rows = regimen.rows(np.concatenate([LEVELS, LATER]))
        typical = population.typical({column: regimen.covariates[column] for column in population.covariate_columns})
        values = np.array(list(typical.values())) * np.exp(root @ rng.normal(size=len(typical)))
        constants = {c: torch.tensor(v, dtype=torch.float64) for c, v in zip(typical, values.tolist(), strict=True)}
        X = torch.from_numpy(rows[list(equation.feature_names_in_)].to_numpy())
        curve = equation.equation_(X, **constants).numpy()
        numbers = population.noise.numbers()
        sd = np.hypot(numbers.get("sd", 0.0), numbers.get("cv", 0.0) * curve)[: len(LEVELS)]
        levels = np.maximum(curve[: len(LEVELS)] + sd * rng.normal(size=len(LEVELS)), LEAST)
        tasks[f"{name} {i}"] = (rows.iloc[: len(LEVELS)], levels)
        curves.append((rows.iloc[len(LEVELS) :], curve[len(LEVELS) :]))
    return TaskSet(tasks), curves


def errors(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean squares of the error of the logarithm and in mg/L of each patient, of shape (patients, 2)."""
    log = np.log(np.maximum(prediction, 1e-9) / truth)
    return np.stack([np.mean(log**2, axis=1), np.mean((prediction - truth) ** 2, axis=1)], axis=1)


def of_model(
    k: int, n_patients: int, seed: int, averages: dict[str, PopulationAverage]
) -> dict[int, dict[str, np.ndarray]]:
    """Return mean squares of errors of patients of one model by the number of levels: averages, and single models.

    "greatest" is the share of patients whose greatest weight is that of the true model.
    """
    tasks, later = simulated(NAMES[k], n_patients, np.random.default_rng([seed, 2, k]))
    truth = np.array([curve for _, curve in later])
    rows_later = {task.name: (rows, np.zeros(len(rows))) for task, (rows, _) in zip(tasks, later, strict=True)}
    asked = TaskSet(rows_later)
    table = {}
    for n in NUMBERS:
        few = TaskSet([Task(t.name, t.X[:n], t.y[:n], feature_names=tasks.feature_names) for t in tasks])
        squares = {}
        with quiet(Warning):
            for what, model in averages.items():
                adapted = model.adapt_many(few)
                squares[what] = errors(adapted.predict(asked).reshape(truth.shape), truth)
                if what == "average":
                    squares["greatest"] = np.array([(adapted.weights_.to_numpy().argmax(axis=1) == k).mean()])
                    for name, one in adapted.members_.items():
                        columns = list(one.feature_names_in_)
                        of_part = {task: (rows[columns], y) for task, (rows, y) in rows_later.items()}
                        squares[name] = errors(one.predict(of_part).reshape(truth.shape), truth)
        table[n] = squares
    return table


def read_by(model: PopulationAverage, tasks: TaskSet, n: int) -> TaskSet:
    """Return the first n rows of tasks with the columns that an average reads."""
    columns = list(model.feature_names_in_)
    chosen = [list(tasks.feature_names).index(column) for column in columns]
    return TaskSet([Task(t.name, t.X[:n, chosen], t.y[:n], feature_names=columns) for t in tasks])


def of_hospital(k: int, n_patients: int, seed: int) -> dict[Any, float]:
    """Return mean squares of errors, in mg/L, where 30 further patients of the same model have taught the average.

    Once all five models are averaged, and once the four others, so that none is true.
    """
    five = [(name, published_model("vancomycin", name, n_doses=N_DOSES)) for name in NAMES]
    four = [pair for pair in five if pair[0] != NAMES[k]]
    local, _ = simulated(NAMES[k], 30, np.random.default_rng([seed, 3, k]))
    learned: dict[str, Any] = {"split": "first", "random_state": 0}
    averages = {}
    for what, models, settings in (
        ("five, T and weights learned", five, learned),
        ("four", four, {}),
        ("four, T learned", four, {"weights": None, **learned}),
        ("four, T and weights learned", four, learned),
    ):
        plain = PopulationAverage(models, **settings).fit([])
        averages[what] = plain.fit(read_by(plain, local, len(LEVELS))) if settings else plain
    tasks, later = simulated(NAMES[k], n_patients, np.random.default_rng([seed, 2, k]))
    truth = np.array([curve for _, curve in later])
    result: dict[Any, float] = {}
    for n in NUMBERS:
        for what, model in averages.items():
            columns = list(model.feature_names_in_)
            asked = {t.name: (rows[columns], np.zeros(len(rows))) for t, (rows, _) in zip(tasks, later, strict=True)}
            with quiet(Warning):
                prediction = model.adapt_many(read_by(model, tasks, n)).predict(asked)
            result[n, what] = float(errors(prediction.reshape(truth.shape), truth)[:, 1].mean())
    return result


def print_hospitals(hospitals: list[dict[Any, float]], results: list[dict[int, dict[str, np.ndarray]]]) -> None:
    """Print root mean squares of errors in mg/L of averages that patients of the hospital have taught."""
    methods = [what for n, what in hospitals[0] if n == NUMBERS[0]]
    head = ["levels", "true model", "its error", "five", *methods]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for n in NUMBERS:
        rows = []
        for true, hospital, result in zip(NAMES, hospitals, results, strict=True):
            alone = [result[n][what][:, 1].mean() for what in (true, "average")]
            rows.append([*alone, *(hospital[n, what] for what in methods)])
        for true, row in zip([*NAMES, "all"], [*rows, np.mean(rows, axis=0)], strict=True):
            print(f"| {n} | {true} | {' | '.join(f'{value:.2f}' for value in np.sqrt(row))} |")


def print_errors(results: list[dict[int, dict[str, np.ndarray]]], averages: list[str], column: int) -> None:
    """Print root mean squares of errors, one row a true model and number of levels, and one for all models."""
    head = [
        "levels",
        "true model",
        "its error",
        *averages,
        "best wrong",
        "worst wrong",
        "average over true",
        "over worst",
    ]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for n in NUMBERS:
        rows = []
        for true, result in zip(NAMES, results, strict=True):
            square = {what: values[:, column].mean() for what, values in result[n].items() if what != "greatest"}
            wrong = [square[name] for name in NAMES if name != true]
            rows.append([square[true], *(square[what] for what in averages), min(wrong), max(wrong)])
        for true, row in zip([*NAMES, "all"], np.sqrt([*rows, np.mean(rows, axis=0)]), strict=True):
            numbers = " | ".join(f"{value:.3f}" for value in [*row, row[1] / row[0], row[1] / row[-1]])
            print(f"| {n} | {true} | {numbers} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begin = time.process_time()
    models = [(name, published_model("vancomycin", name, n_doses=N_DOSES)) for name in NAMES]
    rng = np.random.default_rng([options.seed, 1])
    further = TaskSet([task for name in NAMES for task in simulated(name, 12, rng)[0]])
    averages = {
        "average": PopulationAverage(models, temperature=1.0).fit([]),
        "learned": PopulationAverage(models, split="first", random_state=0).fit(further),
        "selected": PopulationAverage(models, method="select", temperature=1.0).fit([]),
    }
    print(describe())
    print(f"learned temperature: {averages['learned'].temperature_:.2f}")
    results = [of_model(k, options.patients, options.seed, averages) for k in range(len(NAMES))]
    for column, unit in enumerate(("logarithm of the curve", "curve in mg/L")):
        print(f"\nerror of the {unit}\n")
        print_errors(results, list(averages), column)
    print("\nerror of the curve in mg/L where patients of the hospital have taught the average\n")
    print_hospitals([of_hospital(k, options.patients, options.seed) for k in range(len(NAMES))], results)
    print(
        f"\ngreatest weight on the true model\n\n| levels | {' | '.join(NAMES)} | all |\n|{'---|' * (len(NAMES) + 2)}"
    )
    for n in NUMBERS:
        shares = [float(result[n]["greatest"][0]) for result in results]
        print(f"| {n} | " + " | ".join(f"{100 * share:.0f} %" for share in [*shares, np.mean(shares)]) + " |")
    print(f"\n{time.process_time() - begin:.0f} s of processor time")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
