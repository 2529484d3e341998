"""Words that change what a mention means: negation, doubt, history, rejected alternatives, bare yes and no.

Each line is a phrase as it is written in answers; spelling variants and plurals are folded by `tokens.py`. The longest
phrase wins, so `no doubt` is never read as the negation `no`.
"""

from __future__ import annotations

from typing import Final

# Forward negation: everything after it in its list or clause.
NEGATION: Final = """
no | without | w/o | never | neither | nor | none of | lack of | lacks | lacking | free of | free from | clear of
negative for | absence of | devoid of | fails to show | fail to show | fails to demonstrate | failed to show | failed to demonstrate
fails to reveal | failed to reveal | failing to show | denies | deny | excluding
nothing | no need for | no need of | argues against | argue against | speaks against | speak against | against | inconsistent with
incompatible with | no evidence of | no evidence for | no sign of | no signs of | no evidence to suggest
nothing to suggest | nothing to indicate | nothing suggestive of | no indication of | no suggestion of | no suspicion of | no features of
no feature of | no criteria for | nothing suggesting | no trace of | no hint of | no definite | zero | non | nothing like
insufficient for a diagnosis of | does not meet criteria for | does not meet the criteria for | short of | anything but | far from | hardly any
excluded the diagnosis of | wrong to say | wrong to call it | incorrect to say | incorrect to call it | mistaken to call it
mistake to call it | not the case that | no reason to call it | no reason to say | by no means | in no way
nowhere do i see | nowhere | lacks any | mistaken for | nothing of | a mimic of | mimics | mimic | mimicking
i rejected | we rejected | i reject | we reject | dismissed | dismiss | discard | discarded | ruled out | is free of | are free of
unable to detect | unable to see | unable to find | unable to identify | unable to demonstrate | unable to discern | unable to recognize | unable to appreciate | unable to make out
failed to find | failed to detect | failed to identify | fails to meet | no longer shows | no longer show | no longer any
"""

# `not` and its kin: forward to a mention in the same segment, otherwise back to the one before.
NOT: Final = """
not | isnt | arent | wasnt | werent | doesnt | dont | didnt | not yet | cannot | cant | couldnt | wouldnt | hasnt | havent | wont
can not | no longer | fails to | failed to | aint | shouldnt
"""

# Backward first: the mention before it in the clause, otherwise the one after.
BACK_NEGATION: Final = """
absent | is excluded | are excluded | been excluded | was excluded | were excluded | can be excluded | could be excluded
is ruled out | was ruled out | are ruled out | been ruled out | can be ruled out | could be ruled out | were ruled out
can be safely excluded | may be excluded | can be rejected | can be dismissed
unlikely | improbable | less likely | least likely | doubtful | is missing | are missing | missing | lacking here | has resolved
have resolved | resolved | has disappeared | have disappeared | disappeared | has gone | is gone | are gone | gone | is negative | are negative
negative | nil | none | has regressed | have regressed | has cleared | have cleared | is out of the question | out of the question | is wrong | was wrong | is incorrect | does not fit
do not fit | is not the case | is not supported | would be wrong | would be incorrect | is rejected | was rejected
rejected | is a mistake | is not true | is untrue | is false | were not found | is implausible | was dismissed | were dismissed
ruled out completely | never seen | is not met | are not met
"""

