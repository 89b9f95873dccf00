"""A meta-gradient to start from: the query loss, and a price on how far a task moves."""

from dataclasses import dataclass

from metaest.functional import MetaGradient, with_statistics


@dataclass(frozen=True)
class NearTheStart(MetaGradient):
    """The exact gradient of the query loss plus `price` times the squared distance from start to adapted parameters."""

    price: float = 0.01
    through_steps = True  # so that rates of the steps can be learned
    second_derivatives = True  # so that a fit checks those of the module and warns where they are wrong

    def losses(self, forward, loss, solver, start, episodes, step_weights=None):
        support, query = episodes
        adapted = solver.solve(forward, loss, start, support, differentiable=True)
        adapted = with_statistics(forward, adapted, support)
        moved = sum((adapted[name] - start[name]).square().flatten(1).sum(dim=1) for name in start)
        return loss(forward(adapted, query), query.y, query.mask) + self.price * moved
