"""LeRobot's policies answer as LeRobot itself would let them; what the table does not say is an error."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from served import SPEC, observation, served

from vla.errors import ConfigError, DataError, PolicyFault
from vla.policies.lerobot_features import FILE, Features, read_features
from vla.policies.lerobot_policy import Config, is_checkpoint
from vla.policies.remote import Config as Remote
from vla.protocols import Policy

ARM = replace(SPEC, cameras=(replace(SPEC.cameras[0], height=32, width=48),))
TABLE = Features(ARM, {"observation.images.top": "front"}, {"observation.state": ("y", "x")}, ("gripper", "dx"))
SEEN = [observation(x=x, spec=ARM, instruction="go") for x in (0.1, 0.4, 0.7, 0.9)]
for place, seen in enumerate(SEEN):
    seen.state[1] = place  # so that an exchanged order shows


def build(folder, kind):
    """A tiny policy with random weights, saved as LeRobot saves it, and its parts to compare with."""
    from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
    from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

    inputs = {
        "observation.images.top": PolicyFeature(FeatureType.VISUAL, (3, 32, 48)),
        "observation.state": PolicyFeature(FeatureType.STATE, (2,)),
    }
    outputs = {"action": PolicyFeature(FeatureType.ACTION, (2,))}
    small = {
        "act": {"dim_model": 16, "n_heads": 2, "dim_feedforward": 16, "n_encoder_layers": 1, "n_vae_encoder_layers": 1,
                "latent_dim": 4, "chunk_size": 6, "n_action_steps": 4},
        "diffusion": {"down_dims": (16, 16), "n_groups": 4, "diffusion_step_embed_dim": 8, "num_inference_steps": 2,
                      "spatial_softmax_num_keypoints": 4, "horizon": 8, "n_action_steps": 3, "n_obs_steps": 2,
                      "crop_shape": None, "crop_ratio": 1.0, "resize_shape": None},
    }[kind]  # fmt: skip
    modes = dict.fromkeys(("VISUAL", "STATE", "ACTION"), NormalizationMode.MEAN_STD)
    torch.manual_seed(3)
    config = make_policy_config(
        kind, input_features=inputs, output_features=outputs, device="cpu", normalization_mapping=modes,
        pretrained_backbone_weights=None, push_to_hub=False, **small,
    )  # fmt: skip
    policy = get_policy_class(kind)(config).eval()
    stats = {
        "observation.state": {"mean": torch.tensor([1.0, 0.5]), "std": torch.tensor([2.0, 0.25])},
        "action": {"mean": torch.tensor([0.5, -3.0]), "std": torch.tensor([0.1, 4.0])},
        "observation.images.top": {"mean": torch.full((3, 1, 1), 0.4), "std": torch.full((3, 1, 1), 0.2)},
    }
    parts = make_pre_post_processors(config, dataset_stats=stats)
    policy.save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    TABLE.write(folder / FILE)
    return policy, *parts


@pytest.fixture(scope="module")
def act(tmp_path_factory):
    folder = tmp_path_factory.mktemp("act")
    return folder, build(folder, "act")


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diffusion")
    return folder, build(folder, "diffusion")


def as_lerobot(parts, seen, seed):
    """One step as LeRobot's own control loop does it."""
    policy, before, after = parts
    image = torch.from_numpy(seen.images["front"]).permute(2, 0, 1).float() / 255
    batch = {"observation.images.top": image, "observation.state": torch.tensor(seen.state[[1, 0]]), "task": "go"}
    with torch.inference_mode():
        torch.manual_seed(seed)
        action = after(policy.select_action(before(batch)))[0].numpy()
    return action[[1, 0]]  # the table has the gripper first


def seeds(seed, count):
    return [int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) for number in range(count)]


def test_act_gives_the_actions_that_lerobot_executes(act, capsys):
    folder, parts = act
    policy = Config(folder).make()
    assert capsys.readouterr().out == ""
    assert isinstance(policy, Policy) and policy.spec == ARM and len(policy.fingerprint) == 16
    policy.reset("go", seed=0)
    parts[0].reset()
    chunk = policy.act(SEEN[0])
    assert chunk.actions.shape == (4, 2) and chunk.dt == 0.05
    # select_action goes on with its chunk whatever is seen meanwhile
    assert np.allclose(chunk.actions, [as_lerobot(parts, seen, 0) for seen in SEEN], atol=1e-6)
    assert np.abs(chunk.actions[:, 0] + 3).max() < 40 and np.ptp(chunk.actions) > 1e-3
    assert Config(folder, rows=6).make().act(SEEN[0]).actions.shape == (6, 2)


