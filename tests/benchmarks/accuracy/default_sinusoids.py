"""The default on sinusoids of any amplitude and phase: AutoMetaRegressor() as it comes, beside MAMLRegressor as it comes.

1,000 sinusoids of 20 rows to learn from, 1,000 others, adapted to 5 and 10 rows and judged on the true curve at 100 places.

    python tests/benchmarks/accuracy/default_sinusoids.py
"""

import time
import warnings

import numpy as np
from machine import describe

from metaest import AutoMetaRegressor, MAMLRegressor
from metaest_datasets import make_sinusoids

N_NEW = 1000


def main() -> None:
    """Print one line a method."""
    warnings.simplefilter("ignore")
    print(describe())
    tasks = make_sinusoids(1000, random_state=0)
    new = make_sinusoids(N_NEW, n_rows=110, random_state=1)
    for model in (AutoMetaRegressor(random_state=0), MAMLRegressor(random_state=0)):
        start = time.process_time()
        model.fit(tasks)
        seconds = time.process_time() - start
        errors = []
        for n in (5, 10):
            adapted = model.adapt_many({task.name: (task.X[:n], task.y[:n]) for task in new})
            away = [one.predict(task.X[10:]) - task.y[10:] for one, task in zip(adapted, new, strict=True)]
            errors.append(float(np.sqrt(np.mean(np.square(away)))))
        chosen = getattr(model, "choice_", "")
        print(
            f"{type(model).__name__}: {errors[0]:.4f} at 5 rows, {errors[1]:.4f} at 10; {seconds:.0f} CPU s  {chosen}"
        )


if __name__ == "__main__":
    main()
