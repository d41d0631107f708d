"""The topics of the sample evals: prompts, graders and rows."""

import attrs

from evals_async._json import JSONObject


JUDGE = "o4-mini"


@attrs.frozen
class Theme:
    """The topic of one eval: its prompt, its graders, and its rows with their expected outputs."""

    name: str
    prompt: str
    field: str
    rows: tuple[tuple[str, str], ...]
    graders: tuple[JSONObject, ...]

    @property
    def items(self) -> list[JSONObject]:
        """Return the rows as data source items."""
        return [{self.field: text, "expected": expected} for text, expected in self.rows]


def string_check(name: str, operation: str) -> JSONObject:
    return {
        "type": "string_check",
        "name": name,
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.expected }}",
        "operation": operation,
    }


def similarity(name: str, metric: str, threshold: float) -> JSONObject:
    return {
        **string_check(name, ""),
        "type": "text_similarity",
        "evaluation_metric": metric,
        "pass_threshold": threshold,
    }


def judged(name: str, instruction: str) -> JSONObject:
    messages = [
        {"role": "system", "content": instruction},
        {"role": "user", "content": "{{ sample.output_text }}"},
    ]
    return {
        "type": "score_model",
        "name": name,
        "model": JUDGE,
        "input": messages,
        "range": [0, 1],
        "pass_threshold": 0.7,
    }


THEMES: tuple[Theme, ...] = (
    Theme(
        "IT ticket routing",
        "Sort the support ticket into one of Hardware, Software or Other. Answer with that word only.",
        "ticket_text",
        (
            ("My monitor won't turn on!", "Hardware"),
            ("I'm in vim and I can't quit!", "Software"),
            ("Best restaurants in Cleveland?", "Other"),
            ("The left hinge of my laptop is broken.", "Hardware"),
            ("Since the update the VPN client asks for my password every minute.", "Software"),
            ("Who do I ask about parking?", "Other"),
            ("The printer on level 3 jams on every second page.", "Hardware"),
            ("Excel says that the file is locked by myself.", "Software"),
        ),
        (string_check("Matches the human label", "eq"),),
    ),
    Theme(
        "News desk",
        "Name the desk for this headline: Technology, Markets, World, Business or Sports.",
        "headline",
        (
            ("Central bank raises interest rates amid inflation concerns", "Markets"),
            ("National team qualifies for the world championship finals", "Sports"),
            ("Retailer reports record holiday sales", "Business"),
            ("Leaders sign climate agreement in Geneva", "World"),
            ("Start-up shows battery that charges in four minutes", "Technology"),
            ("Bond yields fall for the third week", "Markets"),
        ),
        (string_check("Desk", "ilike"), similarity("Close to the desk's name", "fuzzy_match", 0.8)),
    ),
    Theme(
        "Short answers",
        "Answer the question in one sentence.",
        "question",
        (
            ("What is the capital of Australia?", "Canberra"),
            ("Which metal is liquid at room temperature?", "mercury"),
            ("Who wrote 'Middlemarch'?", "George Eliot"),
            ("How many bones has an adult human?", "206"),
            ("What does HTTP status 409 mean?", "Conflict"),
        ),
        (
            string_check("Names the answer", "ilike"),
            judged("Accuracy", "Score from 0 to 1 how accurate the answer is."),
        ),
    ),
    Theme(
        "Tone of replies",
        "Response to the customer in two friendly sentences, without promising a refund.",
        "complaint",
        (
            ("Third broken mug in a row. THIRD.", "mug"),
            ("Your app charged me twice on Friday 🤨", "charge"),
            ("Wo bleibt meine Bestellung? Seit zwei Wochen nichts!", "Bestellung"),
            ("I was told 'tomorrow' five times now.", "delivery"),
        ),
        (judged("Friendly", "Score from 0 to 1 how friendly the reply is."), string_check("Stays on topic", "ilike")),
    ),
)