# Doubt, forward.
DOUBT: Final = """
possible | possibly | may | might | could be | could represent | could reflect | could indicate | could still be | could well be | perhaps | maybe
cannot exclude | can not exclude | cant exclude | could not exclude | unable to exclude | not possible to exclude | impossible to exclude
difficult to exclude | not exclude | not excluding | without excluding | not ruling out | cannot rule out | can not rule out | cant rule out
could not rule out | unable to rule out | does not exclude | do not exclude | not rule out | doesnt exclude | dont exclude | does not rule out
questionable | equivocal | question of | suspicion is raised of | differential includes
differential diagnosis includes | differential diagnosis | differential | either | whether | borderline | between | unsure about
somewhere between | i wonder about | cannot be sure | not necessarily | not certain | not certainly | not definitely
not sure | not confident | no certainty | at least | at most | up to | no more than | not more than | no less than | not less than
not worse than | no worse than | not better than | anywhere from | or worse | or higher | or more | doubt about
uncertain | unclear | undecided | undetermined | do not know | dont know | cannot tell | cant tell
can not tell | couldnt tell | could not tell | cannot say | cant say | can not say | could not say | couldnt say | unable to say | unable to tell
no idea | hard to say | difficult to say | impossible to say | hard to tell | difficult to tell | impossible to tell | no opinion
rather not answer | prefer not to answer | cannot decide | cant decide | can not decide | unable to decide | pass on this | cannot answer
cant answer | can not answer | unable to answer | unsure | unknown | not known | no way to tell | cannot be certain | cannot determine
unable to determine | cant determine | i do not wish to answer | who knows | your guess | cannot commit | would not commit | toss up
coin flip | anyones guess | not clear | isnt clear | remains open | not obvious | cannot be determined with certainty | i pass
beyond me | not in a position to | no answer | dunno | no clue | haven't a clue
"""

# Doubt about the mention before it.
BACK_DOUBT: Final = """
is possible | are possible | remains possible | cannot be excluded | can not be excluded | cant be excluded | could not be excluded
cannot be ruled out | can not be ruled out | cant be ruled out | could not be ruled out | not excluded | not ruled out | isnt excluded | not been excluded | not been ruled out
is questionable | are questionable | is equivocal | are equivocal | is uncertain | are uncertain | is debatable | debatable
is not certain | are not certain | is unclear | is conceivable | conceivable | is in question | to be confirmed | cannot be definitely excluded
not entirely excluded | cannot be entirely excluded | cannot be fully excluded | cannot be completely excluded | cannot be safely excluded
not definitely excluded | not completely excluded | cannot be confirmed or excluded | cannot be confirmed or ruled out | hard to exclude
cannot be dismissed | can not be dismissed | cannot be confirmed | is suspected but
"""

# The answer says that the question cannot be answered from the image.
NOT_ASSESSABLE: Final = """
cannot be assessed | can not be assessed | cant be assessed | could not be assessed | cannot assess | can not assess | cannot be evaluated
can not be evaluated | cant be evaluated | cannot evaluate | could not be evaluated | cannot be judged | can not be judged | cannot judge | cannot be determined
can not be determined | could not be determined | cannot be graded | cannot be measured | can not be measured | cannot be classified
cannot be interpreted | cannot be scored | cannot be staged | not assessable | non assessable | nonassessable | unassessable | not evaluable | non evaluable
unevaluable | not gradable | ungradable | not applicable | na | n/a | not possible to assess | not possible to evaluate | not possible to judge
impossible to assess | impossible to evaluate | impossible to judge | does not allow | doesnt allow | do not allow | does not permit
assessment of the | not interpretable | uninterpretable | inadequate to judge | inadequate to assess | inadequate to evaluate | insufficient to judge | insufficient to assess | insufficient to evaluate | insufficient for assessment | inadequate for assessment | insufficient to determine | inadequate to determine | does not apply | doesnt apply
non diagnostic | nondiagnostic | not diagnostic | inadequate | precludes | preclude | precluding | not adequately visualized | not adequately imaged
not adequately assessed | no assessment | no evaluation | cannot be given | cannot be made | cannot be established | not classifiable | unclassifiable
cannot be answered | unable to assess | unable to evaluate | not possible to determine | impossible to determine | not meaningful
prevents assessment | prevents evaluation | limits assessment | not measurable | unable to judge | irrelevant here | assessment is not possible
evaluation is not possible | not be assessed | not be evaluated | not be judged | not be determined | not be graded | not be measured
is not possible | not possible | too poor to | meaningless
"""

