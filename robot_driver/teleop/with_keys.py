"""A device that has too few buttons, or none, together with a keyboard that has the others."""

import dataclasses

from vla.teleoperation import Command, Teleoperator


class WithKeys:
    """Motion and gripper from one device, buttons and clutch from both; a :class:`~vla.teleoperation.Teleoperator`.

    Args:
        device: what moves the arm.
        keyboard: its movement keys do nothing.
    """

    def __init__(self, device: Teleoperator, keyboard: Teleoperator):
        self.device, self.keyboard = device, keyboard

    def start(self) -> None:
        """Open both.

        Raises:
            DependencyMissing: a library is not installed.
            BodyFault: one of them is not there.
        """
        self.device.start()
        self.keyboard.start()

    def begin(self) -> None:
        """An episode begins."""
        self.device.begin()
        self.keyboard.begin()

    def read(self) -> Command:
        """What both say now.

        Raises:
            BodyFault: one of them no longer answers.
        """
        command, keys = self.device.read(), self.keyboard.read()
        return dataclasses.replace(
            command, pressed=command.pressed | keys.pressed, engaged=command.engaged and keys.engaged
        )

    def close(self) -> None:
        """Give both back."""
        try:
            self.device.close()
        finally:
            self.keyboard.close()