def test_diffusion_sees_every_step_and_infers_when_lerobot_would(diffusion):
    folder, parts = diffusion
    policy = Config(folder).make()
    for seed in (5, 6):
        policy.reset("go", seed=seed)
        parts[0].reset()
        for seen, noise in zip(SEEN, seeds(seed, 4), strict=True):
            chunk = policy.act(seen)
            assert chunk.actions.shape == (1, 2)
            assert np.allclose(chunk.actions[0], as_lerobot(parts, seen, noise), atol=1e-5)
    policy.reset("go", seed=5)
    again = policy.act(SEEN[0]).actions
    policy.reset("go", seed=5)
    assert np.array_equal(again, policy.act(SEEN[0]).actions)
    with pytest.raises(ConfigError, match="one action at a time"):
        Config(folder, rows=3).make()


def test_the_global_generator_is_left_alone(diffusion):
    policy = Config(diffusion[0]).make()
    policy.reset("go", seed=5)
    torch.manual_seed(9)
    policy.act(SEEN[0])
    after = torch.rand(1)
    torch.manual_seed(9)
    assert torch.equal(after, torch.rand(1))


def test_it_is_served_like_any_other(act):
    folder, _ = act
    local = Config(folder).make()
    with served(Config(folder).make()) as server:
        remote = Remote(server.address).make()
        for policy in (local, remote):
            policy.reset("go", seed=2)
        assert np.array_equal(remote.act(SEEN[1]).actions, local.act(SEEN[1]).actions)
        remote.close()


def test_the_folder_above_will_do(act, tmp_path):
    assert is_checkpoint(act[0]) and not is_checkpoint(tmp_path)
    (tmp_path / "pretrained_model").symlink_to(act[0])
    assert is_checkpoint(tmp_path) and Config(tmp_path).make().spec == ARM
    with pytest.raises(DataError, match="a LeRobot policy"):
        Config(tmp_path / "nowhere").make()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"images": {}}, r"observation\.images\.top: expected a picture of 3x32x48, found nothing"),
        (
            {"images": {"observation.images.top": "front", "observation.images.w": "front"}},
            "images: expected each once",
        ),
        ({"images": {"observation.images.top": "back"}}, "images: expected each once, of front, found back"),
        ({"state": {"observation.state": ["x"]}}, r"observation\.state: expected 2 numbers, found 1 numbers"),
        ({"state": {"observation.state": ["x", "z"]}}, r"observation\.state: .*, found z"),
        ({"state": {"observation.state": ["x", "y"], "more": ["x"]}}, "state: expected each once"),
        ({"state": {"observation.state": "xy"}}, "a list of names"),
        ({"action": ["dx"]}, "action: .*found no gripper"),
        ({"action": {"dx": 1}}, "action: expected list"),
        ({"embodiment": {}}, "embodiment"),
        ({"guess": True}, "fields: expected embodiment, images, state, action"),
    ],
)
def test_a_table_that_does_not_fit(act, tmp_path, change, what):
    table = tmp_path / "table.json"
    table.write_text(json.dumps(json.loads((act[0] / FILE).read_text()) | change))
    with pytest.raises(DataError, match=what):
        Config(act[0], features=table).make()


def test_the_table_there_and_back(tmp_path):
    TABLE.write(tmp_path / FILE)
    assert read_features(tmp_path / FILE) == TABLE
    with pytest.raises(DataError, match="a table of the policy's features"):
        read_features(tmp_path / "none.json")


def test_a_processor_that_is_anybody_s_code_is_not_run(act, tmp_path):
    for file in act[0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "policy_preprocessor.json"
    config = json.loads(path.read_text())
    config["steps"][0] = {"class": "antigravity.Step", "config": {}}
    path.write_text(json.dumps(config))
    with pytest.raises(DataError, match="registry_name"):
        Config(tmp_path).make()
    path.write_bytes((act[0] / path.name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"short")
    with pytest.raises(DataError, match="a LeRobot policy"):
        Config(tmp_path).make()


def test_observations_that_do_not_fit_are_faults(act):
    policy = Config(act[0]).make()
    policy.reset("go", seed=0)
    with pytest.raises(PolicyFault, match="front"):
        policy.act(replace(SEEN[0], images={}))
    with pytest.raises(PolicyFault, match="state"):
        policy.act(replace(SEEN[0], state=np.zeros(3, np.float32)))
