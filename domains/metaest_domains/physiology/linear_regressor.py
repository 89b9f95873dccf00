"""An estimator for any linear compartments: up to three, with several ways of absorption, and a metabolite."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, ClassVar

import numpy as np

from metaest import Parameter, Population
from metaest.tasks.arguments import is_whole
from metaest_domains.physiology.compartments import RATE_IN, CompartmentRegressor, column_number
from metaest_domains.physiology.linear_model import UPTAKES, LinearCompartments
from metaest_domains.physiology.pharmacokinetics import CLEARANCE, VOLUME

__all__ = ["LinearCompartmentRegressor"]

# transit compartments at most
MOST_TRANSIT = 30
EXCHANGE = "exchange with a further compartment"
FURTHER = {
    "exchange": Parameter(1.0, lower=0, unit="volume/time", meaning=EXCHANGE),
    "peripheral": Parameter(1.0, lower=0, unit="volume", meaning="volume of that compartment"),
    "exchange_2": Parameter(1.0, lower=0, unit="volume/time", meaning=EXCHANGE),
    "peripheral_2": Parameter(1.0, lower=0, unit="volume", meaning="volume of that compartment"),
}
METABOLITE = {
    "metabolite_clearance": Parameter(1.0, lower=0, unit="volume/time", meaning="clearance of the metabolite"),
    "metabolite_volume": Parameter(1.0, lower=0, unit="volume", meaning="volume of the metabolite"),
}
AVAILABLE = Parameter(0.7, lower=0, upper=1, unit="1", meaning="bioavailability of oral doses")


class LinearCompartmentRegressor(CompartmentRegressor):
    r"""One to three linear compartments, with first-order or zero-order absorption, transit compartments, a metabolite.

    .. math:: x' = A x + r, \qquad C = x_c / V

    for the amounts x, whose rates A follow from the constants. Amounts are carried from dose to dose by the exponential
    of A, exactly, for all dose records and covariates that change (:class:`Regimen`). Where one or two compartments
    with first-order absorption suffice, `OneCompartmentRegressor` and `TwoCompartmentRegressor` are faster.

    ======================== ============= =========== ======================================================
    constant                 unit          bounds      meaning
    ======================== ============= =========== ======================================================
    ``clearance``            volume/time   above 0     CL, or CL/F of oral doses
    ``volume``               volume        above 0     V of the central compartment, or V/F
    ``exchange``             volume/time   above 0     Q, with two or three compartments
    ``peripheral``           volume        above 0     V_2
    ``exchange_2``           volume/time   above 0     Q_3, with three compartments
    ``peripheral_2``         volume        above 0     V_3
    ``absorption_rate``      1/time        above 0     k_a of first-order absorption, also after transit
    ``absorption_time``      time          above 0     for which a dose enters at a constant rate; zero-order
    ``transit_time``         time          above 0     mean time through the transit compartments
    ``bioavailability``      1             0 to 1      F of oral doses, with ``bioavailability=True``
    ``lag``                  time          above 0     until absorption begins, with ``lag=True``
    ``metabolite_clearance`` volume/time   above 0     with ``metabolite=True``
    ``metabolite_volume``    volume        above 0     with ``metabolite=True``
    ``formation``            1             0 to 1      share of the eliminated drug that becomes the metabolite
    ======================== ============= =========== ======================================================

    Concentrations do not tell ``formation`` from the metabolite's volume: it is 1, so that volume and clearance of the
    metabolite are apparent ones, unless ``fixed={"formation": 0.7}`` says what it is.

    Parameters
    ----------
    compartments : {1, 2, 3}, default=1
    uptake : {"first-order", "zero-order", "transit"}, default="first-order"
        How oral doses enter the central compartment: at a rate in proportion to what is left; at a constant rate for a
        time; or through a chain of `n_transit` transit compartments, :math:`k_{tr} = (n + 1) / t`, and then at a
        first-order rate [1]_.
    n_transit : int, default=3
        From 1 to 30.
    bioavailability : bool, default=False
        Whether oral doses have a bioavailability of their own, for patients who are also given doses into the central
        compartment (``compartment=2`` of a :class:`Regimen`).
    metabolite : bool, default=False
        Whether a metabolite is formed; it is the last compartment.
    output : str or int, optional
        Column of X with the number of the compartment in which a row was measured: that of the central one (2 for oral
        doses, 1 otherwise), or of the metabolite. Required with a metabolite.
    route, allometric, lag, time_varying, fixed, parameters
        As in :class:`CompartmentRegressor`; the other parameters as in :class:`metaest.EquationRegressor`.

    References
    ----------
    .. [1] R. M. Savic et al. (2007). Implementation of a transit compartment model for describing drug absorption in
       pharmacokinetic studies. :doi:`10.1007/s10928-007-9066-0`

    Examples
    --------
    >>> from metaest import Parameter, Population
    >>> from metaest.population import Block, NoiseModel
    >>> from metaest_domains.physiology import LinearCompartmentRegressor, Regimen
    >>> constants = {"clearance": Parameter(4.0, lower=0), "volume": Parameter(60.0, lower=0),
    ...              "absorption_rate": Parameter(1.0, lower=0), "transit_time": Parameter(2.0, lower=0)}
    >>> drug = Population(constants, Block(cv={"clearance": 0.3}), NoiseModel("additive", sd=0.1),
    ...                   columns={"time": "h", "dose": "mg"}, settings={"uptake": "transit"})
    >>> model = LinearCompartmentRegressor.from_population(drug)
    >>> model.predict(model.rows(Regimen([0.0], 100.0), [0.5, 3.0, 24.0])).round(3).tolist()
    [0.003, 0.888, 0.413]
    """

    equation_class = LinearCompartments
    settings_of_constants: ClassVar[tuple[str, ...]] = (
        "compartments", "uptake", "n_transit", "bioavailability", "metabolite", "route", "allometric", "lag", "fixed"
    )  # fmt: skip

    def __init__(
        self,
        *,
        compartments: int = 1,
        uptake: str = "first-order",
        n_transit: int = 3,
        bioavailability: bool = False,
        metabolite: bool = False,
        output: str | int | None = None,
        route: str = "oral",
        allometric: str | int | None = None,
        lag: bool = False,
        time_varying: Mapping[str, str] | None = None,
        fixed: Mapping[str, float] | None = None,
        parameters: Mapping[str, Parameter | float] | None = None,
        random: Sequence[str] | None = None,
        covariance: str = "diagonal",
        noise: str = "combined",
        noise_correlation: str | None = None,
        correlation_time: str | int | None = None,
        limit: float | str | None = None,
        limit_from: float | str | None = None,
        upper_limit: float | str | None = None,
        covariates: Mapping[str, Sequence[str | int]] | None = None,
        objective: str = "evidence",
        support_size: int | range | tuple[int, int] | None = (1, 5),
        split: str = "random",
        n_episodes: int | None = None,
        max_iter: int = 300,
        compile: str | bool = "auto",
        prior: Population | None = None,
        prior_weight: float | str = np.inf,
        random_state: int | np.random.RandomState | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int = 10,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            route=route, allometric=allometric, lag=lag, time_varying=time_varying, fixed=fixed, parameters=parameters,
            random=random, covariance=covariance, noise=noise, noise_correlation=noise_correlation,
            correlation_time=correlation_time, limit=limit, limit_from=limit_from, upper_limit=upper_limit,
            covariates=covariates, objective=objective, support_size=support_size, split=split, n_episodes=n_episodes,
            max_iter=max_iter, compile=compile, prior=prior, prior_weight=prior_weight, random_state=random_state,
            checkpoint=checkpoint, checkpoint_every=checkpoint_every, verbose=verbose,
        )  # fmt: skip
        for name in ("parametrization", "absorption"):  # no settings of this model
            del self.__dict__[name]
        self.compartments = compartments
        self.uptake = uptake
        self.n_transit = n_transit
        self.bioavailability = bioavailability
        self.metabolite = metabolite
        self.output = output

    # settings of CompartmentRegressor that this model does not offer
    parametrization = "volume"
    absorption = "rate"

    def _constants_to_fit(self) -> dict[str, Parameter]:
        """Return the constants of the chosen structure."""
        exchanges = list(FURTHER.items())[: 2 * (self.compartments - 1)]
        table = {"clearance": CLEARANCE, "volume": VOLUME, **dict(exchanges)}
        if self.route == "oral":
            if self.uptake == "zero-order":
                table["absorption_time"] = Parameter(1.0, lower=0, unit="time", meaning="for which a dose enters")
            else:
                table["absorption_rate"] = RATE_IN
            if self.uptake == "transit":
                meaning = "mean time through the transit compartments"
                table["transit_time"] = Parameter(1.0, lower=0, unit="time", meaning=meaning)
            if self.bioavailability:
                table["bioavailability"] = AVAILABLE
        if self.lag:
            table["lag"] = Parameter(0.1, lower=0, unit="time", meaning="from the dose to the start of absorption")
        return table | (METABOLITE if self.metabolite else {})

    def _held(self) -> dict[str, float]:
        return {"formation": 1.0} if self.metabolite else {}

    def _structure(self, names: Sequence[str] | None, n_columns: int) -> dict[str, Any]:
        return {
            "n_compartments": self.compartments,
            "uptake": self.uptake,
            "n_transit": self.n_transit,
            "metabolite": self.metabolite,
            "output": column_number(self.output, names, n_columns, "output"),
        }

    def _check_choices(self) -> None:
        """Raise a ValueError where settings do not go together."""
        super()._check_choices()
        if not is_whole(self.compartments) or self.compartments not in (1, 2, 3):
            raise ValueError(f"compartments must be 1, 2 or 3, got {self.compartments!r}.")
        if self.uptake not in UPTAKES:
            raise ValueError(f"uptake must be one of {', '.join(map(repr, UPTAKES))}, got {self.uptake!r}.")
        if not is_whole(self.n_transit) or not 1 <= self.n_transit <= MOST_TRANSIT:
            raise ValueError(f"n_transit must be a whole number from 1 to {MOST_TRANSIT}, got {self.n_transit!r}.")
        for name in ("bioavailability", "metabolite"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}.")
        if self.route != "oral" and (self.uptake != "first-order" or self.bioavailability):
            raise ValueError("uptake and bioavailability are of oral doses; route='iv' has neither.")
        if self.metabolite != (self.output is not None):
            raise ValueError(
                "metabolite=True and output= go together: a column of X says in which compartment a row was measured."
            )
