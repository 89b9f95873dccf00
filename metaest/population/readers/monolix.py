"""The population parameters of a Monolix run."""

import re
from os import PathLike

import numpy as np

from metaest.population.estimates import Estimates
from metaest.population.numbers import as_path
from metaest.population.readers.text_file import as_number_of, text_of

__all__ = ["read_monolix"]

ERRORS = {"stochastic": "se_sa", "linearised": "se_lin"}


def read_monolix(path: str | PathLike[str], *, errors: str | None = None) -> Estimates:
    """Read the file ``populationParameters.txt`` of a Monolix run.

    The file has typical values (``V_pop``), standard deviations on the scale on which a constant is normal
    (``omega_V``; ``omega2_V`` are variances), correlations (``corr_V_Cl``), coefficients of covariates (``beta_V_wt``)
    on that scale too, and numbers of the noise (``a``, ``b``). Which distribution a constant has, whether it is
    lognormal, what a covariate was divided by, and whether the noise is combined1 or combined2 are in the project,
    which is not read: name them to :meth:`Estimates.to_population`.

    Parameters
    ----------
    path : str or path
    errors : {"stochastic", "linearised"}, optional
        Which standard errors to read, where the file has both: ``se_sa`` or ``se_lin``.

    Returns
    -------
    Estimates
        Labels are those of the file. Those of the variation between tasks are "omega_V" and so on, where it is above 0;
        ``occasions`` has the labels of variation between occasions, ``gamma_V``.

    Raises
    ------
    ValueError
        When the file is no such one, a number is missing, a correlation names no two constants that vary, or it has two
        kinds of standard errors and none is chosen; the message names file and label.
    OSError
        When the file cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from metaest import Parameter
    >>> from metaest.population import Exponential, NoiseModel, read_monolix
    >>> text = '''parameter,value,se_sa,rse_sa
    ... V_pop,8.0,0.2,2.5
    ... beta_V_lw70,0.9,0.14,15.6
    ... Cl_pop,0.13,0.006,4.6
    ... omega_V,0.2,0.02,10
    ... omega_Cl,0.3,0.03,10
    ... corr_V_Cl,0.5,0.1,20
    ... b,0.05,0.01,20
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "populationParameters.txt"
    ...     _ = file.write_text(text)
    ...     run = read_monolix(file)
    >>> drug = run.to_population(
    ...     {"clearance": "Cl_pop", "volume": "V_pop"},
    ...     {"clearance": Parameter(1.0, lower=0, unit="L/h"), "volume": Parameter(1.0, lower=0, unit="L")},
    ...     deviations={"clearance": "omega_Cl", "volume": "omega_V"},
    ...     noise=NoiseModel("proportional", cv=run["b"]),
    ...     covariates={"volume": Exponential("lw70", run["beta_V_lw70"])},
    ... )
    >>> drug.covariance().round(4).tolist(), dict(drug.standard_errors)
    ([[0.09, 0.03], [0.03, 0.04]], {'clearance': 0.006, 'volume': 0.2})
    """
    if errors is not None and (not isinstance(errors, str) or errors not in ERRORS):
        raise ValueError(f"read_monolix: errors must be 'stochastic', 'linearised' or None, got {errors!r}.")
    values, standard_errors = _columns(path, errors)
    deviations = {label: _sd(label, value) for label, value in values.items() if re.match("omega2?_", label)}
    for label, sd in deviations.items():
        if not sd >= 0:
            raise ValueError(f"the file {path}: {label} is {values[label]:g}, and variation is at least 0.")
    varying = {label: sd for label, sd in deviations.items() if sd > 0}
    correlation = np.eye(len(varying))
    names = {re.sub("^omega2?_", "", label): place for place, label in enumerate(varying)}
    if len(names) < len(varying):
        raise ValueError(f"the file {path} has two variations of one constant, as omega_ and as omega2_.")
    occasions = [label for label in values if re.match("gamma2?_", label)]
    for label, value in values.items():
        pair = re.fullmatch("corr([0-9]*)_(.+)", label)
        if pair is None:
            continue
        if pair[1] not in ("", "1"):  # the first level is that of individuals, further ones are of occasions
            occasions.append(label)
            continue
        places = [(names[a], names[b]) for a in names for b in names if a != b and f"{a}_{b}" == pair[2]]
        if len(places) != 1:
            raise ValueError(f"the file {path}: {label} names no two constants that vary; {', '.join(names)} do.")
        i, j = places[0]
        if correlation[i, j]:
            raise ValueError(f"the file {path}: {label} is a second correlation of these constants.")
        correlation[i, j] = correlation[j, i] = value
    spread = np.array([*varying.values()])
    return Estimates(
        values=values,
        standard_errors=standard_errors,
        deviations=tuple(varying),
        covariance=tuple(map(tuple, (correlation * spread * spread[:, None]).tolist())),
        occasions=tuple(occasions),
        covariates=tuple(label for label in values if label.startswith("beta_")),
        source=f"Monolix, {as_path(path).name}",
    )


def _sd(label: str, value: float) -> float:
    """Return the standard deviation that a label is, or whose square it is; NaN for a negative one."""
    if label.startswith("omega2_"):
        return float(np.sqrt(value)) if value >= 0 else float("nan")
    return value


def _columns(path: str | PathLike[str], errors: str | None) -> tuple[dict[str, float], dict[str, float]]:
    """Return values and standard errors by label."""
    lines = [(i, line) for i, line in enumerate(text_of(path).splitlines(), 1) if line.strip()]
    cut = next((mark for mark in (",", ";", "\t") if lines and mark in lines[0][1]), None)
    header = [cell.strip().strip('"') for cell in lines[0][1].split(cut)] if lines else []
    if header[:2] != ["parameter", "value"]:
        raise ValueError(
            f"the file {path} does not begin with the columns parameter and value, as populationParameters.txt does."
        )
    there = [column for column in ERRORS.values() if column in header]
    if errors is None and len(there) > 1:
        raise ValueError(
            f"the file {path} has the standard errors {' and '.join(there)}: choose errors='stochastic' or "
            "errors='linearised'."
        )
    if errors is not None and ERRORS[errors] not in there:
        raise ValueError(f"the file {path} has no column {ERRORS[errors]}; it has {', '.join(header)}.")
    column = ERRORS[errors] if errors else there[0] if there else None
    values: dict[str, float] = {}
    standard_errors = {}
    for place, line in lines[1:]:
        cells = [cell.strip().strip('"') for cell in line.split(cut)]
        if len(cells) < 2 or not cells[0]:
            raise ValueError(f"the file {path}, line {place}: a label and its value are wanted, got {line[:60]!r}.")
        label, where = cells[0], f"the file {path}, line {place}, {cells[0]}"
        if label in values:
            raise ValueError(f"the file {path}, line {place}: {label} comes twice.")
        values[label] = as_number_of(cells[1], where)
        if not np.isfinite(values[label]):
            raise ValueError(f"{where}: the value is {values[label]}.")
        place_of_error = header.index(column) if column else len(cells)
        said = cells[place_of_error] if place_of_error < len(cells) else ""
        # empty for what was fixed, nan where the information matrix could not be inverted
        error = as_number_of(said, f"{where}, {column}") if said and said != "NA" else float("nan")
        if 0 < error < np.inf:
            standard_errors[label] = error
    if not values:
        raise ValueError(f"the file {path} has no parameter.")
    return values, standard_errors
