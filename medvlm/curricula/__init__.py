"""Curricula: ordered stages that specialise one model, tested after each."""

from medvlm.curricula.spec import Curriculum, load_curriculum

__all__ = ["Curriculum", "load_curriculum"]
