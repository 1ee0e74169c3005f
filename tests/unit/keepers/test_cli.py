"""The command line: quick to help, small in memory, and one sentence for what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from coordinator.enrolment.authority import create_authority
from fl_core.identity.certificates import Role
from keepers.cli import keeper


def test_nothing_of_a_keeper_loads_torch() -> None:
    """It runs on small machines; and help needs neither numpy nor the network's libraries."""
    script = (
        "import sys; import keepers.cli; assert not {'numpy', 'redis', 'cryptography'} & set(sys.modules);"
        "import keepers.daemon; assert 'torch' not in sys.modules and 'celery' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("role", [Role.DEVICE, Role.COORDINATOR])
def test_an_identity_of_another_role_is_refused(tmp_path: Path, role: Role) -> None:
    """With the command that makes the right one."""
    folder = create_authority(tmp_path / "authority", "ours").make_identity("x", role, 10)[1]
    result = CliRunner().invoke(keeper, ["--identity", str(folder)])
    assert result.exit_code == 2
    assert f"is of a {role.value}; `fedtide authority issue keeper NAME` makes" in result.output
