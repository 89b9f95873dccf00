"""Outcomes that are not normal: published fits of lme4, an independent likelihood, constants that are met again.

1. Contagious bovine pleuropneumonia in 15 herds (Lesnoff and others, 2004, doi:10.1016/j.prevetmed.2004.03.005; the 56
   rows that lme4's documentation uses): new cases of the animals at risk in four periods, logit with period effects and
   a random herd. Beside glmer by Laplace's approximation and by quadrature with 25 nodes, as lme4's tests state them.
2. Simulated counts (Poisson) and times to events (exponential and Weibull hazards with a frailty): the same likelihood
   written in numpy, by sums over a fine grid, maximised by scipy. Differences in standard errors.
3. Replicates of every outcome, 60 tasks of 8 rows, fitted with 5 nodes: the mean error of each constant over its
   standard error of the mean.
4. One row of 20 moved by 20 standard deviations of the noise: errors of constants by Student's and by additive noise.

    python tests/benchmarks/accuracy/outcomes.py
"""

import argparse
import time
import warnings

import numpy as np
import torch
from machine import describe
from scipy.optimize import minimize
from scipy.special import gammaln, logsumexp

from metaest import Binomial, EquationRegressor, Parameter, Task, TaskSet, TimeToEvent

# herd, new cases, animals at risk, period
CBPP = """
1 2 14 1, 1 3 12 2, 1 4 9 3, 1 0 5 4, 2 3 22 1, 2 1 18 2, 2 1 21 3, 3 8 22 1, 3 2 16 2, 3 0 16 3, 3 2 20 4, 4 2 10 1,
4 0 10 2, 4 2 9 3, 4 0 6 4, 5 5 18 1, 5 0 25 2, 5 0 24 3, 5 1 4 4, 6 3 17 1, 6 0 17 2, 6 0 18 3, 6 1 20 4, 7 8 16 1,
7 1 10 2, 7 3 9 3, 7 0 5 4, 8 12 34 1, 9 2 9 1, 9 0 6 2, 9 0 8 3, 9 0 6 4, 10 1 22 1, 10 1 22 2, 10 0 18 3, 10 2 22 4,
11 0 25 1, 11 5 27 2, 11 3 22 3, 11 1 22 4, 12 2 10 1, 12 1 8 2, 12 0 6 3, 12 0 5 4, 13 1 21 1, 13 2 24 2, 13 0 19 3,
13 0 23 4, 14 11 19 1, 14 0 2 2, 14 0 3 3, 14 0 2 4, 15 1 19 1, 15 1 15 2, 15 1 15 3, 15 0 15 4
"""
# of the intercept and three periods, as lme4's tests have them
GLMER = {
    "Laplace": [-1.39853504914, -0.992334711, -1.12867541477, -1.58037390498],
    "quadrature": [-1.39922533406847, -0.991407294757321, -1.12782184600404, -1.57946627431248],
}
N_TASKS, X = 60, np.linspace(-1, 1, 8)


def herds():
    """Return the herds as tasks."""
    rows = np.array([[float(part) for part in row.split()] for row in CBPP.split(",")])
    groups = [rows[rows[:, 0] == herd] for herd in range(1, 16)]
    return TaskSet([
        Task(f"herd {i + 1}", group[:, [3, 2]], group[:, 1], feature_names=["period", "size"])
        for i, group in enumerate(groups)
    ])  # fmt: skip


def risk(X, first, second, third, fourth):
    """Return the probability of a new case; the periods differ from the first."""
    period = X[:, 0]
    return torch.sigmoid(first + second * (period == 2) + third * (period == 3) + fourth * (period == 4))


def published():
    """Print the fits to the herds beside lme4's."""
    print("\nherds: intercept and periods, herd SD, log-likelihood; largest difference from glmer in standard errors")
    names = ("first", "second", "third", "fourth")
    for how, nodes in (("Laplace", 1), ("quadrature", 25)):
        model = EquationRegressor(
            risk, dict.fromkeys(names, 0.0), random=["first"], noise=Binomial(trials="size"), n_nodes=nodes
        ).fit(herds())
        table = model.population_
        away = (table["value"] - GLMER[how]).abs() / table["standard_error"]
        values = ", ".join(f"{value:.5f}" for value in table["value"])
        exact = model.log_likelihood(herds(), "quadrature", n_nodes=25).value
        print(
            f"{how:10} {values}   SD {table['omega'].iloc[0]:.4f}   {model.log_likelihood_:.4f} "
            f"(by quadrature there {exact:.4f})   {away.max():.5f}"
        )


# ---------------------------------------------------------------- the same likelihoods in numpy


