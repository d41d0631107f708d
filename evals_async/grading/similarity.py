"""The metrics of text similarity graders, from the libraries that the service names. Each library is imported at its
first use.

`fuzzy_match` is rapidfuzz's WRatio on processed strings. `bleu`, `gleu` and `meteor` are nltk's on words split at white
space. `rouge_*` is rouge-score's F-measure without a stemmer. The variants of the service are not documented, so its
numbers may differ slightly.

BLEU uses n-grams up to 4, or up to the number of words of the shorter text, with equal weights. Counts of zero are
smoothed by nltk's method 1. So two equal texts of any length score 1. Plain BLEU-4 gives 0.178 for two equal words.

`cosine` is the cosine of the embeddings of both texts; it needs a model, see `judges`.
"""

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

from evals_async import EvalsError
from evals_async._extras import extra_missing


class Unavailable(EvalsError):
    """A grader cannot be run here. The message says what is missing, and `code` is the kind of reason."""

    def __init__(self, message: str, *, code: str = "grader_unavailable") -> None:
        super().__init__(message)
        self.code = code


def library(name: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Unavailable(extra_missing(f"{package} is not installed: text similarity needs", "graders")) from None


def fuzzy_match(text: str, reference: str) -> float:
    fuzz, utils = library("rapidfuzz.fuzz", "rapidfuzz"), library("rapidfuzz.utils", "rapidfuzz")
    return float(fuzz.WRatio(text, reference, processor=utils.default_process)) / 100


def bleu(text: str, reference: str) -> float:
    nltk = library("nltk.translate.bleu_score", "nltk")
    words, wanted = text.split(), reference.split()
    if not words or not wanted:
        return 1.0 if words == wanted else 0.0
    order = min(4, len(words), len(wanted))
    smoothing = nltk.SmoothingFunction().method1
    weights = (1 / order,) * order
    return float(nltk.sentence_bleu([wanted], words, weights=weights, smoothing_function=smoothing))


def gleu(text: str, reference: str) -> float:
    nltk = library("nltk.translate.gleu_score", "nltk")
    return float(nltk.sentence_gleu([reference.split()], text.split()))


def meteor(text: str, reference: str) -> float:
    nltk = library("nltk.translate.meteor_score", "nltk")
    try:
        return float(nltk.meteor_score([reference.split()], text.split()))
    except LookupError:  # nltk is installed without its data
        raise Unavailable("meteor needs WordNet: python -m nltk.downloader wordnet") from None


def rouge(name: str) -> Callable[[str, str], float]:
    def metric(text: str, reference: str) -> float:
        scorer = library("rouge_score.rouge_scorer", "rouge-score").RougeScorer([name], use_stemmer=False)
        return float(scorer.score(reference, text)[name].fmeasure)

    return metric


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the cosine of the angle between two vectors, or 0 if one of them is zero."""
    lengths = math.hypot(*first) * math.hypot(*second)
    return math.fsum(a * b for a, b in zip(first, second, strict=True)) / lengths if lengths else 0.0


METRICS: Mapping[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    **{f"rouge_{n}": rouge(f"rouge{n}") for n in range(1, 6)},
    "rouge_l": rouge("rougeL"),
}
"""The functions that compare two texts."""
