"""What runs the model: prediction now, training on top."""

from partglee.engine.predictor import Predictor

__all__ = ["Predictor"]
