"""OpenGL without a display: EGL where it works, else OSMesa, chosen before anything imports OpenGL.

PyOpenGL and MuJoCo read ``PYOPENGL_PLATFORM`` and ``MUJOCO_GL`` once, when they are first imported, so the choice has
to come first and has to be right. It is made by really creating a context, through ctypes, which commits neither.
"""

import ctypes
import ctypes.util
import functools
import os
from collections.abc import Callable

from vla.errors import DependencyMissing

INSTALL = "apt-get install -y libegl1 libegl-mesa0 libgl1-mesa-dri libosmesa6"

_EGL_PLATFORM_DEVICE_EXT = 0x313F
_EGL_SURFACE_TYPE, _EGL_PBUFFER_BIT = 0x3033, 0x0001
_EGL_RENDERABLE_TYPE, _EGL_OPENGL_BIT = 0x3040, 0x0008
_EGL_DEPTH_SIZE, _EGL_NONE = 0x3025, 0x3038
_EGL_OPENGL_API = 0x30A2
_OSMESA_RGBA, _GL_UNSIGNED_BYTE = 0x1908, 0x1401


@functools.cache
def choose() -> str:
    """The backend, ``"egl"`` or ``"osmesa"`` unless the user set another, now also in the environment variables.

    ``MUJOCO_GL`` and ``PYOPENGL_PLATFORM`` win where they are set.

    Raises:
        DependencyMissing: neither library gives a context; the message has the command that installs both.
    """
    asked = os.environ.get("MUJOCO_GL", "").strip().lower() or os.environ.get("PYOPENGL_PLATFORM", "").strip().lower()
    if asked:
        backend = asked
    else:
        backend = next((name for name, works in (("egl", egl_works), ("osmesa", osmesa_works)) if works()), "")
    if not backend:
        raise DependencyMissing(
            f"no OpenGL to render with: neither EGL nor OSMesa gives a context; install them with: {INSTALL}"
        )
    os.environ.setdefault("MUJOCO_GL", backend)
    if backend in ("egl", "osmesa"):
        os.environ.setdefault("PYOPENGL_PLATFORM", backend)
    return backend


def egl_works() -> bool:
    """Whether EGL makes an OpenGL context on some device, as MuJoCo will ask it to."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
        egl.eglGetProcAddress.restype = ctypes.c_void_p
        query, platform_display = _egl_device_functions(egl)
    except (OSError, AttributeError):
        return False
    if query is None or platform_display is None:
        return False
    devices = (ctypes.c_void_p * 32)()
    count = ctypes.c_int()
    if not query(len(devices), devices, ctypes.byref(count)):
        return False
    return any(_egl_device_works(egl, platform_display, device) for device in devices[: count.value])


def osmesa_works() -> bool:
    """Whether OSMesa makes an OpenGL context and draws into a buffer."""
    name = ctypes.util.find_library("OSMesa")
    if name is None:
        return False
    try:
        library = ctypes.CDLL(name)
        create, current, destroy = library.OSMesaCreateContext, library.OSMesaMakeCurrent, library.OSMesaDestroyContext
    except (OSError, AttributeError):
        return False
    create.restype, create.argtypes = ctypes.c_void_p, [ctypes.c_uint, ctypes.c_void_p]
    current.restype = ctypes.c_ubyte
    current.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_int]
    destroy.argtypes = [ctypes.c_void_p]
    context = create(_OSMESA_RGBA, None)
    if not context:
        return False
    works = bool(current(context, (ctypes.c_ubyte * (4 * 8 * 8))(), _GL_UNSIGNED_BYTE, 8, 8))
    destroy(context)
    return works


def _egl_device_functions(egl: ctypes.CDLL) -> tuple[Callable | None, Callable | None]:
    """What lists EGL devices and what opens a display on one, or None where the driver lacks them."""
    query = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    display = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not query or not display:
        return None, None
    void, integer = ctypes.c_void_p, ctypes.c_int
    return (
        ctypes.CFUNCTYPE(ctypes.c_uint, integer, ctypes.POINTER(void), ctypes.POINTER(integer))(query),
        ctypes.CFUNCTYPE(void, ctypes.c_uint, void, void)(display),
    )


def _egl_device_works(egl: ctypes.CDLL, platform_display: Callable, device: int | None) -> bool:
    """Whether one device initialises, has a fitting configuration and creates a context."""
    egl.eglInitialize.argtypes = [ctypes.c_void_p] * 3
    egl.eglChooseConfig.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    egl.eglCreateContext.restype, egl.eglCreateContext.argtypes = ctypes.c_void_p, [ctypes.c_void_p] * 4
    egl.eglDestroyContext.argtypes = [ctypes.c_void_p] * 2
    display = platform_display(_EGL_PLATFORM_DEVICE_EXT, device, None)
    if not display or not egl.eglInitialize(display, None, None):
        return False
    wanted = (_EGL_SURFACE_TYPE, _EGL_PBUFFER_BIT, _EGL_RENDERABLE_TYPE, _EGL_OPENGL_BIT, _EGL_DEPTH_SIZE, 24)
    attributes = (ctypes.c_int * (len(wanted) + 1))(*wanted, _EGL_NONE)
    config, found = ctypes.c_void_p(), ctypes.c_int()
    works = False
    if egl.eglChooseConfig(display, attributes, ctypes.byref(config), 1, ctypes.byref(found)) and found.value:
        egl.eglBindAPI(_EGL_OPENGL_API)
        context = egl.eglCreateContext(display, config, None, None)
        works = bool(context)
        if context:
            egl.eglDestroyContext(display, context)
    # no eglTerminate: the display is shared within the process, and whoever renders already would lose it
    return works
