"""Particles on a support, as scanning and transmission electron microscopes show them."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from napari_matseg.core.synthetic.arrangement import arrange
from napari_matseg.core.synthetic.canvas import (
    ANGLES,
    Bodies,
    Inside,
    Sample,
    check_shape,
    expose,
    log_uniform,
    noise,
    rasterise,
    relabel,
    resize,
    smooth,
)
from napari_matseg.core.synthetic.outlines import draw_outlines
from napari_matseg.errors import InputError

Style = Literal["sem", "tem", "darkfield"]


def particles(shape: tuple[int, int], rng: np.random.Generator, *, style: Style | None = None) -> Sample:
    """Draw particles as electron microscopes show them.

    Parameters
    ----------
    shape : (int, int)
        Height and width in pixels, 16 or more.
    rng : numpy.random.Generator
        Source of everything that is random.
    style : "sem", "tem", "darkfield" or None
        Secondary electrons, bright-field or dark-field transmission; None draws one.

    Returns
    -------
    Sample
        Classes are 0 for background and 1 for particle. Where particles overlap, the truth is the one on top.

    Raises
    ------
    InputError
        If the shape is too small or the style unknown.
    """
    check_shape(shape)
    if style is None:
        style = get_args(Style)[rng.choice(3, p=(0.5, 0.38, 0.12))]
    elif style not in get_args(Style):
        raise InputError(f"There is no style {style!r}; choose one of {', '.join(get_args(Style))}.")
    centres, sizes = arrange(shape, rng)
    outlines, tones, lengths = draw_outlines(len(sizes), rng)
    turns = rng.uniform(0, 2 * np.pi, len(sizes)).astype(np.float32)
    if rng.random() < 0.15:  # aligned
        turns = turns[0] + np.float32(0.02) * turns
    bodies = Bodies(centres, sizes, outlines, lengths, turns)
    inside = rasterise(shape, bodies)
    top = np.zeros(shape[0] * shape[1], np.int32)
    top[inside.index] = inside.body + 1  # of repeated indices, numpy keeps the last
    support = _support(shape, rng)
    if style == "sem":
        seen = inside.only(top[inside.index] == inside.body + 1)
        scene = _surface(shape, support, seen, bodies, tones, rng)
    else:
        scene = _projection(shape, support, inside, bodies, rng, bright=style == "darkfield")
    truth_yx = relabel(top.reshape(shape))
    return Sample(expose(scene, rng), truth_yx, (truth_yx > 0).astype(np.uint8))


def _support(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Support without particles, around 1: flat, sloping, cloudy, grainy, or with the edge of a film."""
    scene = np.ones(shape, np.float32)
    if rng.random() < 0.5:
        y, x = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])
        turn = rng.uniform(0, 2 * np.pi)
        scene += (rng.uniform(0, 0.25) * (y * np.sin(turn) + x * np.cos(turn))).astype(np.float32)
    if rng.random() < 0.5:
        scene += log_uniform(rng, 0.01, 0.12) * noise(shape, rng, rng.uniform(0.15, 0.6) * max(shape))
    if rng.random() < 0.5:
        scene += log_uniform(rng, 0.008, 0.1) * noise(shape, rng, log_uniform(rng, 1.5, 10))
    if rng.random() < 0.1:
        film = noise(shape, rng, 0.5 * max(shape)) > rng.uniform(-1, 1)
        scene *= 1 + (rng.uniform(0.7, 1.2) - 1) * film
    return np.maximum(scene, 0.05)


