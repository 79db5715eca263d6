"""Inverse kinematics of vendors' arms: which model, where its flange is, which of its parts stay apart.

The models are those that robosuite's wheel carries (MJCF): Universal Robots' UR5e and Franka's Panda, whose lengths the
FR3 shares. What is drawn only is left out, the base is turned to where the controller has it, and the lengths are the
makers' published ones where robosuite has them rounded. A real arm differs from those by its calibration, up to some
millimetres: goals count from where the model says the measured joints are.

Each part is taken for the capsule around its mesh, which holds it but for 5 mm, and the tool for one from the flange to
its centre point: distances of capsules are exact, those that MuJoCo finds between meshes are not always.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Float64

from vla import rotation
from vla.errors import BodyFault, ConfigError, DependencyMissing
from vla.robot_driver.inverse_kinematics import CORRECTIONS, Avoidance, InverseKinematics

TOOL_RADIUS = 0.04
"""Of the capsule that stands for the tool [m]."""
MARGIN = 0.02
"""Between parts that stay apart [m]."""

_SEEN, _NEARING = 0.1, 3.0
"""From so far on [m], parts approach each other at most at so many times what is left of the way, each second: whoever
has to stop at the margin is slow enough by then."""
_DRAWN = "1"  # group of the geoms that are for the eye


@dataclass(frozen=True)
class ArmModel:
    """An arm of robosuite's, and what is to be known about it.

    Attributes:
        file: of the model, in the folder of robosuite's robots.
        joints: names, in the order of the driver.
        base: quaternion (w, x, y, z) of the model's base in the controller's base frame.
        flange: body that carries it.
        offset: pose of the flange in that body's frame.
        lengths: positions of bodies in their parents' frames, where they are not robosuite's [m].
        bare: collision meshes by the bodies that robosuite leaves without; named as the mesh.
        apart: geoms that stay clear of geoms; ``"tool"`` is the tool's capsule.
    """

    file: str
    joints: tuple[str, ...]
    base: tuple[float, float, float, float]
    flange: str
    offset: Float64[np.ndarray, "4 4"]
    apart: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    lengths: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    bare: Mapping[str, str] = field(default_factory=dict)


def _pose(rows: Sequence[Sequence[float]], position: Sequence[float]) -> Float64[np.ndarray, "4 4"]:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rows, position
    return pose


_UR5E = ArmModel(
    file="ur5e/robot.xml",
    joints=tuple(
        f"{name}_joint" for name in ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
    ),
    base=(0.0, 0.0, 0.0, 1.0),  # the controller's x axis points to where its cable comes out
    flange="wrist_3_link",
    offset=_pose([[1, 0, 0], [0, 0, 1], [0, -1, 0]], [0, 0.0996, 0]),
    # Universal Robots, "DH parameters for calculations of kinematics and dynamics"; the three offsets along y make d4
    lengths={
        "shoulder_link": (0, 0, 0.1625),
        "upper_arm_link": (0, 0.138, 0),
        "forearm_link": (0, -0.131, 0.425),
        "wrist_1_link": (0, 0, 0.3922),
        "wrist_2_link": (0, 0.1263, 0),
        "wrist_3_link": (0, 0, 0.0997),
    },
    apart=(
        (("wrist1_col", "wrist2_col", "wrist3_col", "tool"), ("base_col", "shoulder_col", "upperarm_col")),
        (("wrist3_col", "tool"), ("forearm_col",)),
        (("forearm_col",), ("base_col", "shoulder_col")),
    ),
)
_PANDA = ArmModel(
    file="panda/robot.xml",
    joints=tuple(f"joint{number}" for number in range(1, 8)),
    base=(1.0, 0.0, 0.0, 0.0),
    flange="link7",
    offset=_pose(np.eye(3).tolist(), [0, 0, 0.107]),  # Franka Control Interface, "Denavit-Hartenberg parameters"
    apart=(
        (
            ("link5_collision", "link6_collision", "link7", "tool"),
            ("link0_collision", "link1_collision", "link2_collision"),
        ),
        (("link7", "tool"), ("link3_collision", "link4_collision")),
        (("tool",), ("link5_collision",)),
    ),
    bare={"link7": "link7"},
)
MODELS: dict[str, ArmModel] = {"ur5e": _UR5E, "panda": _PANDA, "fr3": _PANDA}
"""By the drivers' names."""


