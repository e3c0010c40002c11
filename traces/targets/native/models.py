"""Models of the native target: published dimensions by name."""

from traces.targets.common.models import SHARED_MODELS, ModelShape

MODELS: dict[str, ModelShape] = {**SHARED_MODELS}
