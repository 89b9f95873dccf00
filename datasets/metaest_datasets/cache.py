"""Files of others, fetched once from their own address, checked against their hash, and kept."""

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
        Folder and file, as in the list above.

    Returns
    -------
    Path

    Raises
    ------
    ImportError
        When pooch is not installed: ``pip install metaest[fetch]``.
    OSError
        When the file is neither in the cache nor to be had.
    ValueError
        When its SHA-256 is another one.
    """
    try:
        import pooch
    except ImportError as error:
        raise ImportError("fetching data needs pooch: pip install 'metaest[fetch]'.") from error

    store = pooch.create(
        path=pooch.os_cache("metaest"),
        env="METAEST_DATA_HOME",
        base_url="",
        registry={key: source.sha256 for key, source in _SOURCES.items()},
        urls={key: source.address for key, source in _SOURCES.items()},
    )
    try:
        return Path(store.fetch(name))
    except OSError as error:
        raise OSError(
            f"{name} is not in the cache {store.abspath}, and could not be fetched from {_SOURCES[name].address}; set "
            "METAEST_DATA_HOME to a folder that holds it."
        ) from error
