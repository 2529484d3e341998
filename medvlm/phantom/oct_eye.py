"""The synthetic eye of the OCT phantom: layers, lesions and staging, drawn at random before anything is rendered.

Lengths are micrometres. `x` runs along the B-scan with the fovea at 0; heights are counted upwards (towards the
vitreous) from Bruch's membrane.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

Stage = Literal["healthy", "early", "intermediate", "late_dry", "wet_inactive", "wet_active"]
STAGES: tuple[Stage, ...] = ("healthy", "early", "intermediate", "late_dry", "wet_inactive", "wet_active")
REFERRALS = ("none", "routine", "urgent")
# Every tenth eye cannot be judged: the stage is drawn all the same, but nobody could tell it from the picture.
UNGRADABLE = 0.1
LARGE_DRUSEN_UM = 125.0


@dataclass(frozen=True)
class Mound:
    """Something that lifts the RPE from Bruch's membrane: `(1 - (x/half)²)` to a power, `height` at its top.

    Attributes:
        kind: `drusen`, `drusenoid`, `serous` or `fibrovascular`.
        centre, half, height: micrometres.
        power: 1 for a dome, below 1 for a plateau, above 1 for a soft hill.
    """

    kind: Literal["drusen", "drusenoid", "serous", "fibrovascular"]
    centre: float
    half: float
    height: float
    power: float


@dataclass(frozen=True)
class Patch:
    """A flat lesion along `x`: subretinal fluid or material with a height, atrophy without one."""

    centre: float
    half: float
    height: float = 0.0


@dataclass(frozen=True)
class Cyst:
    """A cystoid space: an ellipse at a relative depth of the retina (0 its inner, 1 its outer surface)."""

    centre: float
    depth: float
    half: float
    height: float


@dataclass(frozen=True)
class Eye:
    """Anatomy and disease of one B-scan.

    Attributes:
        stage: as the pathway of the curriculum `retina_amd` decides it from the lesions.
        gradable: the picture is good enough to be read.
        thickness: of the retina away from the fovea; `pit`, `pit_width`: of the foveal depression.
        nasal: +1 or -1, the side on which the nerve fibre layer is thicker.
        choroid: its thickness.
        bend, tilt: of Bruch's membrane over the scan.
        mounds, fluid, cysts, atrophy, leaks, material, scar, foci: the lesions; `leaks` are hypertransmission without
            complete atrophy.
    """

    stage: Stage
    gradable: bool
    laterality: Literal["right", "left"]
    age: int
    sex: str
    thickness: float
    pit: float
    pit_width: float
    nasal: int
    choroid: float
    bend: float
    tilt: float
    mounds: tuple[Mound, ...] = ()
    fluid: tuple[Patch, ...] = ()
    cysts: tuple[Cyst, ...] = ()
    atrophy: tuple[Patch, ...] = ()
    leaks: tuple[Patch, ...] = ()
    material: tuple[Patch, ...] = ()
    scar: tuple[Patch, ...] = ()
    foci: tuple[tuple[float, float], ...] = ()

    def kinds(self, *kinds: str) -> tuple[Mound, ...]:
        return tuple(mound for mound in self.mounds if mound.kind in kinds)

    @property
    def drusen(self) -> str:
        """`none`, `small` (up to 125 µm across) or `large`."""
        widest = max((2 * mound.half for mound in self.kinds("drusen")), default=0.0)
        return "none" if widest == 0 else "small" if widest <= LARGE_DRUSEN_UM else "large"

    @property
    def referral(self) -> str:
        """None up to intermediate, routine for late dry and inactive wet, urgent for active wet."""
        return {"late_dry": "routine", "wet_inactive": "routine", "wet_active": "urgent"}.get(self.stage, "none")

    def variables(self) -> dict[str, bool | str]:
        """The variables of the pathway `retina_amd`; of an ungradable picture only that it is one."""
        if not self.gradable:
            return {"gradable": False, "stage": "not_assessable", "referral": "not_assessable"}
        return {
            "gradable": True,
            "drusen": self.drusen,
            "pigment": bool(self.foci),
            "drusenoid_ped": bool(self.kinds("drusenoid", "serous")),
            "atrophy": bool(self.atrophy),
            "hypertransmission": bool(self.atrophy or self.leaks),
            "fibrosis": bool(self.scar),
            "shrm": bool(self.material),
            "fibrovascular_ped": bool(self.kinds("fibrovascular")),
            "subretinal_fluid": bool(self.fluid),
            "intraretinal_fluid": bool(self.cysts),
            "stage": self.stage,
            "referral": self.referral,
        }


def draw_eye(rng: np.random.Generator, half_width: float) -> Eye:
    """Draw an eye; each stage is equally likely.

    Args:
        rng: of this eye.
        half_width: half the length of the B-scan.
    """
    eye = Eye(
        stage=STAGES[int(rng.integers(len(STAGES)))],
        gradable=bool(rng.random() >= UNGRADABLE),
        laterality=("right", "left")[int(rng.integers(2))],
        age=int(np.clip(rng.normal(74, 9), 50, 97)),
        sex="FM"[int(rng.integers(2))],
        thickness=rng.uniform(285, 335),
        pit=rng.uniform(95, 150),
        pit_width=rng.uniform(330, 480),
        nasal=1,
        choroid=rng.uniform(140, 330),
        bend=rng.uniform(-10, 70),
        tilt=rng.uniform(-0.03, 0.03),
    )
    eye = replace(eye, nasal=1 if eye.laterality == "right" else -1)
    return _visible(_DISEASE[eye.stage](rng, eye, half_width))


def _visible(eye: Eye) -> Eye:
    """The eye without drusen that another lesion would hide, so that the truth says only what can be seen."""
    others: list[Mound | Patch] = [mound for mound in eye.mounds if mound.kind != "drusen"]
    others += [*eye.fluid, *eye.material, *eye.scar, *eye.atrophy, *eye.leaks]
    kept: list[Mound] = []
    for mound in sorted(eye.mounds, key=lambda mound: -mound.half):
        near = [*others, *(other for other in kept if other.kind == "drusen")]
        if mound.kind != "drusen" or all(abs(mound.centre - o.centre) > o.half + 0.6 * mound.half for o in near):
            kept.append(mound)
    return replace(eye, mounds=tuple(kept))


def _healthy(rng: np.random.Generator, eye: Eye, half_width: float) -> Eye:
    return eye


def _early(rng: np.random.Generator, eye: Eye, half_width: float) -> Eye:
    return replace(eye, mounds=_small_drusen(rng, half_width, int(rng.integers(2, 9))))


def _intermediate(rng: np.random.Generator, eye: Eye, half_width: float) -> Eye:
    """Large drusen, pigment or a drusenoid or serous detachment: at least one of them."""
    signs = rng.random(3) < (0.75, 0.4, 0.25)
    if not signs.any():
        signs[int(rng.integers(3))] = True
    mounds = _small_drusen(rng, half_width, int(rng.integers(0, 5)))
    if signs[0]:
        mounds += _large_drusen(rng, half_width, int(rng.integers(1, 6)))
    if signs[2]:
        kind = ("drusenoid", "serous")[int(rng.random() < 0.35)]
        mounds += (_detachment(rng, half_width, kind),)
    return replace(eye, mounds=mounds, foci=_foci(rng, half_width, mounds) if signs[1] else ())


def _late_dry(rng: np.random.Generator, eye: Eye, half_width: float) -> Eye:
    """Atrophy with hypertransmission, or (one in six) hypertransmission alone."""
    mounds = _small_drusen(rng, half_width, int(rng.integers(0, 4)))
    if rng.random() < 0.5:
        mounds += _large_drusen(rng, half_width, int(rng.integers(1, 4)))
    spots = tuple(
        Patch(rng.uniform(-0.6, 0.6) * half_width, rng.uniform(180, 900)) for _ in range(int(rng.integers(1, 3)))
    )
    mounds = tuple(mound for mound in mounds if all(abs(mound.centre - spot.centre) > spot.half for spot in spots))
    eye = replace(eye, mounds=mounds, foci=_foci(rng, half_width, mounds) if rng.random() < 0.4 else ())
    if rng.random() < 1 / 6:
        return replace(eye, leaks=tuple(replace(spot, half=min(spot.half, 200.0)) for spot in spots))
    return replace(eye, atrophy=spots)


def _wet(rng: np.random.Generator, eye: Eye, half_width: float) -> Eye:
    """The scarred or vascular tissue that inactive and active neovascular AMD share."""
    if rng.random() < 0.6:
        mounds = _small_drusen(rng, half_width, int(rng.integers(0, 4)))
        eye = replace(eye, mounds=(*mounds, _detachment(rng, half_width, "fibrovascular")))
    place = rng.uniform(-0.4, 0.4) * half_width
    if rng.random() < 0.45:
        eye = replace(eye, material=(Patch(place, rng.uniform(200, 700), rng.uniform(35, 110)),))
    if rng.random() < 0.35:
        eye = replace(eye, scar=(Patch(-place, rng.uniform(300, 900), rng.uniform(30, 90)),))
    return eye


def _wet_inactive(rng: np.random.Generator, eye: Eye, half_width: float) -> Eye:
    eye = _wet(rng, eye, half_width)
    if not (eye.material or eye.scar or eye.kinds("fibrovascular")):
        eye = replace(eye, scar=(Patch(rng.uniform(-0.3, 0.3) * half_width, rng.uniform(300, 900), 60.0),))
    if rng.random() < 0.2:
        eye = replace(eye, atrophy=(Patch(rng.uniform(-0.6, 0.6) * half_width, rng.uniform(180, 500)),))
    return eye


def _wet_active(rng: np.random.Generator, eye: Eye, half_width: float) -> Eye:
    """Subretinal fluid, intraretinal fluid or both, mostly with tissue that leaks."""
    if rng.random() < 0.8:
        eye = _wet(rng, eye, half_width)
    below = rng.random() < 0.65
    if below:
        spot = Patch(rng.uniform(-0.4, 0.4) * half_width, rng.uniform(350, 1300), rng.uniform(40, 190))
        eye = replace(eye, fluid=(spot,))
    if not below or rng.random() < 0.45:
        centre = rng.uniform(-0.3, 0.3) * half_width
        cysts = tuple(
            Cyst(
                centre + rng.normal(0, 350),
                float(np.clip(rng.normal(0.5, 0.13), 0.25, 0.72)),
                rng.uniform(35, 170),
                rng.uniform(25, 75),
            )
            for _ in range(int(rng.integers(2, 10)))
        )
        eye = replace(eye, cysts=cysts)
    return eye


def _small_drusen(rng: np.random.Generator, half_width: float, count: int) -> tuple[Mound, ...]:
    return tuple(
        Mound("drusen", rng.uniform(-0.85, 0.85) * half_width, rng.uniform(26, 60), rng.uniform(16, 38), 1.0)
        for _ in range(count)
    )


def _large_drusen(rng: np.random.Generator, half_width: float, count: int) -> tuple[Mound, ...]:
    return tuple(
        Mound("drusen", rng.uniform(-0.7, 0.7) * half_width, rng.uniform(72, 190), rng.uniform(38, 105), 1.2)
        for _ in range(count)
    )


def _detachment(rng: np.random.Generator, half_width: float, kind: str) -> Mound:
    half, height, power = {
        "drusenoid": ((260, 600), (90, 200), 0.9),
        "serous": ((350, 1000), (130, 330), 0.7),
        "fibrovascular": ((350, 1100), (60, 190), 1.1),
    }[kind]
    centre = rng.uniform(-0.35, 0.35) * half_width
    return Mound(kind, centre, rng.uniform(*half), rng.uniform(*height), power)  # type: ignore[arg-type]


def _foci(rng: np.random.Generator, half_width: float, mounds: tuple[Mound, ...]) -> tuple[tuple[float, float], ...]:
    """Hyperreflective foci `(x, depth)`, mostly above mounds."""
    places = [mound.centre for mound in mounds] or [0.0]
    return tuple(
        (float(rng.choice(places) + rng.normal(0, 120)), float(rng.uniform(0.45, 0.85)))
        for _ in range(int(rng.integers(2, 7)))
    )


_DISEASE = {
    "healthy": _healthy,
    "early": _early,
    "intermediate": _intermediate,
    "late_dry": _late_dry,
    "wet_inactive": _wet_inactive,
    "wet_active": _wet_active,
}
