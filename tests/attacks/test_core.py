"""Every public entry point of metaest under hostile input: only right answers and clear errors."""

import re

from attacks.core import ENTRIES, EXCLUDED, public_names


def test_every_public_name_is_attacked():
    attacked = {re.sub(r" \(.*\)$", "", entry.name) for entry in ENTRIES}
    missing = [name for name in public_names() if name not in attacked and name not in EXCLUDED]
    assert not missing, f"add an EntryPoint to tests/attacks/core.py for {missing}"
    assert not [name for name in EXCLUDED if name not in public_names()]
