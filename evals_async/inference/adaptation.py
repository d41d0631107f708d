"""Changes of requests for endpoints that support only an older form of the API."""

from collections.abc import Callable, Mapping

import attrs

from evals_async._json import JSONObject, as_array, as_object


Change = Callable[[Mapping[str, object]], dict[str, object]]


@attrs.frozen
class Adaptation:
    """A change of a request after an error with a certain word, and the note about the change."""

    word: str
    change: Change
    note: str

    def applied(self, body: dict[str, object], notes: list[str]) -> dict[str, object]:
        """Return the changed request. If it differs, the note is added to `notes`."""
        changed = self.change(body)
        if changed != body:
            notes.append(self.note)
        return changed


def system_for_developer(body: Mapping[str, object]) -> dict[str, object]:
    """Return the request with the role `system` instead of `developer`."""
    messages: list[JSONObject] = [as_object(message) or {} for message in as_array(body.get("messages")) or ()]
    renamed = [{**each, "role": "system"} if each.get("role") == "developer" else each for each in messages]
    return {**body, "messages": renamed}


def older_limit(body: Mapping[str, object]) -> dict[str, object]:
    """Return the request with `max_tokens` instead of `max_completion_tokens`."""
    changed = dict(body)
    if "max_completion_tokens" in changed:
        changed["max_tokens"] = changed.pop("max_completion_tokens")
    return changed


ADAPTATIONS = (
    Adaptation(
        "developer", system_for_developer, "the endpoint does not support the role developer: it was sent as system"
    ),
    Adaptation(
        "max_completion_tokens", older_limit, "the endpoint does not support max_completion_tokens: max_tokens was sent"
    ),
)


def adaptation_for(refusal: str, body: Mapping[str, object]) -> Adaptation | None:
    """Return a change that may avoid the error, and was not made yet, or `None`."""
    told = refusal.lower()
    return next((each for each in ADAPTATIONS if each.word in told and each.change(body) != dict(body)), None)
