"""`dsdeploy prepare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from dsdeploy.cli._options import common_options

if TYPE_CHECKING:
    from dsdeploy.invocation import Options


@click.command(short_help="Prepare GPU hosts: driver, fabric manager, CUDA toolkit, monitoring.")
@common_options
def prepare(options: Options) -> int:
    """Bring the GPUs of the hosts into use: driver, fabric manager, CUDA toolkit, monitoring.

    A host without an NVIDIA GPU is left alone. Nothing is rebooted unless nvidia_driver_reboot is set; exits
    with 5 when a host needs it.
    """
    from dsdeploy.session import execute

    return execute("prepare", options, {})
