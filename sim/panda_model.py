"""A bare Panda with its hand on a table, compiled from robosuite's own model without the parts that are only seen.

Both files of robosuite are joined as XML: meshes of the collision shapes are kept, 60 visual ones are not, so that it
compiles in a tenth of a second. The arm touches the table and nothing else.
"""

import importlib.util
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from vla.errors import DependencyMissing
from vla.sim.rendering import mujoco_binding
from vla.sim.rendering.mujoco_binding import MjModel

FIRST = np.array([0.0, -0.161, 0.0, -2.4446, 0.0, 2.2268, np.pi / 4])
"""Joint positions that LIBERO's episodes start from [rad]."""

JOINTS = tuple(f"joint{number}" for number in range(1, 8))
FINGERS = ("finger_joint1", "finger_joint2")
TOOL = "grip_site"

STEP_S = 0.002


def compile_model(table: float = 0.0) -> MjModel:
    """The model: 7 motors, 2 finger motors that take forces, one table.

    Args:
        table: its height, base frame [m].

    Raises:
        DependencyMissing: robosuite is not installed.
    """
    assets = _assets()
    arm = ElementTree.parse(assets / "robots/panda/robot.xml").getroot()
    hand = ElementTree.parse(assets / "grippers/panda_gripper.xml").getroot()
    root = ElementTree.Element("mujoco", model="panda")
    ElementTree.SubElement(root, "compiler", angle="radian", meshdir=str(assets), autolimits="true")
    # explicit integration of the joints' damping: what is wanted is what happens, to the last bit
    option = ElementTree.SubElement(root, "option", timestep=str(STEP_S), integrator="Euler")
    ElementTree.SubElement(option, "flag", eulerdamp="disable")
    asset = ElementTree.SubElement(root, "asset")
    world = ElementTree.SubElement(root, "worldbody")
    base, gripper = _only(arm, "worldbody"), _only(hand, "worldbody")
    attached = next(body for body in base.iter("body") if body.get("name") == "right_hand")
    attached.extend(gripper)
    world.extend(base)
    used = _strip(world)
    for part, folder in ((arm, "robots/panda"), (hand, "grippers")):
        for mesh in part.iter("mesh"):
            if mesh.get("name") in used:
                ElementTree.SubElement(asset, "mesh", name=mesh.get("name", ""), file=f"{folder}/{mesh.get('file')}")
    table_z = str(table - 0.05)
    ElementTree.SubElement(
        world, "geom", name="table", type="box", size="1.5 1.5 0.05", pos=f"0 0 {table_z}", contype="2", conaffinity="1"
    )
    actuator = ElementTree.SubElement(root, "actuator")
    for joint in (*JOINTS, *FINGERS):
        ElementTree.SubElement(actuator, "motor", name=joint, joint=joint, ctrllimited="false")
    return mujoco_binding.load().MjModel.from_xml_string(ElementTree.tostring(root, encoding="unicode"))


def _strip(world: ElementTree.Element) -> set[str]:
    """Take away what is only seen, let the rest touch the table alone; names of the meshes that are left."""
    used: set[str] = set()
    for body in list(world.iter()):
        for child in list(body):
            seen_only = child.tag == "geom" and child.get("contype") == "0" and child.get("conaffinity") == "0"
            if child.tag == "camera" or seen_only:
                body.remove(child)
            elif child.tag == "geom":
                # the base stands on the table, as it is meant to
                fixed = child.get("name") == "link0_collision"
                child.set("contype", "0" if fixed else "1")
                child.set("conaffinity", "0" if fixed else "2")
                if child.get("mesh"):
                    used.add(child.get("mesh", ""))
    return used


def _only(root: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = root.find(tag)
    if found is None:
        raise DependencyMissing(f"robosuite's Panda has no {tag}: its installed version is not the one known here")
    return found


def _assets() -> Path:
    spec = importlib.util.find_spec("robosuite")
    if spec is None or spec.origin is None:
        raise DependencyMissing("the simulated Panda's model comes with robosuite: pip install robosuite==1.4.0")
    return Path(spec.origin).parent / "models" / "assets"
