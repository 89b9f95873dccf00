"""Download files from the addresses of their authors, check them against a hash, and keep them in a cache."""

from pathlib import Path
from typing import NamedTuple

__all__ = ["fetch_file"]


class _Source(NamedTuple):
    repository: str
    commit: str
    path: str
    sha256: str

    @property
    def address(self) -> str:
        quoted = self.path.replace(" ", "%20").replace("(", "%28").replace(")", "%29")
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{quoted}"


_TEMPERING = "Tempering data for carbon and low alloy steels - Raiipa(in).csv"
_BAINITE = ("DanielDosSantosAvila/bainite-model", "8dd5883865a7acd1c568853b1a9d066f81caa739")
_SOURCES = {
    "polymer_dsc/Avrami.txt": _Source(
        "Usermantherealone/Avrami",
        "6b6312b6d765a4eaa1caae0225ae630633bc5ca1",
        "Avrami.txt",
        "e9a5bdcdc1c6c5f857eda955c8b2fc31e5b89d5efc41070c626b07c4d7b387ca",
    ),
    f"steel_tempering/{_TEMPERING}": _Source(
        "HachemAhmed/steel-tempering-optimizer",
        "21f9bb64c0c11b8638bfe73b714d045c7209d159",
        f"datasets/{_TEMPERING}",
        "9bc64996584c94e83f33e032a101de6d55c73b00125fab68c0249df171055f16",
    ),
    "bainite_dilatometry/Example3_data_d10.xlsx": _Source(
        *_BAINITE, "Example3_data_d10.xlsx", "80fc6562268555d66c9d9dfb82c8b0fc709c3e770e340b0cad72896215929c90"
    ),
    "bainite_dilatometry/Example3_data_d15.xlsx": _Source(
        *_BAINITE, "Example3_data_d15.xlsx", "80b2eb7b0f19b6fe10768a1a150417c9feecc63ed3fce7d4987d640335b24ad9"
    ),
    **{
        f"omniglot/{name}": _Source(
            "brendenlake/omniglot", "057f034baf2ecb8530bc5710e5a23584d2a519cc", f"python/{folder}{name}", sha256
        )
        for name, folder, sha256 in (
            ("images_background_small1.zip", "", "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"),
            ("images_background_small2.zip", "", "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"),
            (
                "all_runs.zip",
                "one-shot-classification/",
                "437c1eeab0af8484112e1b4cc0f3d541ec727f7c47b9b202da738af9dfd6c325",
            ),
        )
    },
    **{
        f"perovskite_tau/{name}": _Source(
            "CJBartel/perovskite-stability", "965b8de5b379dde09a6cb1f223ae0f0b9d3ce54e", name, sha256
        )
        for name, sha256 in (
            ("TableS1.csv", "bea471ddb1ed63dcb94cc9cbc58c73f3bc1a12918e96cf24818b3aea2cbe3656"),
            ("electronegativities.csv", "94e26be5fd3fcd156b0c71dd8588c61947289d7e25cdeece3c277a3df00255b8"),
        )
    },
    "cgm_hall2018/example_data_hall.rda": _Source(
        "IrinaStatsLab/iglu",
        "95bd83ae993fba0e7f8e1c64f8fe47b895f634f0",
        "data/example_data_hall.rda",
        "294cc45bbb97812855751fd060f52f6f3012d9faf4cd9d5dfbe6b0d0c4897211",
    ),
    "nh4cl_tga/NH4_parse_TGA.csv": _Source(
        "kdavjd/Open_ThermoKinetics",
        "83ff0c4ede29c2b5a99344ded1523dfd6e03d399",
        "resources/NH4_parse_TGA.csv",
        "794e558ac2dcc01bcd323f14521151296381fb4acd5f90611052339e5fa62e82",
    ),
}


def fetch_file(name: str) -> Path:
    """Return the path of a file in the cache, downloaded first if it is not there.

    The cache is the folder of the environment variable METAEST_DATA_HOME, or a folder of the user's cache.

    Parameters
    ----------
    name : str
        Folder and file, as in the table of sources of this module.

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        When pooch is not installed: ``pip install metaest[fetch]``.
    OSError
        When the file is neither in the cache nor available for download.
    ValueError
        When the SHA-256 of the downloaded file differs from the expected one.
    """
    try:
        import pooch
    except ImportError as error:
        raise ImportError("fetching data requires pooch: pip install 'metaest[fetch]'.") from error

    store = pooch.create(
        path=pooch.os_cache("metaest"),
        env="METAEST_DATA_HOME",
        base_url="",
        registry={key: source.sha256 for key, source in _SOURCES.items()},
        urls={key: source.address for key, source in _SOURCES.items()},
    )
    cached = Path(store.abspath) / name
    if cached.exists() and not cached.is_file():
        raise OSError(f"{cached} in the cache is not a regular file (but a folder, a pipe or a device); remove it.")
    damaged = cached.is_file()
    try:
        return Path(store.fetch(name))
    except ValueError as error:
        raise ValueError(
            f"{name}: the hash (SHA-256) of the file at {_SOURCES[name].address} differs from the expected one; the "
            "file was not kept."
        ) from error
    except Exception as error:  # by the system, the network, or pooch
        state = "is damaged" if damaged else "is not"
        raise OSError(
            f"{name} {state} in the cache {store.abspath}, and could not be fetched from {_SOURCES[name].address} "
            f"({type(error).__name__}); set METAEST_DATA_HOME to a folder that contains the file."
        ) from error