def marginal(loss_of_rows, sd, reach=8.0, n=1601):
    """Return the log-likelihood of tasks from losses of shape (tasks, points) at deviations of the points.

    Sums over equal distances are exact to rounding for what is smooth and vanishes at both ends.
    """
    z = np.linspace(-reach, reach, n)
    log_density = -0.5 * z**2 - 0.5 * np.log(2 * np.pi) + np.log(z[1] - z[0])
    return logsumexp(log_density - loss_of_rows(sd * z), axis=1).sum()


def counts(seed):
    """Return simulated counts and their log-likelihood of (level, slope, ln SD)."""
    rng = np.random.default_rng(seed)
    level = 0.3 + 0.7 * rng.standard_normal(N_TASKS)
    y = rng.poisson(np.exp(level[:, None] + 0.8 * X))

    def log_likelihood(p):
        def loss(u):
            eta = p[0] + u[None, :, None] + p[1] * X
            return (np.exp(eta) - y[:, None] * eta + gammaln(y[:, None] + 1)).sum(axis=2)

        return marginal(loss, np.exp(p[2]))

    return TaskSet([Task(i, X[:, None], row) for i, row in enumerate(y)]), log_likelihood


def times(seed, shape):
    """Return simulated times to events and their log-likelihood of (ln scale, ln shape, ln SD)."""
    rng = np.random.default_rng(seed)
    scale = 2 * np.exp(0.5 * rng.standard_normal(N_TASKS))
    events, ends = scale[:, None] * rng.weibull(shape, (N_TASKS, 8)), rng.uniform(1, 5, (N_TASKS, 8))
    t, y = np.minimum(events, ends), (events <= ends).astype(float)

    def log_likelihood(p):
        k = np.exp(p[1])

        def loss(u):
            log_ratio = np.log(t)[:, None] - (p[0] + u[None, :, None])
            log_hazard = p[1] + (k - 1) * log_ratio - (p[0] + u[None, :, None])
            return (np.exp(k * log_ratio) - y[:, None] * log_hazard).sum(axis=2)

        return marginal(loss, np.exp(p[2]))

    return TaskSet([Task(i, t[i][:, None], y[i]) for i in range(N_TASKS)]), log_likelihood


def rate(X, level, slope):
    """Return the mean of counts."""
    return torch.exp(level + slope * X[:, 0])


def weibull(X, scale, shape):
    """Return Weibull's hazard; with a shape of 1 it is exponential."""
    return shape / scale * (X[:, 0] / scale) ** (shape - 1)


def constant(X, scale):
    """Return the hazard of the exponential distribution."""
    return 1 / scale + 0 * X[:, 0]


POSITIVE = {"scale": Parameter(1.0, lower=0), "shape": Parameter(1.0, lower=0)}


def independent():
    """Print fits by quadrature beside the same likelihood in numpy."""
    print("\nlargest difference from an independent maximum, in standard errors; and of Laplace's approximation")
    cases = {
        "counts": (counts(0), rate, {"level": 0.0, "slope": 0.0}, "poisson", [0, 1, 2]),
        "exponential": (times(1, 1.0), constant, {"scale": POSITIVE["scale"]}, TimeToEvent(time=0), [0, 2]),
        "Weibull": (times(2, 1.6), weibull, POSITIVE, TimeToEvent(time=0), [0, 1, 2]),
    }
    for name, ((tasks, log_likelihood), equation, constants, noise, free) in cases.items():
        start = np.array([0.1, 0.0, -1.0])[free]

        def height(p, free=free, log_likelihood=log_likelihood):
            whole = np.zeros(3)
            whole[free] = p
            return -log_likelihood(whole)

        best = minimize(height, start, method="BFGS", options={"gtol": 1e-6})
        random = list(constants)[:1]
        row = []
        for nodes in (15, 1):
            model = EquationRegressor(equation, constants, random=random, noise=noise, n_nodes=nodes).fit(tasks)
            table = model.population_
            estimates = [*table["scaled_value"], np.log(table["omega"].iloc[0])]
            errors = [*table["scaled_standard_error"], (table["omega_standard_error"] / table["omega"]).iloc[0]]
            row.append(np.max(np.abs(np.array(estimates) - best.x) / errors))
            at = model.log_likelihood_ + best.fun
        print(f"{name:12} {row[0]:.5f}   Laplace {row[1]:.5f}, log-likelihood {at:+.4f}")


# ---------------------------------------------------------------- replicates