# Not about this image now: history, conditions, other people's opinions, comparisons. Forward within the segment.
ASIDE: Final = """
history of | previous | previously | prior | formerly | past | old history of | known history of | family history of | risk of | risk for
in case of | would be expected in | would have been
would require | to rule out | rule out | exclude | no new | no further | no additional | no other | r/o | evaluate for | evaluation for | assess for | screening for | query | indication | rather than | instead of
as opposed to | as compared with | in contrast to | in contrast with | contrasted with | unlike | than | compared with | compared to | in comparison with | in comparison to
differs from | different from | distinct from | as distinct from | distinguish from | distinguished from | distinguishable from
differentiated from | differentiate from | distinguishing it from | separate from | not to be confused with | confused with | similar to | resembles | resembling | reminiscent of | in place of | 
other than | apart from | except for | except | in the absence of | in the presence of | progression to | progress to | developing | development of
to exclude | treated for | clinician believes | clinician suspects | clinician thinks | clinician suggests | clinician suggested | clinician claims
you said | you say | you suggested | you suggest | you believe | you think | you proposed | you claim | your suggestion | your claim | your proposal | your hint
suggested diagnosis | according to the referral | according to the referring | according to the letter
according to the clinician | according to the previous reader | referral letter says | referral letter mentions | referral says | referring doctor | referring physician | referring clinician
colleague noted | colleague says | colleague said | colleague called it | colleague believes | colleague suggested | hint says | hint of the | the hint | despite the hint
contrary to | despite the suggestion of | despite the claim of | the claim of | the claim that | the suggestion of | the suggestion that | the hypothesis of
the question of | the question was | asked about | asked whether | i was told | we were told | i was asked
the options are | options are | options were | options include | alternatives are | the choices are | choose between | choose from | choosing between | choices
typical of | typically | usually | in general | by definition | textbook | at baseline it was | before treatment
it used to be | used to be | used to | initially | originally | 
criteria for | threshold for | definition of | the criterion for | requires | would need | defined as | defined by | when there is
"""

# The same, about the mention before it.
BACK_ASIDE: Final = """
last year | years ago | months ago | weeks ago | a year ago | in the past | at the last visit | on the previous | on the prior | earlier
was suggested | was proposed | has been suggested | have been suggested | was considered | were considered | was discussed | was suspected before
was the hypothesis | was the suggestion | was mentioned | was claimed | is what you said | is what the clinician said | was the referral diagnosis
"""

# A condition makes the `would` of its sentence unreal; without one, `would be` is only polite.
CONDITION: Final = "if | unless | were it | had it been | had there been | were there"
WOULD: Final = "would be | would suggest | would indicate | would mean | would make | would imply"

# Two mentions of which one is meant.
EITHER: Final = "versus | vs"

# Words that look like a cue and are none.
PSEUDO: Final = """
no doubt | without doubt | without a doubt | without any doubt | no question | without question | no change | not only | not just | not merely
not unlike | not uncommon | not uncommonly | no increase | no decrease | no difference | not limited | no need | no wonder | cannot but
not unlikely | not improbable | could be made out | can be made out | could be discerned | could be recognized | could be observed | could be appreciated | could be visualized | could be noted | could be identified | could be seen | could be demonstrated | could be detected | could be found | could be shown
could be confirmed | no hesitation | without hesitation | no less | not surprisingly | no significant change | without change
not exclusively | cannot deny | cannot be denied | undeniable | undeniably | no denying | cannot be missed | cannot miss | cannot overlook
cannot be overlooked | not to be missed | not to be overlooked | not a single doubt | no room for doubt | beyond doubt | beyond question | with certainty
non contrast | no matter | not to mention | not far from | by definition this is | meets the definition of | meet the definition of | satisfies the definition of
meets the criteria for | meets criteria for | meet criteria for | fulfills the criteria for | fulfils the criteria for | fulfil criteria for
fulfill criteria for | satisfies the criteria for | not in doubt | isnt in doubt | no longer in doubt | not in question | if you ask me | if anything | would be my answer | would be my diagnosis | would be my choice
no mistaking | not to be doubted | crosses the threshold for | typical appearance of | typical picture of | a typical | typical case of | meets criterion for
never in doubt | hard to miss | not disputed | previously untreated | would be best described as | would be called | would be classified as | would be graded as
would be read as | would be consistent with | would be compatible with | would be in keeping with | would be most consistent with | would be reported as
would be described as | not negligible | not insignificant | i would be inclined to say | whether or not | would be in line with | not absent | is not missing
"""

