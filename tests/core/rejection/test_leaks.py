"""A reason that reveals a shown label is found; ordinary reasons with the same words are not."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import PromptsConfig, RejectionConfig, RuleContext
from core.prompts import load_prompts
from core.records import Example, LabelSet, TeacherAnswer
from core.rejection.rules import judge, revealed

REPO = Path(__file__).resolve().parents[3]
NAMES = ("0", "ham", "1", "spam")

REVEALING = [
    # in the words of the hint
    "The answer is 1. The text promises a prize, which R1 covers.",
    "The answer is 1, since the text promises a prize [R1].",
    "Written as if I had found it myself, R1 applies.",
    "These are the reasons that the text and the rules offer for it [R1].",
    # a label that is there before the reason
    "It promises a prize, as the given label says [R1].",
    "The correct label is 1 so R1 must be the rule that decides.",
    "Since the gold label was provided, R1 has to apply.",
    "The ground truth is 1, hence R1.",
    "The known label is positive because of the prize [R1].",
    "The expected classification is 1, and R1 explains it.",
    "Given the correct label, R1 is the rule that fits.",
    "The label given is 1, which R1 explains.",
    "The label was provided, and R1 agrees with it.",
    "The answer was given as 1, which R1 supports.",
    "The true class is 1 [R1].",
    "The reference answer is spam under R1.",
    "The gold annotation says that it is spam [R1].",
    "The stated verdict is 1 and R1 backs it.",
    # a label as a premise
    "Since the answer is 1, the prize must fall under R1.",
    "Because the label is 1, R1 applies.",
    "Given that the answer is spam, R1 must apply.",
    "With the label being 1, R1 is the rule that applies.",
    "The label is 1, so the prize must be what R1 means.",
    "As it is labeled as spam, R1 is the reason.",
    "This text was labeled as spam; R1 explains why.",
    "The message is already labelled 1, by R1.",
    "Given that this is spam, R1 is what applies.",
    "The label tells us that it is spam [R1].",
    "The label indicates that the rules apply [R1].",
    # statements of the asker
    "We are told that the rules apply, so R1 it is.",
    "I was told that the answer is 1, which R1 covers.",
    "We were given the label 1, so R1 applies.",
    "I've been told the answer; R1 supports it.",
    "As you said, this is about a prize [R1].",
    "As indicated in the prompt, the text falls under R1.",
    "The prompt says that the answer is 1, by R1.",
    "You gave me the label, and R1 explains it.",
    "I was asked to justify the positive label with R1.",
    "According to the annotators this is R1.",
    "The dataset labels it as a prize text [R1].",
    # the hint
    "The hint indicates that R1 applies.",
    "According to the hint, R1 applies.",
    "Based on the provided hint, the prize decides [R1].",
    "Your hint says it falls under R1.",
    # a reason that is fitted to it
    "To justify the label, the prize counts as R1.",
    "To match the given label, R1 is cited.",
    "Knowing the label, R1 is the obvious rule.",
    "We already know the answer is 1, so R1 applies.",
    # and more, in no order
    "As the label provided indicates, this is 1.",
    "The assigned label is 0 because no rule applies.",
    "Since we know the correct answer is 0, no rule applies.",
    "It is stated that the label is 1, and R1 fits.",
    "The provided gold answer 1 is supported by R1.",
    "Considering the answer is 0, none of the rules apply.",
    "This aligns with the given answer of 1 [R1].",
    "This is consistent with the provided answer [R1].",
    "The label is known to be 1, thanks to R1.",
    "As the answer is given as 0, R2 applies.",
    "In light of the given label, R1 is decisive.",
    "The user says it's spam, and R1 agrees.",
    "The user has indicated that this is positive [R1].",
    "I have been told this is spam, by R1.",
    "We've been given that the answer is 1.",
    "The hint tells us that R1 applies.",
    "As hinted, the rules apply.",
    "As the hint says, R1 applies.",
    "As per the hint, R1 applies.",
    "As you mentioned, R1 applies.",
    "The label has already been determined, so R1.",
    "The answer key says 1.",
    "The correct answer is 1 because of R1.",
    "The correct answer here is 0 [R2].",
    "It's been labeled spam, so R1.",
    "Because the correct label was given as 1, R1 it is.",
    "Knowing the answer in advance, R1 is decisive.",
    "Since the label is given, R1 is decisive.",
    "Given the label 1, R1 is decisive.",
    "Given label 1, R1 is decisive.",
    "Given the answer 1, R1 is decisive.",
    "Working backwards from the label, R1 is decisive.",
    "The label we were given fits R1.",
    "The label I was shown fits R1.",
    "Since you told me it is spam, R1.",
    "The answer I was given is supported by R1.",
    "We're told it is spam [R1].",
    "We are told the answer is 1 [R1].",
    "The answer provided is 1 [R1].",
    "The right label is spam [R1].",
    "Based on the given answer, R1 must apply.",
    "As the correct label is 1, R1.",
    "The label being 1 means R1 applies.",
    "The label of 1 was provided.",
    "The answer must be 1 as given.",
    "As shown by the gold label, it is spam.",
    "I am given that the label is 1.",
    "The text is labeled 1 in the prompt.",
    "The solution says 1.",
    "As I was told, the rules apply.",
    "The supplied classification is 1.",
    "Since it was given that the label is 1, R1.",
    "The label confirms that R1 applies.",
    "The question states the label is spam.",
    "From the hint we know R1 applies.",
    "The hinted label is 1.",
    "The hint was that R1 applies.",
    "The hint given is 1.",
]
ORDINARY = [
    "The product label promises a cure, which R1 forbids.",
    "The label on the bottle is shown in capital letters [R2].",
    "According to the label, the drink contains nuts [R1].",
    "The label says sugar-free, which R2 allows.",
    "The record label is given a prize [R1].",
    "It asks to print the provided label and send the parcel back [R2].",
    "The correct shipping label is missing from the parcel [R2].",
    "The true label of the wine is hidden [R2].",
    "The private label given to the goods is harmless [R2].",
    "Given R2, the text is harmless.",
    "Given the rule R1, the promised prize decides.",
    "Given that it promises a prize, R1 applies.",
    "Given the number to call and the prize, this is R1.",
    "The given text promises a prize [R1].",
    "The sender has provided a number to call [R1].",
    "The text gives a hint of urgency, which R1 names.",
    "There is a hint that the sender is a bot [R2].",
    "It hints at a prize, so R1 applies.",
    "The hint of a prize in the last line is enough for R1.",
    "Following the hint at a prize, R1 applies.",
    "R1 applies, so the answer is 1.",
    "Therefore the label is 0 [R2].",
    "The promised prize falls under R1, hence the label is 1.",
    "It asks for the correct answer to win a prize [R1].",
    "The right answer wins a prize, which is R1.",
    "The result is shown at once: a prize [R1].",
    "The answer is given by the sender of the quiz [R2].",
    "The reader is told that a prize waits [R1].",
    "Recipients are told to call, and given a number [R1].",
    "The decision is known to the friends only [R2].",
    "As stated in R1, a prize decides.",
    "As indicated by the number, this is R1.",
    "The correct number to call is stated [R1].",
    "It is marked as urgent and promises a prize [R1].",
    "The class is at eight and was given by a friend [R2].",
    "A category of goods is shown, without a prize [R2].",
    "The text is spam because R1 names prizes.",
    "It is a positive message to a friend [R2].",
    "This is what the rule says: a prize [R1].",
    "We know the sender, who is a friend [R2].",
    "I am asked to judge by R1, and a prize is promised.",
    "As you can see, a prize is promised [R1].",
    "The text says you gave your consent, as R2 allows.",
    'It says "the correct label is 1", which is an ordinary sentence under R2.',
    "The outcome is a prize, so R1 decides.",
    "A warning label is provided with the drug, as R2 asks.",
    "The label of the product is misleading [R2].",
    "The price given on the label is wrong [R2].",
    "He was given the answer by a friend [R2].",
    "It is given that the number is free [R2].",
    "The hint to call now is pressure [R1].",
    "The sender hints that a prize waits [R1].",
    "The decision is final, says the sender [R2].",
    "It says the results are shown at eight [R2].",
    "The text tells us that a prize waits [R1].",
    "We are given a phone number to call [R1].",
    "We see a prize, so the label is 1 [R1].",
    "R1 applies and the label is therefore 1.",
    "The given number is 0871 [R1].",
    "As the text is a joke, R2 applies.",
    "As this is a greeting, no rule applies.",
    "Since it is a prize, R1 applies.",
    "Given its tone, it is harmless [R2].",
    "The user asks for help and was told to wait [R2].",
    "The user says he is late [R2].",
    "The customer says the label fell off [R2].",
    "The question is whether R1 applies; a prize is promised.",
    "The sender says the answer is 42 [R2].",
    "The class starts at 1, says the sender [R2].",
    "With 1 prize and a number to call it is R1.",
    "The message was marked urgent [R2].",
    "The category is shown as 1 of 5 [R2].",
    "Because the result is positive, she is happy [R2].",
    "As the outcome was positive, they celebrate [R2].",
    "The test result is positive, so she stays at home [R2].",
    "The provided link leads to a prize [R1].",
    "The expected parcel has no label [R2].",
    "The reader should know the answer to win [R1].",
    "It asks whether you know the answer [R1].",
    "The correct class of the ticket is stated [R2].",
    "The official label of the band gives prizes [R1].",
    "The text mentions a human label designer [R2].",
    "The known brand and its label are harmless [R2].",
    "The user is informed that a prize waits [R1].",
    "The answer to both rules is no.",
    "Under R2 the verdict is 0.",
    "The verdict is 0, because R1 needs a prize.",
    "The given answer options are a trick to make people call [R1].",
    "You have been given a prize, it claims [R1].",
    "The hint is that a prize waits only today, typical of R1.",
]


@pytest.mark.parametrize("reasoning", REVEALING)
def test_reason_that_reveals_the_label_is_rejected(reasoning: str) -> None:
    assert revealed(reasoning, NAMES)


@pytest.mark.parametrize("reasoning", ORDINARY)
def test_ordinary_reason_with_similar_words_is_accepted(reasoning: str) -> None:
    assert revealed(reasoning, NAMES) is None


@pytest.mark.parametrize("file", ["default.yaml", "reviews.yaml", "sms.yaml"])
@pytest.mark.parametrize("gold", [0, 1])
def test_default_hints_are_recognized(file: str, gold: int) -> None:
    prompts = load_prompts(PromptsConfig(file=str(REPO / "prompts" / file)))
    shown = prompts.teacher_messages("the text", "R1", gold=gold)[-1].content
    plain = prompts.teacher_messages("the text", "R1")[-1].content
    for sentence in shown.removeprefix(plain).strip().split(". "):
        assert revealed(sentence.replace("\n", " ") + ".", NAMES)


@given(st.text())
def test_revealed_never_raises(reasoning: str) -> None:
    revealed(reasoning, (*NAMES, "", "a (b", "[c]"))


EXAMPLE = Example("a", "You have won a prize", 1)
GOOD = TeacherAnswer("a", 0, "m", "raw", True, "json", 1, "It promises a prize, so [R1] applies.")


def rejected(reasoning: str, *, shown: bool, **config: Any) -> list[str]:
    """The rules that reject an answer under a config."""
    found = RejectionConfig.model_validate(config)
    context = RuleContext(("R1",), LabelSet.binary(("spam",), ("ham",)))
    answer = dataclasses.replace(GOOD, reasoning=reasoning, hinted=shown)
    return [v.rule for v in judge(found, answer, EXAMPLE, context) if v.rejected]


LEAK = "The correct label is 1 so R1 must be the rule that decides."


@pytest.mark.parametrize("config", [{}, {"rules": ["unparsed"]}, {"rules": []}])
def test_by_default_only_hinted_answers_are_checked_for_leaks(config: Any) -> None:
    assert rejected(LEAK, shown=True, **config) == ["reveals_label"]
    assert rejected(LEAK, shown=False, **config) == []
    assert rejected("It promises a prize, so [R1] applies.", shown=True, **config) == []


def test_reveals_label_can_be_disabled_extended_and_applied_to_all_answers() -> None:
    assert rejected(LEAK, shown=True, hinted=[]) == []
    own = {"rule": "reveals_label", "phrases": ["the desk calls it {label}"]}
    reasoning = "The desk calls it Spam, and R1 fits."
    assert rejected(reasoning, shown=True) == []
    assert rejected(reasoning, shown=True, hinted=[own]) == ["reveals_label"]
    assert rejected(LEAK, shown=True, hinted=[own]) == ["reveals_label"]
    assert rejected(LEAK, shown=False, rules=["reveals_label"]) == ["reveals_label"]
    assert rejected(LEAK, shown=True, rules=["reveals_label"]) == ["reveals_label"]
    assert rejected("R1 it is", shown=True, rules=[], hinted=["too_short"]) == ["too_short"]


def test_gold_teacher_answers_never_reveal_a_label() -> None:
    found = RejectionConfig()
    gold = dataclasses.replace(GOOD, parse_source="gold", reasoning="The gold label.", hinted=True)
    assert not any(v.rejected for v in judge(found, gold, EXAMPLE, RuleContext(("R1",))))
