"""Whatever a criterion, an item and a sample are: a grade, never an exception."""

from typing import Any

from hypothesis import HealthCheck, given, settings, strategies as st

from evals_async.grading import PythonGraders, grade
from evals_async.inference import Models, Rule, ScriptedModels


PATHS = ("item.a", "item.a[0].b", "sample.output_text", "sample.output_json.x", "sample.output_tools[0].function.name")
PLACEHOLDERS = [*(f"{{{{ {path} }}}}" for path in PATHS), "{{ item.a"]
TEXTS: Any = st.one_of(st.text(max_size=8), st.sampled_from(PLACEHOLDERS))
VALUES: Any = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)),
    max_leaves=6,
)
MESSAGE: Any = st.fixed_dictionaries({"role": st.sampled_from(["user", "system"]), "content": VALUES})
MESSAGES: Any = st.lists(MESSAGE, max_size=2)
FIELDS: dict[str, Any] = {
    "type": st.sampled_from(
        ["string_check", "text_similarity", "score_model", "label_model", "python", "multi", "x", None]
    ),
    "input": st.one_of(TEXTS, MESSAGES, VALUES),
    "reference": st.one_of(TEXTS, VALUES),
    "operation": st.sampled_from(["eq", "ne", "like", "ilike", "x", None]),
    "evaluation_metric": st.sampled_from(["fuzzy_match", "bleu", "gleu", "rouge_l", "cosine", "x", None]),
    "pass_threshold": VALUES,
    "range": VALUES,
    "labels": VALUES,
    "passing_labels": VALUES,
    "model": st.one_of(st.just("m"), VALUES),
    "sampling_params": VALUES,
    "source": VALUES,
    "calculate_output": st.one_of(st.just("a + b"), VALUES),
}
CRITERIA: Any = st.fixed_dictionaries({"type": FIELDS.pop("type")}, optional=FIELDS)
SAMPLES: Any = st.one_of(
    st.none(),
    st.dictionaries(
        st.sampled_from(["output_text", "output", "choices", "output_tools", "finish_reason"]), VALUES, max_size=3
    ),
    st.fixed_dictionaries({"output": st.tuples(MESSAGE)}),
    st.fixed_dictionaries({"choices": st.tuples(st.fixed_dictionaries({"message": VALUES}))}),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    criterion=CRITERIA,
    parts=st.dictionaries(st.sampled_from("ab"), CRITERIA, max_size=2),
    item=st.dictionaries(st.sampled_from("ab"), VALUES, max_size=2),
    sample=SAMPLES,
)
async def test_a_grade_comes_whatever_is_graded(
    criterion: dict[str, Any], parts: dict[str, Any], item: dict[str, Any], sample: dict[str, Any] | None
) -> None:
    """It has a score, or an error with code and message; a verdict goes with the score, but for multi graders."""
    async with (
        ScriptedModels(Rule(result=0.5)) as scripted,
        Models.from_endpoint(scripted.base_url) as models,
        PythonGraders() as python,
    ):
        found = await grade({**criterion, "graders": parts}, item=item, sample=sample, models=models, python=python)
    assert (found.score is None) == (found.error is not None)
    if found.error is not None:
        assert set(found.error) == {"code", "message"}
        assert found.passed is None
    elif criterion["type"] != "multi":
        assert isinstance(found.passed, bool)
    assert found.result("x")["score"] == found.score
