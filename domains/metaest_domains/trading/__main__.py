"""Run the studies of trading policies, on simulated assets and on unseen real stocks: tables and figures.

python -m metaest_domains.trading simulated strength real --output trading
"""

import argparse
import time
import warnings
from pathlib import Path

import pandas as pd
import torch

from metaest import OvershootWarning
from metaest_datasets import load_sp500_prices
from metaest_domains.trading.study import real, simulated
from metaest_domains.trading.study.figures import draw_equity, draw_lag_and_cost, draw_positions, draw_strength

# first-order autocorrelations of the simulated assets
STRENGTHS = (0.1, 0.15, 0.2, 0.25, 0.35, 0.5)
# printed above every table of real stocks
SURVIVORS = "20 large American stocks of today's index: chosen when their success was known."


def main() -> None:
    """Run the studies, print their tables and save figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", help="simulated, strength, real; default: all")
    parser.add_argument("--output", type=Path, default=Path("trading"), help="folder for figures")
    arguments = parser.parse_args()
    for study in arguments.studies or STUDIES:
        if study not in STUDIES:
            parser.error(f"no study {study!r}; there are {', '.join(STUDIES)}")
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", OvershootWarning)
    pd.set_option("display.width", 200, "display.max_columns", 20)
    for study in arguments.studies or STUDIES:
        started = time.perf_counter()
        STUDIES[study](arguments.output)
        print(f"\n{study}: {time.perf_counter() - started:.0f} s; figures are in {arguments.output}\n", flush=True)


def _simulated(output: Path) -> None:
    result = simulated.simulated()
    print(f"Annual Sharpe ratios after adapting to {simulated.LOOK} days, 200 unseen assets that trend or revert;")
    print("decided and traded at the same close (lag 0), costs of 5 basis points")
    print(simulated.table(result).to_string(float_format="{:.2f}".format))
    print(f"best policy, which knows the character of each asset: {result['sharpe']['best'].mean():.2f}")
    print(result["chosen"].to_string())


def _strength(output: Path) -> None:
    shares = simulated.shares_by_strength(STRENGTHS)
    print("Share of the best policy's Sharpe ratio, by strength; the ratio of the best in the last column (lag 0)")
    print(shares.to_string(float_format="{:.2f}".format))
    draw_strength(shares).savefig(output / "trading_strength.png", dpi=130)


def _real(output: Path) -> None:
    prices = load_sp500_prices()
    fit, walk = real.seconds(prices)
    print(f"fit to 15 assets {fit:.1f} s, walk of 20 assets through 13 years {walk:.1f} s (window of 500 days)")
    walked = real.real(prices)
    print(f"{SURVIVORS} Assets and years unseen, 2010 to 2022, lag 1, 5 basis points")
    print(real.table(walked).astype(float).to_string(float_format="{:.2f}".format))
    print("\nChosen on training assets before 2010 (their Sharpe ratio there)")
    print(walked.chosen.to_string())
    print("\nSharpe ratio by cost (basis points), at lag 1")
    print(walked.by_cost.to_string(float_format="{:.2f}".format))
    print("\nSharpe ratio by lag (days), at 5 basis points; lag 0 is impossible in practice")
    print(walked.by_lag.to_string(float_format="{:.2f}".format))
    draw_equity(walked).savefig(output / "trading_equity.png", dpi=130)
    draw_positions(walked, prices).savefig(output / "trading_positions.png", dpi=130)
    draw_lag_and_cost(walked).savefig(output / "trading_costs.png", dpi=130)


STUDIES = {"simulated": _simulated, "strength": _strength, "real": _real}


if __name__ == "__main__":
    main()
