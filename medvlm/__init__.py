"""medvlm: specialise vision-language models for medicine.

study → experts → findings → dialogue → curriculum → (fine-tune → align) → report → reader study
"""

from medvlm.errors import MedVLMError, MissingExtraError

__version__ = "0.1.0"

__all__ = ["MedVLMError", "MissingExtraError", "__version__"]
