"""``vla robot emulate``: an arm that is software, at a serial port of its own, for whatever talks to the real one."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from tyro.conf import Positional

from vla.errors import ConfigError


@dataclass(frozen=True)
class RobotEmulate:
    """Be an SO-100 or SO-101: six servos at a serial port of their own, until Ctrl-C or SIGTERM.

    lerobot's own programs and Feetech's library talk to it as to a real arm; nothing of it is measured on one.
    """

    arm: Positional[Literal["so100", "so101"]] = "so101"
    """Both have the same servos."""
    link: Path | None = None
    """A name for the port: a symbolic link that is gone when this ends."""
    calibration: Path | None = None
    """File (FOLDER/NAME.json) for lerobot's calibration of this arm, which then comes calibrated."""
    sway: float = 0.0
    """Move the joints that are without power to and fro over this share of their ranges: a hand at a leader arm."""

    def run(self, console: Console) -> dict[str, Any]:
        """Serve; say how long and where."""
        from vla.robot_driver.feetech_emulator import make_arm, open_port, serve

        if not 0.0 <= self.sway <= 1.0:
            raise ConfigError(f"sway is a share from 0 to 1, found {self.sway}")
        if self.link and (self.link.exists() or self.link.is_symlink()):
            raise ConfigError(f"{self.link} is there already; choose another name or remove it")
        arm = make_arm(self.arm, sway=self.sway, calibration=self.calibration)
        master, slave, port = open_port()
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        begin = time.monotonic()
        try:
            if self.link:
                self.link.symlink_to(port)
            console.print(f"{self.arm} at {self.link or port}", markup=False)
            serve(arm, master)
        except KeyboardInterrupt:
            console.print("ended")
        finally:
            signal.signal(signal.SIGTERM, before)
            if self.link:
                self.link.unlink(missing_ok=True)
            os.close(master)
            os.close(slave)
        return {"port": port, "seconds": time.monotonic() - begin, "damaged_packets": arm.line.damaged}
