"""Inference: models behind OpenAI-compatible endpoints, and a scripted endpoint for tests.

from evals_async.inference import Models

async with Models.from_file("models.toml") as models:
    answer = await models.chat("gpt-4.1", [{"role": "user", "content": "Hello"}])
"""

from evals_async.inference.completion import Completion, Embeddings
from evals_async.inference.endpoints import Endpoint
from evals_async.inference.modelmap import Models
from evals_async.inference.probe import Ability, probe_models
from evals_async.inference.rules import Rule, ScriptedRequest
from evals_async.inference.scripted import ScriptedModels
from evals_async.inference.transcript import sample_object


__all__ = [
    "Ability",
    "Completion",
    "Embeddings",
    "Endpoint",
    "Models",
    "Rule",
    "ScriptedModels",
    "ScriptedRequest",
    "probe_models",
    "sample_object",
]
