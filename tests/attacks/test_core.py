"""Every public entry point of metaest under hostile input: only right answers and clear errors."""

import re

import pytest

from attacks import core, populations
from attacks.core import EXCLUDED, public_names
from attacks.run import SMALL, SMALL_FITS, attack, large

ENTRIES = [*core.ENTRIES, *populations.ENTRIES]


def test_every_public_name_is_attacked():
    attacked = {re.sub(r" \(.*\)$", "", entry.name) for entry in ENTRIES}
    missing = [name for name in public_names() if name not in attacked and name not in EXCLUDED]
    assert not missing, f"add an EntryPoint to tests/attacks for {missing}"
    assert not [name for name in EXCLUDED if name not in public_names()]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_a_few_attacks(entry):
    counts = attack(entry, SMALL_FITS if entry.fits else SMALL)
    assert not counts.failed, counts.report()


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_many_attacks(entry, capsys):
    counts = attack(entry, large(entry))
    with capsys.disabled():
        print(f"\n{counts}", end="")
    assert not counts.failed, counts.report()
