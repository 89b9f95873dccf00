"""Files of NONMEM, Monolix and PKPDsim become the populations that they describe, or errors that name file and label."""

import math

import numpy as np
import pytest

from metaest import Parameter
from metaest.population import (
    Estimates,
    NoiseModel,
    Power,
    Provenance,
    read_monolix,
    read_nonmem_ext,
    read_nonmem_phi,
    read_pkpdsim,
)
from metaest.population.readers.json5 import parse_json5
from metaest_domains.physiology import OneCompartmentRegressor, Regimen

TITLE = "TABLE NO.     {}: {}: Goal Function=MINIMUM VALUE OF OBJECTIVE FUNCTION: Problem=1 Subproblem=0"
LABELS = " ITERATION THETA1 THETA2 THETA3 SIGMA(1,1) OMEGA(1,1) OMEGA(2,1) OMEGA(2,2) OBJ"
ROWS = """            0  1.00000E+00  1.00000E+01  5.00000E-01  1.00000E-02  1.00000E-01  0.00000E+00  1.00000E-01  712.5
  -1000000000  4.00000E+00  7.00000E+01  7.50000E-01  4.00000E-02  9.00000E-02  1.20000E-02  4.00000E-02  612.25
  -1000000001  2.00000E-01  1.00000E+10  1.00000E-01  1.00000E-03  1.00000E-02  1.00000E-03  2.00000E-03  0.0
  -1000000006  0.00000E+00  1.00000E+00  0.00000E+00  0.00000E+00  0.00000E+00  0.00000E+00  0.00000E+00  0.0
  -1000000007  0.00000E+00  3.70000E+01  0.00000E+00  0.00000E+00  0.00000E+00  0.00000E+00  0.00000E+00  0.0
"""
EXT = f"{TITLE.format(1, 'First Order Conditional Estimation with Interaction')}\n{LABELS}\n{ROWS}"
MONOLIX = """parameter,value,CV,se_sa,rse_sa
ka_pop,1.5,,0.3,20
V_pop,30,,1.5,5
beta_V_lw70,0.9,,0.1,11
Cl_pop,2,,nan,nan
V_x_pop,1,,,
omega_ka,0.6,60,0.1,16
omega_V,0.2,20,0.03,15
omega_Cl,0.3,31,0.05,16
omega_V_x,0,0,,
corr_V_Cl,0.5,,0.2,40
a,0.2,,0.04,20
b,0.1,,0.02,20
"""
PKPDSIM = r"""{ // one compartment
  id: 'pk_drug', "ode_code": "\
    dAdt[0] = -(CL/V)*A[0] \
  ",
  parameters: { CL: 4, "V": +70., TH: .75, },
  "fixed": ["TH", "TDM_INIT"], /* the rest varies */
  omega_matrix: [0.09, 0.012, 4e-2],
  ruv: { prop: 0.15, add: [1.6] },
  iov: null, covariates: ["WT"], units: { CL: "L/h" },
  references: [{ ref: "A. Author 2020", url: "https://example.org" }],
}
"""
NAMES = {"clearance": "THETA1", "volume": "THETA2"}
TABLE = {"clearance": Parameter(1.0, lower=0, unit="L/h"), "volume": Parameter(1.0, lower=0, unit="L")}
ETAS = {"clearance": "OMEGA(1,1)", "volume": "OMEGA(2,2)"}


