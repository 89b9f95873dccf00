"""Every public entry point of the domains and the data sets under hostile input: only right answers and clear errors."""

import re

import pytest

from attacks.domains import ENTRIES, EXCLUDED, public_names
from attacks.run import attack


def test_every_public_name_of_the_domains_is_attacked():
    attacked = {re.sub(r" \(.*\)$", "", entry.name) for entry in ENTRIES}
    missing = [name for name in public_names() if name not in attacked and name not in EXCLUDED]
    assert not missing, f"add an EntryPoint to tests/attacks/domains.py for {missing}"
    assert not [name for name in EXCLUDED if name not in public_names()]


@pytest.mark.parametrize("entry", [e for e in ENTRIES if not e.fits], ids=lambda entry: entry.name)
def test_a_few_hostile_calls(entry):
    counts = attack(entry, 8)
    assert not counts.failed, counts.report()


@pytest.mark.slow
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_many_hostile_calls(entry):
    counts = attack(entry, 300 if entry.fits else 10_000)
    print(counts)
    assert not counts.failed, counts.report()