def simulated(kind, rng):
    """Return tasks of one kind."""
    level = -0.2 + 0.8 * rng.standard_normal(N_TASKS)
    eta = level[:, None] + 1.0 * X
    rows = [X[:, None]] * N_TASKS
    if kind == "bernoulli":
        y = rng.random(eta.shape) < 1 / (1 + np.exp(-eta))
    elif kind == "binomial":
        n = rng.integers(1, 12, eta.shape)
        y = rng.binomial(n, 1 / (1 + np.exp(-eta)))
        rows = [np.column_stack([X, of_task]) for of_task in n]
    elif kind == "poisson":
        y = rng.poisson(np.exp(eta))
    elif kind == "negative-binomial":
        y = rng.poisson(np.exp(eta) * rng.gamma(2.5, 0.4, eta.shape))
    elif kind == "ordinal":
        y = np.searchsorted([0.0, 1.0, 2.5], eta + rng.logistic(size=eta.shape))
    elif kind == "student-t":
        y = eta + 0.3 * rng.standard_t(4, eta.shape)
    else:
        t, ends = rng.exponential(np.exp(-eta)), rng.uniform(0.5, 4, eta.shape)
        y = t <= ends
        rows = [np.column_stack([X, time]) for time in np.minimum(t, ends)]
    return TaskSet([Task(i, rows[i], y[i].astype(float)) for i in range(N_TASKS)])


def logit(X, level, slope):
    """Return a probability."""
    return torch.sigmoid(level + slope * X[:, 0])


def line(X, level, slope):
    """Return a line."""
    return level + slope * X[:, 0]


KINDS = {
    "bernoulli": ("bernoulli", logit, {}),
    "binomial": (Binomial(trials=1), logit, {}),
    "poisson": ("poisson", rate, {}),
    "negative-binomial": ("negative-binomial", rate, {"dispersion": 0.4}),
    "ordinal": ("ordinal", line, {"cut_1": 1.0, "cut_2": 2.5}),
    "student-t": ("student-t", line, {"scale": 0.3}),
    "time-to-event": (TimeToEvent(time=1), rate, {}),
}


def replicates(n):
    """Print the mean error of every constant, over the standard error of that mean."""
    print(f"\n{n} replicates: mean error (and in standard errors of the mean), the true values being")
    print(
        "level -0.2, slope 1, omega 0.8, "
        + ", ".join(f"{k} {v}" for _, _, more in KINDS.values() for k, v in more.items())
    )
    for kind, (noise, equation, more) in KINDS.items():
        start, errors, drawn = time.process_time(), [], []
        for seed in range(n):
            tasks = simulated(kind, np.random.default_rng([seed, len(kind)]))
            # the levels are the first numbers that are drawn
            drawn.append(0.8 * np.random.default_rng([seed, len(kind)]).standard_normal(N_TASKS).std() - 0.8)
            model = EquationRegressor(
                equation, {"level": 0.0, "slope": 0.0}, random=["level"], noise=noise, n_nodes=5
            ).fit(tasks)
            table, noises = model.population_, model.noise_
            errors.append([
                table["value"]["level"] + 0.2, table["value"]["slope"] - 1, table["omega"]["level"] - 0.8,
                *(noises[name] - true for name, true in more.items()),
            ])  # fmt: skip
        mean, error = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1) / np.sqrt(n)
        names = ["level", "slope", "omega", *more]
        seconds = (time.process_time() - start) / n
        print(f"{kind:18}" + "  ".join(f"{k} {m:+.4f} ({m / e:+.1f})" for k, m, e in zip(names, mean, error, strict=True))
              + f"   {seconds:.2f} s a fit; SD of the levels drawn {np.mean(drawn):+.4f}")  # fmt: skip


def outliers(n):
    """Print root mean squared errors of constants with outliers, by two kinds of noise."""
    print(f"\n5 % of rows 20 standard deviations off, {n} replicates: root mean squared errors of level, slope, omega")
    for noise in ("student-t", "additive"):
        errors = []
        for seed in range(n):
            rng = np.random.default_rng([seed, 99])
            eta = (-0.2 + 0.8 * rng.standard_normal(N_TASKS))[:, None] + X
            y = eta + 0.3 * rng.standard_normal(eta.shape)
            y += np.where(rng.random(eta.shape) < 0.05, 6.0, 0.0)
            tasks = TaskSet([Task(i, X[:, None], y[i]) for i in range(N_TASKS)])
            table = EquationRegressor(line, {"level": 0.0, "slope": 0.0}, random=["level"], noise=noise).fit(tasks)
            table = table.population_
            errors.append([table["value"]["level"] + 0.2, table["value"]["slope"] - 1, table["omega"]["level"] - 0.8])
        print(f"{noise:12}" + "  ".join(f"{value:.4f}" for value in np.sqrt(np.mean(np.square(errors), axis=0))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=100)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(describe())
    published()
    independent()
    outliers(args.replicates)
    replicates(args.replicates)


if __name__ == "__main__":
    main()
