"""The metrics of text similarity graders, by the libraries that the service names. Each is imported when it is first
needed.

`fuzzy_match` is rapidfuzz's WRatio on processed strings, `bleu`, `gleu` and `meteor` are nltk's on words split at white
space (BLEU smoothed by nltk's method 1), `rouge_*` is rouge-score's F-measure without a stemmer. The service does not
tell its own variants, so its numbers may differ in small ways. `cosine` needs an embedding model, and there is none
here.
"""

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType


class Unavailable(Exception):
    """A grade that cannot be given here. The text says what would be needed."""


def library(name: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Unavailable(f"{package} is not installed: pip install 'evals-async[graders]'") from None


def fuzzy_match(text: str, reference: str) -> float:
    fuzz, utils = library("rapidfuzz.fuzz", "rapidfuzz"), library("rapidfuzz.utils", "rapidfuzz")
    return float(fuzz.WRatio(text, reference, processor=utils.default_process)) / 100


def bleu(text: str, reference: str) -> float:
    nltk = library("nltk.translate.bleu_score", "nltk")
    smoothing = nltk.SmoothingFunction().method1
    return float(nltk.sentence_bleu([reference.split()], text.split(), smoothing_function=smoothing))


def gleu(text: str, reference: str) -> float:
    nltk = library("nltk.translate.gleu_score", "nltk")
    return float(nltk.sentence_gleu([reference.split()], text.split()))


def meteor(text: str, reference: str) -> float:
    nltk = library("nltk.translate.meteor_score", "nltk")
    try:
        return float(nltk.meteor_score([reference.split()], text.split()))
    except LookupError:  # nltk ships without its data
        raise Unavailable("meteor needs WordNet: python -m nltk.downloader wordnet") from None


def rouge(name: str) -> Callable[[str, str], float]:
    def metric(text: str, reference: str) -> float:
        scorer = library("rouge_score.rouge_scorer", "rouge-score").RougeScorer([name], use_stemmer=False)
        return float(scorer.score(reference, text)[name].fmeasure)

    return metric


def cosine(text: str, reference: str) -> float:
    raise Unavailable("cosine similarity needs an embedding model, and this server has none")


METRICS: Mapping[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    **{f"rouge_{n}": rouge(f"rouge{n}") for n in range(1, 6)},
    "rouge_l": rouge("rougeL"),
    "cosine": cosine,
}
