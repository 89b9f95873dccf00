"""Peak memory of one meta-step against the number of inner steps, by meta-gradient; each in a process of its own.

python tests/benchmarks/speed/implicit_memory.py
"""

import os
import resource
import subprocess
import sys
from pathlib import Path

STEPS = (1, 5, 20, 50)
# freed memory goes back at once, so that the peak is what is held
ENVIRONMENT = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "0", "MALLOC_MMAP_THRESHOLD_": "65536"}
KINDS = ("exact", "first-order", "reptile", "implicit")


def peak(kind, steps):
    """Return the growth of the peak resident memory over one meta-step, in MB."""
    import torch

    from metaest.functional import MLP, Episodes, GradientDescent, ModuleForward, Rows, mapped, squared_error
    from metaest.functional import task_losses as losses_of

    torch.set_num_threads(1)
    torch.manual_seed(0)
    forward = ModuleForward(MLP(8, 1, [256, 256], "tanh"), 1)
    params = {name: value.requires_grad_() for name, value in forward.parameters().items()}
    rows = Rows(torch.randn(25, 10, 8), torch.randn(25, 10, 1), torch.ones(25, 10))
    solver = GradientDescent(steps, 0.01, None, 1.0 if kind == "implicit" else 0.0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    losses = losses_of(mapped(forward), squared_error, solver, params, Episodes(rows, rows), kind)
    torch.autograd.grad(losses.mean(), list(params.values()))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main():
    import torch

    sys.path.insert(0, str(Path(__file__).parents[1] / "accuracy"))
    from machine import describe

    torch.set_num_threads(1)
    print(describe())
    print(
        "\n25 tasks of 10 rows, 8 features, two hidden layers of 256; peak memory of a meta-step (MB) by inner steps\n"
    )
    print(f"{'':12}" + "".join(f"{steps:>8}" for steps in STEPS))
    for kind in KINDS:
        found = []
        for steps in STEPS:
            command = [sys.executable, __file__, kind, str(steps)]
            own = subprocess.run(command, capture_output=True, text=True, check=True, env=ENVIRONMENT)
            found.append(float(own.stdout))
        print(f"{kind:12}" + "".join(f"{value:8.0f}" for value in found), flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(peak(sys.argv[1], int(sys.argv[2])))
    else:
        main()