@pytest.fixture
def written(tmp_path):
    def write(text, name="run1.ext"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_nonmem_run_is_the_population_of_its_final_estimates(written):
    run = read_nonmem_ext(written(EXT))
    assert run["THETA3"] == 0.75
    assert dict(run.standard_errors) == {
        "THETA1": 0.2, "THETA3": 0.1, "SIGMA(1,1)": 1e-3, "OMEGA(1,1)": 1e-2, "OMEGA(2,1)": 1e-3, "OMEGA(2,2)": 2e-3,
    }  # fmt: skip
    drug = run.to_population(
        NAMES,
        TABLE,
        deviations=ETAS,
        noise=NoiseModel("proportional", cv=run["SIGMA(1,1)"] ** 0.5),
        covariates={"clearance": Power("weight", run["THETA3"], reference=70)},
        columns={"time": "h", "dose": "mg", "weight": "kg"},
        target="mg/L",
        equation="OneCompartmentRegressor",
        settings={"route": "iv"},
    )
    assert drug.typical({"weight": 35.0})["clearance"] == pytest.approx(4 * 0.5**0.75)
    np.testing.assert_allclose(drug.covariance(), [[0.09, 0.012], [0.012, 0.04]])
    assert drug.noise == NoiseModel("proportional", cv=0.2)
    assert dict(drug.standard_errors) == {"clearance": 0.2}  # that of a fixed theta is none
    assert "First Order Conditional Estimation with Interaction, run1.ext" in drug.provenance.citation
    model = OneCompartmentRegressor.from_population(drug)
    doses = Regimen.repeated(400.0, weight=70.0)
    assert model.predict(model.rows(doses, [5.0]))[0] == pytest.approx(400 / 70 * math.exp(-4 / 70 * 5))


def test_logarithms_and_formats_of_nonmem(written):
    commas = EXT.replace(LABELS, ",".join(LABELS.split()))
    head, *rows = commas.splitlines()[1:]
    commas = "\n".join([commas.splitlines()[0], head, *(",".join(row.split()) for row in rows)])
    assert dict(read_nonmem_ext(written(commas)).values) == dict(read_nonmem_ext(written(EXT)).values)
    tiny = EXT.replace("1.20000E-02", "1.20000-101")
    assert read_nonmem_ext(written(tiny))["OMEGA(2,1)"] == 1.2e-101
    run = read_nonmem_ext(written(EXT))
    logs = run.to_population(
        NAMES, TABLE, deviations={"volume": "OMEGA(2,2)"}, logarithms=["clearance"], without=["OMEGA(1,1)"],
        noise=NoiseModel("additive", sd=1.0), provenance=Provenance("mine"),
    )  # fmt: skip
    assert logs.typical()["clearance"] == pytest.approx(math.exp(4.0))
    assert logs.standard_errors["clearance"] == pytest.approx(0.2 * math.exp(4.0))
    assert logs.random == ("volume",)
    assert logs.provenance.citation == "mine"


def test_steps_of_nonmem_are_chosen_by_their_number(written):
    second = EXT.replace("TABLE NO.     1", "TABLE NO.     2").replace("4.00000E+00", "5.00000E+00")
    path = written(EXT + second)
    with pytest.raises(
        ValueError, match=r"has 2 tables: 1 \(First Order .*\); 2 \(First.*Choose one by its number, table="
    ):
        read_nonmem_ext(path)
    assert read_nonmem_ext(path, table=1)["THETA1"] == 4.0
    assert read_nonmem_ext(path, table=2)["THETA1"] == 5.0
    with pytest.raises(ValueError, match="has no table with the number 3"):
        read_nonmem_ext(path, table=3)
    with pytest.raises(TypeError, match="table must be the number"):
        read_nonmem_ext(path, table="2")


def test_runs_of_nonmem_that_did_not_end_are_refused(written):
    failed = EXT.replace("-1000000007  0.00000E+00", "-1000000007  1.34000E+02")
    with pytest.raises(ValueError, match="did not end as it should .termination status 134"):
        read_nonmem_ext(written(failed))
    run = read_nonmem_ext(written(failed), unconverged=True)
    assert "did not converge (status 134)" in run.source
    wrong = {
        "no final estimates": EXT.replace("-1000000000", "12"),
        "the final estimate of THETA2 is nan": EXT.replace("7.00000E+01", "NaN"),
        r"line 4: 8 numbers for the 9 labels": EXT.replace("  612.25", ""),
        "line 4: 'abc' is no number": EXT.replace("7.00000E+01", "abc"),
        "is no label of an .ext file": EXT.replace("THETA3", "ALPHA3"),
        "a label comes twice": EXT.replace("THETA3", "THETA1"),
        "does not begin with a title": "\n".join(EXT.splitlines()[1:]),
        "no line of labels": EXT.replace(LABELS + "\n", ""),
        "holds no table": "",
        "is no text in UTF-8": b"\xff\xfe\x00",
    }
    for message, text in wrong.items():
        with pytest.raises(ValueError, match=message):
            read_nonmem_ext(written(text))
    with pytest.raises(FileNotFoundError):
        read_nonmem_ext("no/such/run.ext")
    with pytest.raises(TypeError, match="path must be a path"):
        read_nonmem_ext(3)


def test_individuals_of_nonmem(written):
    text = f"""{TITLE.format(1, "Stochastic Approximation")}
 SUBJECT_NO ID PHI(1) PHI(2) PHC(1,1) PHC(2,1) PHC(2,2) SAEMOBJ
 1 7 1.4 -2.0 0.01 0.002 0.04 5.5
 2 7 1.5 -2.1 0.02 0.003 0.05 6.5
"""
    frame = read_nonmem_phi(written(text, "run1.phi"))
    assert frame.index.tolist() == [7, 7]
    assert frame.columns.tolist() == ["PHI(1)", "PHI(2)", "PHC(1,1)", "PHC(2,1)", "PHC(2,2)", "SAEMOBJ"]
    assert frame["PHI(2)"].tolist() == [-2.0, -2.1]
    with pytest.raises(ValueError, match="has no column ID"):
        read_nonmem_phi(written(text.replace(" ID ", " NAME ")))
    with pytest.raises(ValueError, match="no line of labels that begins with SUBJECT_NO"):
        read_nonmem_phi(written(EXT))


def test_a_monolix_run_is_a_population(written):
    run = read_monolix(written(MONOLIX, "populationParameters.txt"))
    names = {"absorption": "ka_pop", "volume": "V_pop", "clearance": "Cl_pop"}
    drug = run.to_population(
        names,
        dict.fromkeys(names, Parameter(1.0, lower=0)),
        deviations={name: f"omega_{label.removesuffix('_pop')}" for name, label in names.items()},
        noise=NoiseModel("combined1", sd=run["a"], cv=run["b"]),
        covariates={"volume": Power("weight", run["beta_V_lw70"], reference=70)},
    )
    expected = [[0.36, 0, 0], [0, 0.04, 0.03], [0, 0.03, 0.09]]
    np.testing.assert_allclose(drug.covariance(), expected)
    assert [block.names for block in drug.between_tasks] == [("absorption",), ("volume", "clearance")]
    assert dict(drug.standard_errors) == {"absorption": 0.3, "volume": 1.5}  # nan is none
    assert run.deviations == ("omega_ka", "omega_V", "omega_Cl")
    # variances, another separator, quotes
    other = MONOLIX.replace("omega_ka,0.6", "omega2_ka,0.36").replace(",", ";").replace("parameter", '"parameter"')
    np.testing.assert_allclose(read_monolix(written(other)).covariance, run.covariance)


def test_what_monolix_leaves_open_is_asked_for(written):
    run = read_monolix(written(MONOLIX))
    names, table = {"volume": "V_pop"}, {"volume": Parameter(1.0, lower=0)}
    rest = {"deviations": {"volume": "omega_V"}, "without": ["omega_ka", "omega_Cl"]}
    with pytest.raises(ValueError, match="does not say what the noise is; pass noise="):
        run.to_population(names, table, **rest)
    noise = {"noise": NoiseModel("additive", sd=1.0)}
    with pytest.raises(ValueError, match="speaks of the covariates beta_V_lw70 and not of their formulas"):
        run.to_population(names, table, **rest, **noise)
    assert run.to_population(names, table, **rest, **noise, covariates={}).random == ("volume",)
    both = MONOLIX.replace("rse_sa", "se_lin")
    with pytest.raises(ValueError, match="has the standard errors se_sa and se_lin"):
        read_monolix(written(both))
    assert read_monolix(written(both), errors="linearised").standard_errors["ka_pop"] == 20
    assert read_monolix(written(both), errors="stochastic").standard_errors["ka_pop"] == 0.3
    with pytest.raises(ValueError, match="has no column se_lin"):
        read_monolix(written(MONOLIX), errors="linearised")
    occasions = read_monolix(written(MONOLIX + "gamma_V,0.1,,,\ngamma_ka,0.1,,,\ncorr2_V_ka,0.1,,,\n"))
    assert occasions.occasions == ("gamma_V", "gamma_ka", "corr2_V_ka")
    np.testing.assert_allclose(occasions.covariance, run.covariance)
    with pytest.raises(ValueError, match="gamma_V is variation between occasions"):
        occasions.to_population(names, table, **rest, **noise, covariates={})


def test_wrong_files_of_monolix(written):
    wrong = {
        "does not begin with the columns parameter and value": "name,value\nV_pop,1\n",
        "V_pop comes twice": MONOLIX + "V_pop,3,,,\n",
        "line 3, V_pop: 'many' is no number": MONOLIX.replace("V_pop,30", "V_pop,many"),
        "line 3, V_pop: the value is nan": MONOLIX.replace("V_pop,30", "V_pop,nan"),
        "omega_V is -0.2, and variation is at least 0": MONOLIX.replace("omega_V,0.2", "omega_V,-0.2"),
        "corr_V_Q names no two constants that vary": MONOLIX.replace("corr_V_Cl", "corr_V_Q"),
        "is a second correlation": MONOLIX + "corr1_V_Cl,0.1,,,\n",
        "as omega_ and as omega2_": MONOLIX + "omega2_V,0.1,,,\n",
        "has no parameter": "parameter,value\n",
        "a label and its value are wanted": MONOLIX + "V_pop\n",
    }
    for message, text in wrong.items():
        with pytest.raises(ValueError, match=message):
            read_monolix(written(text))
    with pytest.raises(ValueError, match="errors must be 'stochastic'"):
        read_monolix(written(MONOLIX), errors="sa")


def test_a_definition_of_pkpdsim_is_a_population(written):
    read = read_pkpdsim(written(PKPDSIM, "pk_drug.json5"))
    assert read.covariates == ("WT",)
    names = {"clearance": "CL", "volume": "V"}
    rest = {"deviations": names, "covariates": {"clearance": Power("weight", read["TH"], reference=70)}}
    drug = read.to_population(names, {name: Parameter(1.0, lower=0) for name in names}, **rest)
    np.testing.assert_allclose(drug.covariance(), [[0.09, 0.012], [0.012, 0.04]])
    assert drug.noise == NoiseModel("combined", sd=1.6, cv=0.15)
    assert drug.constants["clearance"].unit == "L/h"
    assert "A. Author 2020, in PKPDsim, pk_drug.json5" in drug.provenance.citation
    with pytest.raises(ValueError, match="'clearance' is in L/d, and CL of the file in L/h"):
        read.to_population(names, {name: Parameter(1.0, lower=0, unit="L/d") for name in names}, **rest)
    for ruv, noise in (("{prop: 0.2}", NoiseModel("proportional", cv=0.2)), ("{add: 2, prop: 0}", NoiseModel("additive", sd=2.0)), ("{prop: [0.1, 0.2]}", None)):  # fmt: skip
        assert read_pkpdsim(written(PKPDSIM.replace("{ prop: 0.15, add: [1.6] }", ruv))).noise == noise
    logarithmic = read_pkpdsim(written(PKPDSIM.replace("iov: null", "iov: null, ltbs: true")))
    assert logarithmic.noise is None  # these numbers are of logarithms
    occasions = read_pkpdsim(written(PKPDSIM.replace("iov: null", "iov: {cv: {CL: 0.1}}")))
    with pytest.raises(ValueError, match=r"iov_CL is variation between occasions .*without=\['iov_CL'\]"):
        occasions.to_population(names, {name: Parameter(1.0, lower=0) for name in names}, **rest)
    assert occasions.to_population(names, {name: Parameter(1.0, lower=0) for name in names}, without=["iov_CL"], **rest)
    without = read_pkpdsim(written(PKPDSIM.replace("omega_matrix: [0.09, 0.012, 4e-2],", "")))
    assert without.deviations == ()


def test_wrong_files_of_pkpdsim(written):
    wrong = {
        "no JSON5 at line 1, column 1": "",
        "has no parameters by name": "[1, 2]",
        "parameters.V must be a finite number": PKPDSIM.replace("+70.", "Infinity"),
        "omega_matrix has 2 numbers, and the lower triangle over CL, V, .* has 3": PKPDSIM.replace("0.012, ", ""),
        "omega_matrix must be a list": PKPDSIM.replace("[0.09, 0.012, 4e-2]", "0.09"),
        "both omega_matrix and omega": PKPDSIM.replace("iov:", "omega: [1], iov:"),
        "ruv.exp is no standard deviation": PKPDSIM.replace("prop:", "exp:"),
        "fixed must be a list of names": PKPDSIM.replace('["TH", "TDM_INIT"]', '"TH"'),
        "units must be texts": PKPDSIM.replace('{ CL: "L/h" }', "{ CL: 1 }"),
        "iov must have cv by name": PKPDSIM.replace("iov: null", "iov: 3"),
        "iiv and no omega_matrix": PKPDSIM.replace("omega_matrix: [0.09, 0.012, 4e-2]", "iiv: {CL: 0.3}"),
    }
    for message, text in wrong.items():
        with pytest.raises(ValueError, match=message):
            read_pkpdsim(written(text))


def test_json5():
    text = "{a: [1, -.5, +2., 0x1F, 1e3, .5E-1,], 'b': \"x\\\ny\\u0041\\n\", $c_1: null, d: {}, e: [], f: true, 'ü': false}"
    assert parse_json5(text) == {
        "a": [1, -0.5, 2.0, 31, 1000.0, 0.05], "b": "xyA\n", "$c_1": None, "d": {}, "e": [], "f": True, "ü": False,
    }  # fmt: skip
    assert math.isnan(parse_json5("NaN"))
    assert parse_json5(" /* a */ -Infinity // b") == -math.inf
    wrong = {
        "{a: 1, a: 2}": "the key 'a' comes twice", "{a 1}": "a colon should follow", "[1 2]": "a comma or ]",
        "{a: 1": "and the text ends", "/* a": "a comment has no end", "'a": "no end in its line", "[1] 2": "should end here",
        "{a: b}": "a value is wanted", "01": "a value is wanted", "'\\u12'": "hexadecimal", "[" * 200: "nested more than",
        "{1: 2}": "a key is wanted", "{": "a key is wanted", "1.2.3": "a value is wanted", "[,]": "a value is wanted",
    }  # fmt: skip
    for text, message in wrong.items():
        with pytest.raises(ValueError, match=message):
            parse_json5(text)
    with pytest.raises(ValueError, match="line 2, column 5"):
        parse_json5("{\n  a b}")


def test_what_is_named_wrongly_is_refused(written):
    run = read_nonmem_ext(written(EXT))
    usual = {"typical": NAMES, "parameters": TABLE, "deviations": ETAS, "noise": NoiseModel("additive", sd=1.0)}
    assert run.to_population(**usual).correlated
    wrong = [
        ({"typical": {**NAMES, "volume": "THETA9"}}, "typical of 'volume' is 'THETA9', which is no label"),
        ({"typical": {"clearance": "THETA1"}}, "typical has no label of 'volume', which parameters has"),
        (
            {"parameters": {"clearance": TABLE["clearance"]}},
            "parameters has no 'volume', of which typical has the label",
        ),
        ({"parameters": {**TABLE, "volume": 3.0}}, "parameters of 'volume' must be a Parameter"),
        ({"deviations": {"clearance": "OMEGA(1,1)"}}, r"OMEGA\(2,2\) varies in the file, and no constant has it"),
        ({"deviations": {**ETAS, "volume": "OMEGA(1,1)"}}, "is the deviation of two constants"),
        ({"deviations": {**ETAS, "volume": "OMEGA(3,3)"}}, "which does not vary in the file"),
        ({"deviations": {**ETAS, "weight": "OMEGA(2,2)"}}, "deviations names 'weight', which is no constant"),
        ({"without": ["OMEGA(1,1)"]}, "named both in deviations and in without"),
        ({"without": ["ETA1"]}, "without names 'ETA1', which is no label of variation"),
        ({"without": "OMEGA(1,1)"}, "without must be a list of names"),
        ({"logarithms": ["weight"]}, "logarithms names 'weight'"),
        ({"typical": {**NAMES, "volume": 2}}, "the label of 'volume' must be text"),
        ({"parameters": {**TABLE, "volume": Parameter(0.5, lower=0, upper=1)}}, "parameter 'volume'"),
        ({"colour": "red"}, "colour"),
    ]
    for change, message in wrong:
        with pytest.raises((ValueError, TypeError), match=message):
            run.to_population(**{**usual, **change})
    with pytest.raises(KeyError, match="there is no number 'THETA9'"):
        run["THETA9"]
    alone = Estimates({"k": 1.0}, source="by hand")
    kept = alone.to_population({"k": "k"}, {"k": Parameter(1.0, lower=0)}, noise=NoiseModel("additive", sd=1.0))
    assert kept.between_tasks == ()