# Bare answers. Only where a sentence starts and stops or goes on with a comma or a pronoun.
YES: Final = """
yes | affirmative | indeed | certainly | definitely | absolutely | of course | agreed | i agree | i do agree | we agree | correct | that is correct | that is right | exactly
sure | surely | undoubtedly | i can confirm this | i can confirm that | i confirm this | i confirm | confirmed | i share this view | i share it | i would sign that | that is true | true
quite right | quite so | precisely | it does | it is | there is | there are | i do | yes indeed | without question yes | i would agree | i concur | positive | thats right | thats correct
there is some | there are some | i would say so | i think so | i believe so | it looks like it | looks like it | it seems so | i see it | i see them | i can see it | i can see them | they are there | i see some | i do see it | i share that view | i would confirm this
"""
NO: Final = """
no | not really | not at all | certainly not | definitely not | absolutely not | of course not | i disagree | i do not agree | i dont agree | we disagree | incorrect | that is incorrect
that is wrong | wrong | false | i cannot agree | i cannot confirm | i cannot confirm this | i cannot confirm that | i would not agree | not correct | that is not correct | that is not right | that is not true
there isnt any | there arent any | there is not any | there are not any | i would say no | i think not | i do not believe so | i dont believe so | i would not say so | none | nothing | nothing at all | none at all | not that i can see | not here | not in this image | i would not | it does not | it is not | there is not | there are not | there is none | there are none
none of these | none of them | none of those | none of the above | none whatsoever | none seen | none visible | none detected | none present | none found | nothing seen | nothing visible | nothing found | nothing of the sort | nothing of that kind | nothing like that
i do not see it | i dont see it | i do not see any | i dont see any | i see none | i cannot see it | i cant see it | i cannot see any | i cant see any | i find none | i found none | it isnt | there isnt | there arent | it doesnt
i do not | i dont | i cannot find any | i do not think so | i dont think so | never | not seen | not visible | not present | not detected | not found | not identified | not evident | thats wrong | thats not right | not so
negative | absent | nil | missing
"""

# A statement about "it" without naming it.
GENERIC: Final = """
present | seen | visible | detected | identified | found | evident | apparent | demonstrated | noted | recognizable | discernible | positive | observed
"""

# Words after which earlier cues no longer reach.
TURN: Final = """
but | however | although | though | whereas | while | yet | instead | nevertheless | nonetheless | because | since | so | therefore | hence | thus | whilst | still
rather | on the contrary | i would say | it is rather | actually | in fact | in reality | in truth | instead it is | i see | i find
which means | meaning that | leaving | this makes it | making it | here it is | now it is | now | currently | today | but rather | and yet | even though | only
"""

# A verb or pronoun that makes the words after a comma or `and` a statement of their own.
PREDICATE: Final = frozenset(
    "is are was were be been has have had show shows showed see seen saw there i it we this these that appear appears "
    "remain remains present exist exists contain contains reveal reveals find finds found note noted demonstrate "
    "demonstrates measure measures visible evident suggest suggests indicate indicates fit fits favor favors supports "
    "support meet meets make makes speak with all he she you they does do can".split()
)