def arm_kinematics(
    name: str,
    tool: Float64[np.ndarray, "4 4"] | None,
    ranges: Sequence[tuple[float, float]],
    speed: float,
    rate: float,
) -> InverseKinematics:
    """Of an arm with a tool; poses are of its centre point, in the controller's base frame.

    Args:
        name: a key of ``MODELS``.
        tool: pose of the tool centre point in the flange's frame.
        ranges: of the joints [rad].
        speed: largest of every joint [rad/s].
        rate: of the goals that it is asked for [Hz].

    Raises:
        DependencyMissing: mink or robosuite is not installed.
        ConfigError: there is no model of this arm.
        BodyFault: the controller does not say where its tool is.
    """
    if tool is None:
        raise BodyFault("kinematics of our own needs the tool centre point, which the controller does not say")
    arm = check_model(name)
    import mujoco

    library: Any = mujoco  # it has no types
    model = library.MjModel.from_xml_string(_xml(arm, tool, ranges))
    avoid = Avoidance(arm.apart, MARGIN, _SEEN, min(0.85, _NEARING / rate) / CORRECTIONS)
    return InverseKinematics(model, arm.joints, (speed,) * len(arm.joints), frame="tool", avoid=avoid)


def check_model(name: str) -> ArmModel:
    """The model of an arm.

    Raises:
        ConfigError: there is none.
    """
    if name not in MODELS:
        raise ConfigError(f"kinematics mink knows {', '.join(sorted(MODELS))}, not {name}: use kinematics=controller")
    return MODELS[name]


def _xml(arm: ArmModel, tool: Float64[np.ndarray, "4 4"], ranges: Sequence[tuple[float, float]]) -> str:
    found = importlib.util.find_spec("robosuite")
    if found is None or found.origin is None:
        raise DependencyMissing("kinematics mink takes its models from robosuite: pip install robosuite==1.4.0")
    file = Path(found.origin).parent / "models" / "assets" / "robots" / arm.file
    root = ElementTree.parse(file).getroot()
    ElementTree.SubElement(root, "compiler", angle="radian", autolimits="true", fitaabb="true")
    parents = {child: parent for parent in root.iter() for child in parent}
    for one in list(root.iter()):
        if one.tag in ("actuator", "camera", "material") or (one.tag == "geom" and one.get("group") == _DRAWN):
            parents[one].remove(one)
    bodies = {body.get("name"): body for body in root.iter("body")}
    for body, mesh in arm.bare.items():
        ElementTree.SubElement(bodies[body], "geom", name=mesh, type="mesh", mesh=mesh)
    used = set()
    for geom in root.iter("geom"):
        if geom.get("type") == "mesh":
            used.add(geom.get("mesh"))
            geom.set("type", "capsule")  # fitted to the mesh
    for mesh in list(root.iter("mesh")):
        if mesh.get("name") in used:
            mesh.set("file", str(file.parent / mesh.attrib["file"]))
        else:
            parents[mesh].remove(mesh)
    bodies["base"].set("quat", _numbers(arm.base))
    for body, position in arm.lengths.items():
        bodies[body].set("pos", _numbers(position))
    limits = dict(zip(arm.joints, ranges, strict=True))
    for joint in root.iter("joint"):
        joint.set("range", _numbers(limits[joint.attrib["name"]]))
    flange = _body(bodies[arm.flange], "flange", arm.offset)
    centre = _body(flange, "tool_centre", tool)
    ElementTree.SubElement(centre, "site", name="tool")
    long = np.linalg.norm(tool[:3, 3]) > 1e-3
    capsule = {"type": "capsule", "fromto": _numbers([0, 0, 0, *tool[:3, 3]])} if long else {"type": "sphere"}
    ElementTree.SubElement(flange, "geom", {"name": "tool", "size": str(TOOL_RADIUS), "mass": "0.1", **capsule})
    return ElementTree.tostring(root, encoding="unicode")


def _body(parent: ElementTree.Element, name: str, pose: Float64[np.ndarray, "4 4"]) -> ElementTree.Element:
    quaternion = rotation.from_matrix(pose[:3, :3], "quat_xyzw")
    turn = _numbers(quaternion[[3, 0, 1, 2]])
    return ElementTree.SubElement(parent, "body", name=name, pos=_numbers(pose[:3, 3]), quat=turn)


def _numbers(values: Any) -> str:
    return " ".join(repr(float(value)) for value in values)
