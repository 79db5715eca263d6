"""Published mixtures of Open X-Embodiment data sets, as the weights their authors wrote down.

A weight multiplies a data set's own share, which in Octo and OpenVLA is its number of frames
(``sample_weights * dataset_sizes``); weights here are as published, before that.

Names are those of the published tables; where an entry stands under two names (:mod:`vla.datasets.oxe.registry`) either
finds it. Of a data set that a table lists twice the first weight counts, as in both publishers' loading code.
"""

from vla.errors import UnknownName

OCTO = "Octo octo/data/oxe/oxe_dataset_mixes.py"
OPENVLA = "OpenVLA prismatic/vla/datasets/rlds/oxe/mixtures.py"

_RTX = {
    "fractal20220817_data": 0.54087122203,
    "kuka": 0.8341046294,
    "bridge_dataset": 1.0,
    "taco_play": 2.0,
    "jaco_play": 2.0,
    "berkeley_cable_routing": 3.0,
    "roboturk": 1.0,
    "nyu_door_opening_surprising_effectiveness": 5.0,
    "viola": 2.0,
    "berkeley_autolab_ur5": 1.0,
    "toto": 1.0,
}

_FRANKA = {
    "taco_play": 1.0,
    "berkeley_cable_routing": 1.0,
    "viola": 1.0,
    "toto": 1.0,
    "stanford_hydra_dataset_converted_externally_to_rlds": 1.0,
    "austin_buds_dataset_converted_externally_to_rlds": 3.0,
    "nyu_franka_play_dataset_converted_externally_to_rlds": 3.0,
    "maniskill_dataset_converted_externally_to_rlds": 0.1,
    "furniture_bench_dataset_converted_externally_to_rlds": 0.1,
    "cmu_franka_exploration_dataset_converted_externally_to_rlds": 5.0,
    "austin_sailor_dataset_converted_externally_to_rlds": 1.0,
    "austin_sirius_dataset_converted_externally_to_rlds": 1.0,
    "berkeley_rpt_converted_externally_to_rlds": 1.0,
    "kaist_nonprehensile_converted_externally_to_rlds": 3.0,
    "stanford_robocook_converted_externally_to_rlds": 1.0,
    "iamlab_cmu_pickup_insert_converted_externally_to_rlds": 1.0,
    "utaustin_mutex": 1.0,
    "cmu_play_fusion": 1.0,
}

_SOUP = {
    "fractal20220817_data": 0.54087122203,
    "kuka": 0.8341046294,
    "bridge_dataset": 1.0,
    "taco_play": 2.0,
    "jaco_play": 1.0,
    "berkeley_cable_routing": 1.0,
    "roboturk": 2.0,
    "nyu_door_opening_surprising_effectiveness": 1.0,
    "viola": 2.0,
    "berkeley_autolab_ur5": 2.0,
    "toto": 1.0,
    "language_table": 0.1,
    "stanford_hydra_dataset_converted_externally_to_rlds": 2.0,
    "austin_buds_dataset_converted_externally_to_rlds": 1.0,
    "nyu_franka_play_dataset_converted_externally_to_rlds": 3.0,
    "furniture_bench_dataset_converted_externally_to_rlds": 0.1,
    "ucsd_kitchen_dataset_converted_externally_to_rlds": 2.0,
    "austin_sailor_dataset_converted_externally_to_rlds": 1.0,
    "austin_sirius_dataset_converted_externally_to_rlds": 1.0,
    "bc_z": 0.2,
    "dlr_edan_shared_control_converted_externally_to_rlds": 1.0,
    "iamlab_cmu_pickup_insert_converted_externally_to_rlds": 1.0,
    "utaustin_mutex": 1.0,
    "berkeley_fanuc_manipulation": 2.0,
    "cmu_stretch": 1.0,
}


def _without(weights: dict[str, float], *names: str) -> dict[str, float]:
    return {name: weight for name, weight in weights.items() if name not in names}


_DOOR = "nyu_door_opening_surprising_effectiveness"  # wrist pictures only: OpenVLA leaves it out
_OPENVLA_SOUP = {
    "bridge_orig" if name == "bridge_dataset" else name: weight
    for name, weight in _without(_SOUP, _DOOR, "bc_z").items()
}
_PLUS = _OPENVLA_SOUP | {"bc_z": 0.2, "fmb_dataset": 1.0, "dobbe": 0.2, "droid": 0.06}

MIXTURES: dict[str, tuple[str, dict[str, float]]] = {
    "bridge": (OCTO, {"bridge_dataset": 1.0}),
    "rtx": (f"{OCTO} (the sets that RT-1-X and RT-2-X were trained on)", _RTX),
    "rtx_franka": (OCTO, _RTX | _without(_FRANKA, *_RTX)),
    "oxe_magic_soup": (f"{OCTO} (Octo's own training)", _SOUP),
    "oxe_magic_soup_openvla": (f"{OPENVLA} (there also called oxe_magic_soup)", _OPENVLA_SOUP),
    "oxe_magic_soup_plus": (f"{OPENVLA} (soup++)", _PLUS),
    "oxe_magic_soup_plus_minus": (
        f"{OPENVLA} (openvla-7b)",
        _without(_PLUS, "language_table", "droid") | {"fractal20220817_data": 1.0},
    ),
}
"""Name to source and weights."""


def mixture(name: str) -> dict[str, float]:
    """Weights by data set name.

    Raises:
        UnknownName: no such mixture was published, or nobody wrote it down here.
    """
    if name not in MIXTURES:
        raise UnknownName("mixture", name, MIXTURES)
    return dict(MIXTURES[name][1])
