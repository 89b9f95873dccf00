"""The same meta-steps in JAX: one jitted call a step, and a scan over many with the gather inside."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

AT_ONCE = 16


def forward(params, x):
    """Predict rows of one task."""
    if len(params) == 2:
        rate, exponent = params
        return 1 - jnp.exp(-jnp.exp(rate) * x ** jnp.exp(exponent))
    (W1, b1, W2, b2, W3, b3) = params
    hidden = jax.nn.relu(jax.nn.relu(x @ W1.T + b1) @ W2.T + b2)
    return hidden @ W3.T + b3


def error(params, x, y):
    """Return the mean squared error."""
    return jnp.mean((forward(params, x) - y) ** 2)


def meta_loss(workload):
    """Return the meta-loss of a batch of tasks."""

    def of_one(params, xs, ys, xq, yq):
        for _ in range(workload.steps):
            slope = jax.grad(error)(params, xs, ys)
            params = jax.tree.map(lambda p, g: p - workload.inner_lr * g, params, slope)
        return error(params, xq, yq)

    return lambda params, *rows: jnp.mean(jax.vmap(of_one, in_axes=(None, 0, 0, 0, 0))(params, *rows))


class InJax:
    """Meta-steps of a workload.

    Parameters
    ----------
    workload : Workload
    meta_lr : float
    """

    def __init__(self, workload, meta_lr=1e-3):
        self.params = tuple(jnp.asarray(p.detach().numpy()) for p in workload.module().parameters())
        tasks = workload.tasks()
        self.X, self.y = jnp.asarray(tasks.X), jnp.asarray(np.asarray(tasks.y)[:, None])
        self.optimiser = optax.adam(meta_lr)
        self.state = self.optimiser.init(self.params)
        gradient = jax.value_and_grad(meta_loss(workload))

        def step(carried, rows):
            params, state = carried
            loss, slope = gradient(params, *rows)
            updates, state = self.optimiser.update(slope, state)
            return (optax.apply_updates(params, updates), state), loss

        self.gradient = jax.jit(gradient)
        self.step = jax.jit(step)
        self.scan = jax.jit(
            lambda carried, draws: jax.lax.scan(lambda own, draw: step(own, self.rows(draw)), carried, draws)
        )

    def rows(self, draw):
        """Gather rows of support and query."""
        support, query = draw
        return self.X[support], self.y[support], self.X[query], self.y[query]

    def one_call_a_step(self, draws, n):
        """Take n steps; the rows of one are ready."""
        rows = [jnp.asarray(own) for own in self.rows((draws[0][0], draws[1][0]))]
        carried = self.params, self.state
        for _ in range(n):
            carried, loss = self.step(carried, rows)
        loss.block_until_ready()

    def scanned(self, draws, n):
        """Take n steps, 16 in a call."""
        carried = self.params, self.state
        draws = tuple(jnp.asarray(own[:AT_ONCE]) for own in draws)
        for _ in range(n // AT_ONCE):
            carried, loss = self.scan(carried, draws)
        loss.block_until_ready()
