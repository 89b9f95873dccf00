"""Covariates that published models read and records do not hold: sizes of the body, and creatinine clearance.

Each is a number computed from others of one patient. Numbers that no patient has are refused, since they are in
another unit: a height in metres, a weight in grams, creatinine in umol/L where mg/dL is stated.
"""

from metaest.exceptions import warn
from metaest.tasks.numbers import as_number

__all__ = ["body_mass_index", "body_surface_area", "creatinine_clearance", "fat_free_mass"]

# mg/dL of creatinine in one umol/L, whose molar mass is 113.12 g/mol
MG_DL = 0.011312
# least and greatest that a patient may have: kg, cm, years, mg/dL
WEIGHTS = (0.2, 700.0)
HEIGHTS = (20.0, 280.0)
AGES = (0.0, 130.0)
CREATININES = (0.05, 30.0)
# years of the youngest patients whose creatinine clearance the formula describes
ADULT = 18.0


def body_mass_index(weight: float, height: float) -> float:
    r"""Return the body mass index in kg/m2, :math:`W / h^2` with h in metres.

    Parameters
    ----------
    weight : float
        kg, 0.2 to 700.
    height : float
        cm, 20 to 280.

    Raises
    ------
    TaskError
        When a number is outside its range.

    References
    ----------
    A. Keys et al. (1972). Indices of relative weight and obesity. :doi:`10.1016/0021-9681(72)90027-6`

    Examples
    --------
    >>> from metaest_domains.physiology import body_mass_index
    >>> round(body_mass_index(80.0, 180.0), 1)
    24.7
    """
    kilograms, centimetres = _weight(weight, "body_mass_index"), _height(height, "body_mass_index")
    return kilograms / (centimetres / 100) ** 2


def body_surface_area(weight: float, height: float) -> float:
    r"""Return the surface of the body in m2 by Du Bois and Du Bois, :math:`0.007184\,W^{0.425} H^{0.725}`.

    Parameters
    ----------
    weight : float
        kg, 0.2 to 700.
    height : float
        cm, 20 to 280.

    Raises
    ------
    TaskError
        When a number is outside its range.

    References
    ----------
    D. Du Bois, E. F. Du Bois (1916). A formula to estimate the approximate surface area if height and weight be known.
    :doi:`10.1001/archinte.1916.00080130010002`

    Examples
    --------
    >>> from metaest_domains.physiology import body_surface_area
    >>> round(body_surface_area(70.0, 170.0), 2)
    1.81
    """
    kilograms, centimetres = _weight(weight, "body_surface_area"), _height(height, "body_surface_area")
    return float(0.007184 * kilograms**0.425 * centimetres**0.725)


def fat_free_mass(weight: float, height: float, sex: str) -> float:
    r"""Return the fat-free mass of an adult in kg by Janmahasatian et al.

    .. math:: \frac{9270\,W}{6680 + 216\,\mathrm{BMI}} \text{ (men)}, \qquad
              \frac{9270\,W}{8780 + 244\,\mathrm{BMI}} \text{ (women)}

    Parameters
    ----------
    weight : float
        kg, 0.2 to 700.
    height : float
        cm, 20 to 280.
    sex : {"male", "female"}

    Raises
    ------
    TaskError
        When a number is outside its range.
    ValueError
        When `sex` is neither of the two.

    References
    ----------
    S. Janmahasatian et al. (2005). Quantification of lean bodyweight. :doi:`10.2165/00003088-200544100-00004`

    Examples
    --------
    >>> from metaest_domains.physiology import fat_free_mass
    >>> round(fat_free_mass(120.0, 170.0, "female"), 1)
    58.8
    """
    index, male = body_mass_index(weight, height), _male(sex, "fat_free_mass")
    return 9270 * _weight(weight, "fat_free_mass") / (6680 + 216 * index if male else 8780 + 244 * index)


def creatinine_clearance(age: float, weight: float, creatinine: float, sex: str, *, unit: str = "mg/dL") -> float:
    r"""Return the creatinine clearance of an adult in mL/min by Cockcroft and Gault.

    .. math:: \frac{(140 - \mathrm{age})\,W}{72\,\mathrm{SCR}}, \quad \text{times } 0.85 \text{ for women}

    Parameters
    ----------
    age : float
        Years, up to 130.
    weight : float
        kg, 0.2 to 700; some models take another mass here, such as the fat-free one.
    creatinine : float
        In serum, 0.05 to 30 mg/dL, in `unit`.
    sex : {"male", "female"}
    unit : {"mg/dL", "umol/L"}, default="mg/dL"
        Of `creatinine`; 1 umol/L is 0.011312 mg/dL.

    Raises
    ------
    TaskError
        When a number is outside its range; creatinine in umol/L, given as mg/dL, mostly is.
    ValueError
        When `sex` or `unit` is none of the two.

    Warns
    -----
    UserWarning
        Below 18 years: the patients of the formula were 18 to 92 years old.

    References
    ----------
    D. W. Cockcroft, M. H. Gault (1976). Prediction of creatinine clearance from serum creatinine.
    :doi:`10.1159/000180580`

    Examples
    --------
    >>> from metaest_domains.physiology import creatinine_clearance
    >>> creatinine_clearance(60.0, 72.0, 1.0, "male")
    80.0
    """
    years = as_number(age, "creatinine_clearance: age", least=AGES[0], most=AGES[1], wanted="years, 0 to 130,")
    kilograms = _weight(weight, "creatinine_clearance")
    if not isinstance(unit, str) or unit not in ("mg/dL", "umol/L"):
        raise ValueError(f"creatinine_clearance: unit must be 'mg/dL' or 'umol/L', got {unit!r}.")
    factor = 1.0 if unit == "mg/dL" else MG_DL
    low, high = (end / factor for end in CREATININES)
    level = as_number(
        creatinine, "creatinine_clearance: creatinine", least=low, most=high, wanted=f"{unit}, {low:.3g} to {high:.3g},"
    )
    if years < ADULT:
        warn(
            f"creatinine_clearance: the formula is that of adults, from {ADULT:g} years on, and the age is {years:g}: "
            "pass the covariate itself, by a formula for children."
        )
    clearance = (140 - years) * kilograms / (72 * level * factor)
    return clearance if _male(sex, "creatinine_clearance") else 0.85 * clearance


def _weight(weight: float, where: str) -> float:
    return as_number(weight, f"{where}: weight", least=WEIGHTS[0], most=WEIGHTS[1], wanted="kg, 0.2 to 700,")


def _height(height: float, where: str) -> float:
    return as_number(height, f"{where}: height", least=HEIGHTS[0], most=HEIGHTS[1], wanted="cm, 20 to 280,")


def _male(sex: str, where: str) -> bool:
    """Return whether a patient is a man; a ValueError for what is neither sex."""
    if not isinstance(sex, str) or sex not in ("male", "female"):
        raise ValueError(f"{where}: sex must be 'male' or 'female', got {sex!r}.")
    return sex == "male"
