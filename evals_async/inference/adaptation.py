"""What is changed in a request that an endpoint refuses, because it speaks an older form of the API. Pure functions."""

from collections.abc import Callable, Mapping

import attrs

from evals_async._json import JSONObject, as_array, as_object


Change = Callable[[Mapping[str, object]], dict[str, object]]


@attrs.frozen
class Adaptation:
    """A change that is made when a refusal has a certain word in it, and the note that tells of it."""

    word: str
    change: Change
    note: str

    def applied(self, body: dict[str, object], notes: list[str]) -> dict[str, object]:
        """The request with the change, and the note added if there was something to change."""
        changed = self.change(body)
        if changed != body:
            notes.append(self.note)
        return changed


def system_for_developer(body: Mapping[str, object]) -> dict[str, object]:
    """The request with the role `system` in place of `developer`."""
    messages: list[JSONObject] = [as_object(message) or {} for message in as_array(body.get("messages")) or ()]
    renamed = [{**each, "role": "system"} if each.get("role") == "developer" else each for each in messages]
    return {**body, "messages": renamed}


def older_limit(body: Mapping[str, object]) -> dict[str, object]:
    """The request with `max_tokens` in place of `max_completion_tokens`."""
    changed = dict(body)
    if "max_completion_tokens" in changed:
        changed["max_tokens"] = changed.pop("max_completion_tokens")
    return changed


ADAPTATIONS = (
    Adaptation("developer", system_for_developer, "the endpoint knows no role developer: it was sent as system"),
    Adaptation("max_completion_tokens", older_limit, "the endpoint knows no max_completion_tokens: it got max_tokens"),
)


def adaptation_for(refusal: str, body: Mapping[str, object]) -> Adaptation | None:
    """The change that may help against a refusal; `None` where there is none that was not made already."""
    told = refusal.lower()
    return next((each for each in ADAPTATIONS if each.word in told and each.change(body) != dict(body)), None)
