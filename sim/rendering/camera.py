"""Pictures on demand from a MuJoCo model: any camera, any size, one graphics context that is closed explicitly."""

import atexit
import functools
import weakref
from typing import Any

import numpy as np

from vla.errors import ConfigError, DependencyMissing, UnknownName
from vla.experience import Image
from vla.sim.rendering import gl, mujoco_binding
from vla.sim.rendering.mujoco_binding import MjData, MjModel

MAX_SIZE = 4096  # pixels; beyond it drivers refuse, and nobody trains on it

_open: "weakref.WeakSet[Camera]" = weakref.WeakSet()


class Camera:
    """Draws a model's cameras. Meshes and textures are uploaded once, when the context is made.

    A picture is upright: row 0 is its top, as a person standing at the camera sees the scene.

    Args:
        model: must not be edited visually afterwards (its meshes and textures are copied to the graphics library).
        groups: geometry groups to show; robosuite's visual geometry is group 1, its collision geometry 0.
        samples: for antialiasing; 0 is fastest, 4 is MuJoCo's own.

    Raises:
        DependencyMissing: there is no OpenGL.
    """

    def __init__(self, model: MjModel, *, groups: tuple[int, ...] = (1,), samples: int = 4):
        self._model = model
        self._samples = samples
        self._context: Any = None
        self._gl: Any = None
        self._size = (0, 0)
        context_class = _context_class()
        self._mujoco = mujoco = mujoco_binding.load()
        self._make_gl = context_class
        self._scene = mujoco.MjvScene(model, maxgeom=max(1000, 2 * model.ngeom + 200))
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._perturbation = mujoco.MjvPerturb()
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[list(groups)] = 1

    def render(self, data: MjData, camera: str, height: int, width: int) -> Image:
        """The picture of one camera, UInt8[height width 3], RGB, upright.

        Raises:
            UnknownName: the model has no such camera.
            ConfigError: the size is empty or too large.
        """
        mujoco = self._mujoco
        if not (0 < height <= MAX_SIZE and 0 < width <= MAX_SIZE):
            raise ConfigError(f"a picture of {height}x{width} pixels: expected 1 to {MAX_SIZE} each way")
        identity = mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if identity < 0:
            names = [self._model.camera(number).name for number in range(self._model.ncam)]
            raise UnknownName("camera", camera, names)
        self._reserve(height, width)
        self._gl.make_current()  # another context of this thread may have been used in between
        self._view.fixedcamid = identity
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, data, self._option, self._perturbation, self._view, everything, self._scene)
        viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(viewport, self._scene, self._context)
        picture = np.empty((height, width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(picture, None, viewport, self._context)
        return np.ascontiguousarray(picture[::-1])  # OpenGL's row 0 is the bottom

    def close(self) -> None:
        """Give back the graphics context. Safe to call more than once; rendering afterwards makes a new one."""
        if self._context is not None:
            self._gl.make_current()
            self._context.free()
            self._context = None
        if self._gl is not None:
            self._gl.free()
            self._gl = None
        self._size = (0, 0)

    def _reserve(self, height: int, width: int) -> None:
        """A context whose frame buffer holds the size; made anew only when a larger one is asked for."""
        if self._context is not None and height <= self._size[0] and width <= self._size[1]:
            return
        height, width = max(height, self._size[0]), max(width, self._size[1])
        self.close()
        visual = self._model.vis
        kept = (visual.global_.offheight, visual.global_.offwidth, visual.quality.offsamples)
        visual.global_.offheight, visual.global_.offwidth = height, width
        visual.quality.offsamples = self._samples
        try:
            self._gl = self._make_gl(width, height)
            self._gl.make_current()
            self._context = self._mujoco.MjrContext(self._model, self._mujoco.mjtFontScale.mjFONTSCALE_150.value)
            self._mujoco.mjr_setBuffer(self._mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        finally:
            visual.global_.offheight, visual.global_.offwidth, visual.quality.offsamples = kept
        self._size = (height, width)
        _close_at_exit()
        _open.add(self)


@functools.cache
def _close_at_exit() -> None:
    """Free the contexts nobody closed: freed after EGL they would print errors when the interpreter ends.

    Called once the backend is loaded: what is registered after EGL's own exit handler runs before it.
    """
    atexit.register(_close_all)


def _close_all() -> None:
    for camera in list(_open):
        camera.close()


def _context_class() -> Any:
    """The backend's context class, taken from its own module: ``mujoco.GLContext`` was decided at mujoco's import."""
    backend = gl.choose()
    try:
        if backend == "egl":
            from mujoco.egl import GLContext
        elif backend == "osmesa":
            from mujoco.osmesa import GLContext
        elif backend in ("glfw", "glx"):
            from mujoco.glfw import GLContext
        else:
            raise ConfigError(f"MUJOCO_GL={backend}: expected egl, osmesa or glfw")
    except ImportError as error:
        raise DependencyMissing(f"no OpenGL through {backend} ({error}); install it with: {gl.INSTALL}") from error
    return GLContext
