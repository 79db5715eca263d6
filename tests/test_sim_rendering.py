import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.errors import ConfigError, DependencyMissing, UnknownName
from vla.sim.rendering import gl, mesh_cache, mujoco_binding
from vla.sim.rendering.camera import Camera
from vla.sim.rendering.decimate import Decimation, decimate, visual_meshes
from vla.sim.rendering.mujoco_binding import MjModel
from vla.sim.rendering.simplify import Mesh, simplify
from vla.sim.rendering.textures import shrink_textures

mujoco = mujoco_binding.load()


def soup(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A bumpy square of 2 * side**2 triangles that share no vertex: vertices, faces."""
    line = np.linspace(-1, 1, side + 1)
    x, y = np.meshgrid(line, line, indexing="ij")
    grid = np.stack([x, y, 0.3 * np.sin(3 * x) * np.cos(2 * y)], axis=-1)
    quads = [grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]]
    corners = np.stack([quads[0], quads[1], quads[2], quads[0], quads[2], quads[3]], axis=2).reshape(-1, 3)
    return corners, np.arange(len(corners)).reshape(-1, 3)


def scene(side: int = 40) -> MjModel:
    """A ball above a bumpy visual mesh and the same mesh as a solid."""
    vertices, faces = soup(side)
    numbers = " ".join(f"{value:.6f}" for value in vertices.reshape(-1))
    triangles = " ".join(str(value) for value in faces.reshape(-1))
    return mujoco.MjModel.from_xml_string(f"""
    <mujoco>
      <asset>
        <texture name="checks" type="2d" builtin="checker" width="1024" height="512" rgb1="1 0 0" rgb2="0 1 0"/>
        <material name="checks" texture="checks" texrepeat="2 2"/>
        <mesh name="seen" vertex="{numbers}" face="{triangles}"/>
        <mesh name="solid" vertex="{numbers}" face="{triangles}"/>
      </asset>
      <worldbody>
        <light pos="0 0 4" dir="0 0 -1"/>
        <camera name="above" pos="0 -2 3" xyaxes="1 0 0 0 0.8 0.6"/>
        <geom name="seen" type="mesh" mesh="seen" contype="0" conaffinity="0" group="1" pos="0 0 0.01"
              rgba="0.2 0.4 0.9 1"/>
        <geom name="solid" type="mesh" mesh="solid" group="0"/>
        <geom name="board" type="box" size="0.3 0.3 0.01" pos="1.2 0 0.5" material="checks" contype="0" conaffinity="0"
              group="1"/>
        <body pos="0.1 0.05 1"><freejoint/><geom type="sphere" size="0.1" group="1" rgba="1 1 1 1"/></body>
      </worldbody>
    </mujoco>""")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def fresh_choice(monkeypatch):
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):
        monkeypatch.setenv(name, "")  # so that what choose() sets is undone
        monkeypatch.delenv(name)
    gl.choose.cache_clear()
    yield
    gl.choose.cache_clear()


@pytest.mark.parametrize(("egl", "osmesa", "expected"), [(True, True, "egl"), (False, True, "osmesa")])
def test_backend_is_the_first_that_works(fresh_choice, monkeypatch, egl, osmesa, expected):
    monkeypatch.setattr(gl, "egl_works", lambda: egl)
    monkeypatch.setattr(gl, "osmesa_works", lambda: osmesa)
    assert gl.choose() == expected
    assert os.environ["MUJOCO_GL"] == os.environ["PYOPENGL_PLATFORM"] == expected


def test_backend_of_the_user_wins_without_a_probe(fresh_choice, monkeypatch):
    monkeypatch.setattr(gl, "egl_works", lambda: pytest.fail("probed"))
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert gl.choose() == "osmesa"
    assert os.environ["PYOPENGL_PLATFORM"] == "osmesa"


def test_no_backend_names_the_command_that_installs_one(fresh_choice, monkeypatch):
    monkeypatch.setattr(gl, "egl_works", lambda: False)
    monkeypatch.setattr(gl, "osmesa_works", lambda: False)
    with pytest.raises(DependencyMissing, match="apt-get install -y libegl1 libegl-mesa0 libgl1-mesa-dri libosmesa6"):
        gl.choose()


@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_probe_agrees_with_really_rendering(backend):
    works = {"egl": gl.egl_works, "osmesa": gl.osmesa_works}[backend]()
    code = (
        "import mujoco\n"
        "model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size=\"1\"/></worldbody></mujoco>')\n"
        "renderer = mujoco.Renderer(model, 8, 8)\nrenderer.close()\n"
    )
    environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    really = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True).returncode == 0
    assert works == really


def test_picture_is_upright_of_any_size_and_context_comes_back():
    model = scene(8)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    camera = Camera(model, groups=(1,))
    small = camera.render(data, "above", 24, 32)
    large = camera.render(data, "above", 96, 128)
    assert small.shape == (24, 32, 3)
    assert large.dtype == np.uint8
    # the board with red and green checks stands at the right; what is far from this camera is at the top
    red = large[..., 0].astype(int) - large[..., 2]
    assert red[:, 64:].max() > red[:, :64].max()
    sizes = (model.vis.global_.offheight, model.vis.global_.offwidth)
    camera.close()
    camera.close()
    assert np.array_equal(camera.render(data, "above", 96, 128), large)
    assert (model.vis.global_.offheight, model.vis.global_.offwidth) == sizes
    camera.close()


def test_unknown_camera_and_empty_picture():
    model = scene(4)
    data = mujoco.MjData(model)
    camera = Camera(model)
    with pytest.raises(UnknownName, match="above"):
        camera.render(data, "abov", 8, 8)
    with pytest.raises(ConfigError):
        camera.render(data, "above", 0, 8)
    camera.close()


def test_decimation_leaves_physics_and_solids_alone():
    plain, thinned = scene(), scene()
    solid = thinned.mesh("solid").id
    assert visual_meshes(thinned) == [thinned.mesh("seen").id]
    before, after = decimate(thinned)
    shrink_textures(thinned)
    assert before == 3200
    assert 200 < after <= 300
    assert thinned.mesh_facenum[solid] == plain.mesh_facenum[solid]
    states = []
    for model in (plain, thinned):
        data = mujoco.MjData(model)
        camera = Camera(model)
        for _ in range(300):
            mujoco.mj_step(model, data)
            if data.time < 0.02:
                camera.render(data, "above", 16, 16)
        camera.close()
        states.append(np.concatenate([data.qpos, data.qvel]))
    assert np.array_equal(*states)


def test_decimated_picture_resembles_the_exact_one():
    pictures = []
    for thin in (False, True):
        model = scene()
        if thin:
            decimate(model)
            shrink_textures(model, most=128)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        camera = Camera(model)
        pictures.append(camera.render(data, "above", 96, 96).astype(float))
        camera.close()
    assert np.mean((pictures[0] - pictures[1]) ** 2) < 255**2 / 10**2.6  # 26 dB


def test_simplified_meshes_come_from_disk_and_broken_files_are_replaced(monkeypatch):
    vertices, faces = soup(30)
    mesh = as_mesh(vertices, faces)
    first = mesh_cache.cached(mesh, 200, 0.02, simplify)
    (file,) = mesh_cache.folder().iterdir()
    again = mesh_cache.cached(mesh, 200, 0.02, lambda *_: pytest.fail("computed again"))
    assert np.array_equal(first, again)
    file.write_bytes(file.read_bytes()[:50])
    assert np.array_equal(mesh_cache.cached(mesh, 200, 0.02, simplify), first)
    with np.load(file, allow_pickle=False) as repaired:
        assert np.array_equal(repaired["corners"], first)
    out_of_range = np.full(3, 3 * len(faces), dtype=np.int32)
    with open(file, "wb") as handle:
        np.savez(handle, corners=out_of_range)
    assert np.array_equal(mesh_cache.cached(mesh, 200, 0.02, simplify), first)


def test_cache_that_cannot_be_written_costs_a_warning(tmp_path, monkeypatch):
    (tmp_path / "vla").write_text("a file where the folder should be")
    vertices, faces = soup(10)
    with pytest.warns(UserWarning, match="not kept"):
        corners = mesh_cache.cached(as_mesh(vertices, faces), 50, 0.02, simplify)
    assert len(corners) > 0


def test_key_depends_on_every_array():
    vertices, faces = soup(4)
    mesh = as_mesh(vertices, faces)
    moved = vertices.copy()
    moved[0, 0] += 1e-3
    keys = {
        mesh_cache.key(mesh, 10, 0.02),
        mesh_cache.key(mesh, 11, 0.02),
        mesh_cache.key(mesh, 10, 0.03),
        mesh_cache.key(as_mesh(moved, faces), 10, 0.02),
        mesh_cache.key(as_mesh(vertices, faces[::-1]), 10, 0.02),
    }
    assert len(keys) == 5


@settings(max_examples=20, deadline=None)
@given(side=st.integers(2, 24), target=st.integers(1, 600), textured=st.booleans())
def test_simplified_mesh_is_a_selection_of_corners(side, target, textured):
    vertices, faces = soup(side)
    mesh = as_mesh(vertices, faces, textured=textured)
    corners = simplify(mesh, target, 0.02)
    assert len(corners) % 3 == 0
    assert len(corners) <= faces.size
    if len(corners):
        assert corners.min() >= 0
        assert corners.max() < faces.size
    triangles = mesh.position[mesh.face_position.reshape(-1)[corners]].reshape(-1, 3, 3)
    areas = np.linalg.norm(np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1)
    assert (areas > 0).all()


@pytest.mark.parametrize("bad", [{"fraction": 0.0}, {"least": 0}, {"least": 10, "most": 5}, {"error": 1.0}])
def test_impossible_decimation(bad):
    with pytest.raises(ConfigError):
        Decimation(**bad)


def as_mesh(vertices: np.ndarray, faces: np.ndarray, *, textured: bool = False) -> Mesh:
    faces = np.ascontiguousarray(faces, dtype=np.int32)
    normals = np.tile(np.array([0, 0, 1], dtype=np.float32), (len(vertices), 1))
    texcoord = vertices[:, :2].astype(np.float32) if textured else None
    return Mesh(vertices.astype(np.float32), faces, normals, faces, texcoord, faces if textured else None)