def _surface(
    shape: tuple[int, int],
    support: np.ndarray,
    seen: Inside,
    bodies: Bodies,
    tones: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Secondary electrons: slopes and edges shine, crevices are dark. `seen` holds what nothing covers."""
    n, typical = len(bodies.sizes), bodies.typical
    level = rng.uniform(0.3, 0.6) * (1 + rng.uniform(0, 0.2) * rng.standard_normal(n))
    if rng.random() < 0.4:
        level *= np.linspace(rng.uniform(0.35, 1), 1, n)  # fewer electrons come out from below
    value = level.astype(np.float32)[seen.body]
    value += tones.ravel()[seen.body * np.int32(ANGLES) + seen.turn] * rng.uniform(0.2, 0.7)
    if rng.random() < 0.75:
        value += rng.uniform(-0.15, 0.4) * np.sqrt(1 - seen.rho * seen.rho)
    if rng.random() < 0.7:
        rim = max(0.8, log_uniform(rng, 0.03, 0.3) * typical)
        value += rng.uniform(0.1, 0.6) * np.exp((seen.rho - 1) * seen.radius * np.float32(1 / rim))
    if rng.random() < 0.35:  # light from one side
        turn = rng.uniform(0, 2 * np.pi)
        slope = (seen.u * float(np.cos(turn)) + seen.v * float(np.sin(turn))) / seen.radius
        value += rng.uniform(0.05, 0.25) * np.clip(slope, -1.5, 1.5)
    if rng.random() < 0.2:  # core and shell, or a flat top
        value += rng.uniform(-0.25, 0.3) * (seen.rho < rng.uniform(0.4, 0.85))
    value *= 1 + _texture(shape, seen, bodies, rng)
    solid = np.zeros(shape, np.float32)
    solid.ravel()[seen.index] = 1
    scene = support * rng.uniform(0.05, 0.45)
    if rng.random() < 0.6:  # shadow or glow around
        near = resize(smooth(solid[::4, ::4], max(0.5, 0.06 * typical)), shape)
        scene *= 1 + rng.uniform(-0.8, 0.5) * near
    if rng.random() < 0.6:  # crevices between particles
        near = resize(smooth(solid[::2, ::2], max(0.5, 0.04 * typical)), shape)
        value *= 1 - rng.uniform(0, 0.4) * (2 * near.ravel()[seen.index] - 1) * (1 - seen.rho)
    if rng.random() < 0.08:  # dark particles on a bright support
        value, scene = value - rng.uniform(0.2, 0.5), scene + rng.uniform(0.3, 0.8)
    scene.ravel()[seen.index] = value
    return scene


def _projection(
    shape: tuple[int, int],
    support: np.ndarray,
    inside: Inside,
    bodies: Bodies,
    rng: np.random.Generator,
    *,
    bright: bool,
) -> np.ndarray:
    """Transmission: what lies above one another adds up, and bright field is attenuated exponentially."""
    strength = np.exp(rng.uniform(0, 0.35) * rng.standard_normal(len(bodies.sizes)))
    strength = (log_uniform(rng, 0.25, 1.8) * strength).astype(np.float32)
    thickness = _thickness(inside, rng)
    thickness *= 1 + _texture(shape, inside, bodies, rng) * rng.uniform(0.5, 2)
    thickness *= strength[inside.body]
    total = np.bincount(inside.index, thickness, shape[0] * shape[1]).reshape(shape).astype(np.float32)
    if bright:
        return support * rng.uniform(0.02, 0.3) + total
    scene = support * np.exp(-total)
    if rng.random() < 0.35:  # Fresnel fringe of a defocused objective
        scene += rng.uniform(0.3, 1.2) * (scene - smooth(scene, rng.uniform(0.8, 2.5)))
    return scene


def _thickness(inside: Inside, rng: np.random.Generator) -> np.ndarray:
    """Thickness that the beam crosses, 1 for a full particle: sphere, plate, core and shell, or hollow."""
    dome = np.sqrt(1 - inside.rho * inside.rho)
    thickness: np.ndarray = dome
    kind = rng.choice(("sphere", "plate", "core", "hollow"), p=(0.35, 0.3, 0.2, 0.15))
    if kind == "plate":
        thickness = np.clip((1 - inside.rho) * inside.radius / rng.uniform(0.8, 4), 0, 1)
    elif kind == "core":
        core, shell = rng.uniform(0.4, 0.9), rng.uniform(0.2, 0.6)
        thickness = shell * dome + (1 - shell) * np.sqrt(np.maximum(1 - (inside.rho / core) ** 2, 0))
    elif kind == "hollow":
        inner = rng.uniform(0.5, 0.9)
        thickness = 1.5 * (dome - rng.uniform(0.6, 1) * np.sqrt(np.maximum(inner**2 - inside.rho**2, 0)))
    return thickness


def _texture(shape: tuple[int, int], inside: Inside, bodies: Bodies, rng: np.random.Generator) -> np.ndarray:
    """Roughness, mottling or bands inside particles, around 0; each particle has its own."""
    n, typical = len(bodies.sizes), bodies.typical
    if rng.random() < 0.3:
        return np.zeros(len(inside.index), np.float32)
    grain = max(1.5, typical * log_uniform(rng, 0.05, 0.8))
    field = noise(shape, rng, grain)
    for octave in (2, 4):
        if grain > 1.5 * octave:
            field = field + rng.uniform(0.2, 0.8) * noise(shape, rng, grain / octave)
    field = (field * log_uniform(rng, 0.015, 0.14)).ravel()
    # Shifting the noise for each particle leaves a seam somewhere; with few, large ones it would be seen.
    offset = rng.integers(0, field.size, n, dtype=np.int32) if n > 3 else np.zeros(n, np.int32)
    value: np.ndarray = field[(inside.index + offset[inside.body]) % np.int32(field.size)]
    if rng.random() < 0.07:
        pitch = max(3.0, typical * rng.uniform(0.15, 0.7))
        phase = rng.uniform(0, 2 * np.pi, n).astype(np.float32)
        value += rng.uniform(0.04, 0.2) * np.sin(inside.u * float(2 * np.pi / pitch) + phase[inside.body])
    return value
