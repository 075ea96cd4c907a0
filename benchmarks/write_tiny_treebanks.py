"""Writes the two tiny treebanks of ``data/``: news sentences with trees (source), recipes and chat about them (target).

A hand-written lexicalised grammar, drawn from at random. The two domains share function words and some syntax; the
target adds imperatives, quantities, questions, vocatives, fragments, stranded prepositions and its own vocabulary, so
that a parser trained on the source has something to lose there.

    python benchmarks/write_tiny_treebanks.py [--seed 7] [--out data]
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from parser_vae.treebank.checks import tree_problem
from parser_vae.treebank.conllu import write_treebank
from parser_vae.treebank.sentence import Sentence

SHORTEST, LONGEST = 4, 20


@dataclass(eq=False)
class Token:
    """A word under construction; ``join`` is the form of the multiword token it makes with the next word."""

    form: str
    upos: str
    lemma: str = ""
    feats: str = "_"
    head: Token | None = None
    deprel: str = "root"
    space: bool = True
    join: str = ""


@dataclass
class Phrase:
    """Words in their order, and the one that the others hang on."""

    head: Token
    words: list[Token] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.words = self.words or [self.head]

    def before(self, dependent: Phrase | Token, deprel: str) -> Phrase:
        self.words = self._attach(dependent, deprel) + self.words
        return self

    def after(self, dependent: Phrase | Token, deprel: str) -> Phrase:
        self.words = self.words + self._attach(dependent, deprel)
        return self

    def _attach(self, dependent: Phrase | Token, deprel: str) -> list[Token]:
        phrase = dependent if isinstance(dependent, Phrase) else Phrase(dependent)
        phrase.head.head, phrase.head.deprel = self.head, deprel
        return phrase.words


def word(form: str, upos: str, lemma: str = "", feats: str = "_") -> Token:
    return Token(form, upos, lemma or form.lower(), feats)


def comma() -> Token:
    return word(",", "PUNCT")


class Grammar:
    """What the two domains share: drawing words, noun phrases, verbs. Earlier entries of a list are more frequent."""

    nouns: str
    adjectives: str
    adverbs: str

    def __init__(self, generator: random.Random) -> None:
        self.random = generator

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def pick(self, words: str) -> str:
        """Return one of the words, the k-th with a weight of 1/(k + 3): a few common, many rare."""
        options = words.split()
        return self.random.choices(options, [1 / (rank + 3) for rank in range(len(options))])[0]

    def noun(self, words: str, plural: bool = False) -> Token:
        """Return a noun; the list gives ``lemma`` or, where the plural is irregular, ``lemma/plural``."""
        lemma, _, irregular = self.pick(words).partition("/")
        ending = "es" if lemma.endswith(("s", "sh", "ch", "x", "to")) else "s"
        regular = lemma[:-1] + "ies" if lemma.endswith("y") and lemma[-2] not in "aeo" else lemma + ending
        form = (irregular or regular) if plural else lemma
        return word(form, "NOUN", lemma, "Number=Plur" if plural else "Number=Sing")

    def adjective_phrase(self) -> Phrase:
        return Phrase(word(self.pick(self.adjectives), "ADJ", feats="Degree=Pos"))

    def graded(self, adjectives: str) -> Phrase:
        phrase = Phrase(word(self.pick(adjectives), "ADJ", feats="Degree=Pos"))
        return phrase.before(word(self.pick("very too rather quite"), "ADV"), "advmod") if self.chance(0.3) else phrase

    def case(self, preposition: str, phrase: Phrase) -> Phrase:
        return phrase.before(word(preposition, "ADP"), "case")

    def conjoin(self, first: Phrase, second: Phrase, conjunction: str = "and") -> Phrase:
        return first.after(second.before(word(conjunction, "CCONJ"), "cc"), "conj")

    def determined(self, phrase: Phrase, form: str) -> Phrase:
        """Put an article or a possessive pronoun in front of a noun phrase."""
        if form in {"its", "their", "your", "my"}:
            return phrase.before(word(form, "PRON"), "nmod:poss")
        vowel = phrase.words[0].form[0] in "aeiou"
        return phrase.before(word("an" if form == "a" and vowel else form, "DET", form), "det")

    def negated(self, form: str, lemma: str) -> list[Token]:
        """Return ``did`` and ``n't``: two words that are one token."""
        first = word(form, "AUX", lemma)
        first.join = f"{form}n't"
        return [first, word("n't", "PART", "not", "Polarity=Neg")]


class News(Grammar):
    """Declarative sentences of a newspaper: subjects in front, past tense, reported speech, passives."""

    people = "minister president mayor company spokesman/spokesmen government analyst worker investor union court \
        party/parties bank committee official lawyer teacher farmer judge police reporter voter senator manager \
        council senate"
    things = "plan report market election law price tax decision budget deal agreement strike proposal crisis/crises \
        bridge hospital airport factory road school contract policy reform campaign debate statement investigation \
        program loan shipment harvest pipeline treaty currency merger verdict \
        sugar rice oil egg potato/potatoes milk apple"
    nouns = people + " " + things
    adjectives = "new national former public economic local foreign recent political large financial main important \
        federal regional private serious independent strong senior controversial global fresh \
        annual hot cold weak sweet soft"
    adverbs = "quickly recently finally openly again officially reportedly sharply clearly widely carefully soon"
    first_names = "Anna Peter Maria John Helen David Laura Martin Irene Victor Clara Paul"
    last_names = "Keller Brown Novak Rossi Olsen Meyer Laurent Santos Fischer Adams Kovac Lindgren Moreau Petrov"
    places = "Norland Berin Westport Callow Arden Tarsk Lorvale Medina Eastham Dunmore Sorrel"
    transitive = "announce/announced reject/rejected support/supported criticize/criticized approve/approved \
        sign/signed discuss/discussed close/closed open/opened delay/delayed present/presented cancel/cancelled \
        buy/bought defend/defended review/reviewed cut/cut use/used add/added make/made take/took win/won"
    intransitive = "resign/resigned fall/fell rise/rose meet/met begin/began collapse/collapsed arrive/arrived \
        end/ended continue/continued vote/voted protest/protested"
    reporting = "say/said announce/announced believe/believed report/reported claim/claimed warn/warned"
    control = "try/tried plan/planned want/wanted refuse/refused promise/promised hope/hoped"
    days = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"

    def noun_phrase(self, nouns: str, depth: int = 0) -> Phrase:
        kind = self.random.random()
        if kind < 0.15 and nouns is not self.things:
            phrase = Phrase(word(self.pick(self.first_names), "PROPN", feats="Number=Sing"))
            phrase.head.lemma = phrase.head.form
            last = self.pick(self.last_names)
            return phrase.after(word(last, "PROPN", last, "Number=Sing"), "flat")
        if kind < 0.25:
            phrase = Phrase(self.noun(nouns, plural=True))
            if self.chance(0.5):
                phrase.before(self.adjective_phrase(), "amod")
            numeral = self.pick("two three 2 several 10 ten 3 4 20 twenty 6 100 200 500") if self.chance(0.5) else ""
            if numeral:
                return phrase.before(word(numeral, "ADJ" if numeral == "several" else "NUM"), _numeral(numeral))
            return phrase
        plural = self.chance(0.3)
        phrase = Phrase(self.noun(nouns, plural))
        if self.chance(0.2):
            phrase.before(self.noun("trade city health energy budget labor state oil peace"), "compound")
        if self.chance(0.35):
            phrase.before(self.adjective_phrase(), "amod")
        if self.chance(0.12):
            owner = Phrase(self.noun(self.people))
            owner.before(word("the", "DET"), "det")
            owner.head.space = False
            phrase.before(owner.after(word("'s", "PART"), "case"), "nmod:poss")
        else:
            article = "the" if plural or self.chance(0.65) else "a"
            article = self.pick("some its their your my") if self.chance(0.15) else article
            self.determined(phrase, article)
        if depth == 0 and self.chance(0.22):
            phrase.after(self.prepositional(depth + 1), "nmod")
        if depth == 0 and self.chance(0.1):
            phrase.after(self.relative_clause(), "acl:relcl")
        return phrase

    def prepositional(self, depth: int) -> Phrase:
        if self.chance(0.4):
            name = self.pick(self.places)
            return self.case(self.pick("in of from near"), Phrase(word(name, "PROPN", name, "Number=Sing")))
        preposition = self.pick("of on about for with against into after in")
        return self.case(preposition, self.noun_phrase(self.things, depth))

    def relative_clause(self) -> Phrase:
        if self.chance(0.5):
            clause = self.past(self.transitive).after(self.noun_phrase(self.things, 1), "obj")
            return clause.before(word(self.pick("that which"), "PRON"), "nsubj")
        clause = self.past(self.transitive).before(self.noun_phrase(self.people, 1), "nsubj")
        return clause.before(word(self.pick("that which"), "PRON"), "obj")

    def past(self, verbs: str) -> Phrase:
        lemma, form = self.pick(verbs).split("/")
        return Phrase(word(form, "VERB", lemma, "Mood=Ind|Tense=Past|VerbForm=Fin"))

    def time(self) -> Phrase:
        if self.chance(0.5):
            day = self.pick(self.days)
            return self.case("on", Phrase(word(day, "PROPN", day, "Number=Sing")))
        if self.chance(0.25):
            unit = Phrase(word(self.pick("hours minutes years"), "NOUN", feats="Number=Plur"))
            unit.head.lemma = unit.head.form[:-1]
            return self.case("for", unit.before(word(self.pick("two 2 10 three 20"), "NUM"), "nummod"))
        unit = Phrase(word(self.pick("week month year"), "NOUN", feats="Number=Sing"))
        return unit.before(word("last", "ADJ"), "amod")

    def predicate(self, depth: int) -> tuple[Phrase, str]:
        """Return a predicate without its subject, and the relation that the subject will have."""
        kind = self.random.random()
        if kind < 0.34:
            thing = (
                Phrase(word(self.pick("it them"), "PRON"))
                if self.chance(0.15)
                else self.noun_phrase(self.things, depth)
            )
            phrase = self.verb(self.transitive).after(thing, "obj")
        elif kind < 0.5:
            phrase = self.verb(self.intransitive)
            if self.chance(0.4):
                phrase.after(word(self.pick(self.adverbs), "ADV"), "advmod")
        elif kind < 0.64:
            lemma, form = self.pick(self.transitive).split("/")
            phrase = Phrase(word(form, "VERB", lemma, "Tense=Past|VerbForm=Part|Voice=Pass"))
            if self.chance(0.3):
                phrase.before(word(self.pick(self.adverbs), "ADV"), "advmod")
            phrase.before(word("was", "AUX", "be"), "aux:pass")
            if self.chance(0.5):
                phrase.after(self.case("by", self.noun_phrase(self.people, 1)), "obl")
            return phrase, "nsubj:pass"
        elif kind < 0.76:
            phrase = self.graded(self.adjectives) if self.chance(0.6) else self.noun_phrase(self.things, 1)
            if self.chance(0.25):
                phrase.before(word("not", "PART", feats="Polarity=Neg"), "advmod")
            return phrase.before(word(self.pick("was is"), "AUX", "be"), "cop"), "nsubj"
        elif kind < 0.88:
            phrase = self.past(self.control)
            inner = Phrase(word(self.pick(self.transitive).split("/")[0], "VERB", feats="VerbForm=Inf"))
            inner.after(self.noun_phrase(self.things, 1), "obj").before(word("to", "PART"), "mark")
            phrase.after(inner, "xcomp")
        else:
            phrase = self.past(self.reporting)
            inner = self.clause(depth + 1)
            if self.chance(0.7):
                inner.before(word("that", "SCONJ"), "mark")
            phrase.after(inner, "ccomp")
        if self.chance(0.3):
            phrase.after(self.time(), "obl")
        elif self.chance(0.25):
            phrase.after(self.prepositional(1), "obl")
        return phrase, "nsubj"

    def verb(self, verbs: str) -> Phrase:
        lemma, form = self.pick(verbs).split("/")
        if self.chance(0.72):
            return Phrase(word(form, "VERB", lemma, "Mood=Ind|Tense=Past|VerbForm=Fin"))
        phrase = Phrase(word(lemma, "VERB", lemma, "VerbForm=Inf"))
        kind = self.random.random()
        if kind < 0.4:
            negation = self.negated("did", "do")
            return phrase.before(negation[1], "advmod").before(negation[0], "aux")
        if kind < 0.55:
            return phrase.before(word("not", "PART", feats="Polarity=Neg"), "advmod").before(_modal(self), "aux")
        return phrase.before(_modal(self), "aux")

    def clause(self, depth: int = 0) -> Phrase:
        if depth == 0 and self.chance(0.05):
            return self.extraposed()
        predicate, relation = self.predicate(depth)
        if self.chance(0.12):
            subject = Phrase(word(self.pick("he she they it we i you"), "PRON"))
        else:
            subject = self.noun_phrase(self.people if relation == "nsubj" else self.things, depth)
            if depth == 0 and self.chance(0.08):
                subject = self.conjoin(subject, self.noun_phrase(self.people, 1))
        if subject.head.feats == "Number=Plur" or subject.head.form in {"they", "we", "you"} or _conjoined(subject):
            for token in predicate.words:
                if token.head is predicate.head and token.deprel in {"cop", "aux:pass"}:
                    token.form = {"was": "were", "is": "are"}.get(token.form, token.form)
        return predicate.before(subject, relation)

    def extraposed(self) -> Phrase:
        """Return a clause whose subject's relative clause stands behind the verb: its arc crosses the verb's."""
        subject = self.determined(Phrase(self.noun(self.things)), "a")
        form, lemma = self.random.choice(["emerged emerge", "followed follow", "appeared appear"]).split()
        clause = Phrase(word(form, "VERB", lemma, "Mood=Ind|Tense=Past|VerbForm=Fin")).before(subject, "nsubj")
        if self.chance(0.6):
            clause.after(self.time(), "obl")
        relative = self.relative_clause()
        relative.head.head, relative.head.deprel = subject.head, "acl:relcl"
        clause.words = clause.words + relative.words
        return clause

    def sentence(self) -> Phrase:
        phrase = self.clause()
        if self.chance(0.14):
            adverbial = self.clause(1).before(
                word(self.pick("after because if although when while until once"), "SCONJ"), "mark"
            )
            if self.chance(0.4):
                phrase.before(adverbial.after(comma(), "punct"), "advcl")
            else:
                phrase.after(adverbial, "advcl")
        elif self.chance(0.12):
            second = self.clause(1).before(word(self.pick("and but"), "CCONJ"), "cc").before(comma(), "punct")
            phrase.after(second, "conj")
        elif self.chance(0.12):
            opening = self.case("in", Phrase(word(self.pick(self.places), "PROPN", feats="Number=Sing")))
            opening.head.lemma = opening.head.form
            phrase.before(comma(), "punct").before(opening, "obl")
        return _capitalised(phrase.after(word(".", "PUNCT"), "punct"))


class Kitchen(Grammar):
    """Recipes and chat about them: imperatives, quantities, fragments, questions, lower case."""

    pieces = "onion tomato/tomatoes egg potato/potatoes carrot lemon mushroom pepper apple walnut shrimp olive radish"
    masses = "butter flour sugar garlic cheese dough sauce rice salt cream milk oil pasta chocolate spinach yeast \
        cinnamon honey broccoli ginger vanilla chicken basil"
    tools = "pan bowl oven pot tray skillet fridge blender board dish jar"
    nouns = pieces + " " + masses + " " + tools
    adjectives = "fresh ripe small dried sweet raw frozen grated spicy leftover salted organic"
    sizes = "large hot small deep clean cold wide heavy"
    states = "golden soft thick tender smooth crispy warm hot fluffy brown done"
    adverbs = "finely well gently slowly thoroughly evenly lightly thinly together"
    actions = "chop/chopped add/added mix/mixed stir/stirred fry/fried slice/sliced bake/baked boil/boiled peel/peeled \
        heat/heated pour/poured grate/grated melt/melted roast/roasted whisk/whisked season/seasoned drain/drained \
        knead/kneaded simmer/simmered"
    units = "cup spoon/spoons gram slice pinch/pinches handful piece clove glass/glasses"
    names = "tom sara mum ben lisa jo max nina"

    def ingredient(self) -> Phrase:
        kind = self.random.random()
        if kind < 0.3:
            plural = self.chance(0.85)
            number = self.pick("2 3 half 100 4 200 500 a") if plural else "1"
            unit = Phrase(self.noun(self.units, plural and number not in {"a", "half"}))
            if number == "a":
                unit.before(word("a", "DET"), "det")
            else:
                unit.before(word(number, "NUM"), "nummod")
            return unit.after(self.case("of", Phrase(self.noun(self.masses))), "nmod")
        if kind < 0.42:
            phrase = Phrase(self.noun(self.pieces, plural=True))
            if self.chance(0.5):
                phrase.before(self.adjective_phrase(), "amod")
            return phrase.before(word(self.pick("2 3 4 6"), "NUM"), "nummod")
        if kind < 0.55:
            return Phrase(word(self.pick("it them everything this"), "PRON"))
        phrase = self.food()
        if self.chance(0.3):
            phrase.before(self.adjective_phrase(), "amod")
        if self.chance(0.75):
            self.determined(phrase, self.pick("the some your"))
        if self.chance(0.15):
            phrase = self.conjoin(phrase, self.food())
        return phrase

    def food(self) -> Phrase:
        return Phrase(self.noun(self.pieces, plural=True) if self.chance(0.5) else self.noun(self.masses))

    def the_food(self) -> Phrase:
        return self.determined(self.food(), self.pick("the your my"))

    def place(self) -> Phrase:
        phrase = Phrase(self.noun(self.tools))
        if self.chance(0.4):
            phrase.before(word(self.pick(self.sizes), "ADJ", feats="Degree=Pos"), "amod")
        self.determined(phrase, self.random.choice(["the", "a"]))
        return self.case(self.pick("in into with on"), phrase)

    def duration(self) -> Phrase:
        number = self.pick("5 10 20 two 30")
        unit = Phrase(word(self.pick("minutes hours"), "NOUN", feats="Number=Plur"))
        unit.head.lemma = unit.head.form[:-1]
        unit.before(word(number, "NUM"), "nummod")
        if self.chance(0.3):
            number_word = unit.words[0]
            about = word("about", "ADV")
            about.head, about.deprel = number_word, "advmod"
            unit.words = [about, *unit.words]
        return self.case("for", unit)

    def action(self) -> Phrase:
        return Phrase(word(self.pick(self.actions).split("/")[0], "VERB", feats="Mood=Imp|VerbForm=Fin"))

    def step(self) -> Phrase:
        """Return one imperative."""
        if self.chance(0.12):
            rest = Phrase(word(self.pick("rest cool rise cook simmer"), "VERB", feats="VerbForm=Inf"))
            thing = self.the_food()
            let = Phrase(word("let", "VERB", feats="Mood=Imp|VerbForm=Fin")).after(thing, "obj")
            return let.after(rest.after(self.duration(), "obl") if self.chance(0.6) else rest, "xcomp")
        phrase = self.action().after(self.ingredient(), "obj")
        if self.chance(0.3):
            phrase.after(word(self.pick(self.adverbs), "ADV"), "advmod")
        if self.chance(0.4):
            phrase.after(self.place(), "obl")
        elif self.chance(0.3):
            phrase.after(self.duration(), "obl")
        if self.chance(0.12):
            phrase.before(word(self.pick("then now carefully first"), "ADV"), "advmod")
        return phrase

    def condition(self) -> Phrase:
        subject = self.the_food()
        verb = "are" if subject.head.feats == "Number=Plur" else "is"
        state = self.graded(self.states).before(word(verb, "AUX", "be"), "cop").before(subject, "nsubj")
        return state.before(word(self.pick("if when once"), "SCONJ"), "mark")

    def recipe(self) -> Phrase:
        phrase = self.step()
        kind = self.random.random()
        if kind < 0.3:
            phrase = self.conjoin(phrase, self.step())
        elif kind < 0.45:
            until = self.graded(self.states).before(word("until", "SCONJ"), "mark")
            phrase.after(until, "advcl")
        elif kind < 0.6:
            phrase.before(self.condition().after(comma(), "punct"), "advcl")
        elif kind < 0.7:
            phrase.before(comma(), "punct").before(word(self.pick("meanwhile next finally"), "ADV"), "advmod")
        elif kind < 0.8:
            make = Phrase(word(self.pick("make prepare thicken"), "VERB", feats="VerbForm=Inf"))
            make.before(word("to", "PART"), "mark")
            thing = Phrase(self.noun("sauce dough filling batter cream")).before(word("the", "DET"), "det")
            phrase.before(make.after(thing, "obj").after(comma(), "punct"), "advcl")
        return _capitalised(phrase.after(word(".", "PUNCT"), "punct"))

    def item(self) -> Phrase:
        """Return a line of a list of ingredients: a noun phrase with participles behind it, and no full stop."""
        phrase = Phrase(self.noun(self.pieces, plural=True))
        phrase.before(self.adjective_phrase(), "amod").before(word(self.pick("2 3 4 6 8 10"), "NUM"), "nummod")
        participle, second = Phrase(self.participle()), Phrase(self.participle())
        if self.chance(0.5):
            participle.before(word(self.pick(self.adverbs), "ADV"), "advmod")
        if self.chance(0.7) and second.head.form != participle.head.form:
            participle = self.conjoin(participle, second)
        return phrase.after(participle.before(comma(), "punct"), "acl")

    def participle(self) -> Token:
        lemma, form = self.pick(self.actions).split("/")
        return word(form, "VERB", lemma, "Tense=Past|VerbForm=Part")

    def chat(self) -> Phrase:
        kind = self.random.random()
        if kind < 0.2:
            phrase = Phrase(word(self.pick("use add take try replace"), "VERB", feats="VerbForm=Inf"))
            phrase.after(self.food(), "obj")
            if self.chance(0.6):
                instead = self.case("instead", self.food())
                of = word("of", "ADP")
                of.head, of.deprel = instead.words[0], "fixed"
                instead.words.insert(1, of)
                phrase.after(instead, "obl")
            phrase.before(word(self.pick("i we you"), "PRON"), "nsubj").before(
                word(self.pick("can should could"), "AUX"), "aux"
            )
            mark = "?"
        elif kind < 0.34:
            phrase, mark = self.stranded(), "?"
        elif kind < 0.46:
            phrase = Phrase(word(self.pick("need take cook stay"), "VERB", feats="VerbForm=Inf"))
            eaten = self.the_food()
            auxiliary = word("do" if eaten.head.feats == "Number=Plur" else "does", "AUX", "do")
            phrase.before(eaten, "nsubj").before(auxiliary, "aux")
            long = Phrase(word("long", "ADV")).before(word("how", "ADV"), "advmod")
            phrase.before(long, "advmod")
            mark = "?"
        elif kind < 0.64:
            phrase = Phrase(word(self.pick("burn forget touch open skip"), "VERB", feats="VerbForm=Inf"))
            phrase.after(self.ingredient(), "obj")
            negation = self.negated("do", "do")
            phrase.before(negation[1], "advmod").before(negation[0], "aux")
            mark = "!"
        elif kind < 0.82:
            phrase = Phrase(word(self.pick("making trying cooking eating"), "VERB", feats="VerbForm=Ger"))
            phrase.head.lemma = {"making": "make", "trying": "try", "cooking": "cook", "eating": "eat"}[
                phrase.head.form
            ]
            phrase.after(self.ingredient(), "obj")
            if self.chance(0.6):
                phrase.after(word(self.pick("tonight tomorrow again now"), "ADV"), "advmod")
            speaker = word("i", "PRON")
            speaker.join = "i'm"
            phrase.before(word("'m", "AUX", "be"), "aux").before(speaker, "nsubj")
            mark = "!"
        else:
            phrase = Phrase(word(self.pick("good great awful salty perfect yummy"), "ADJ", feats="Degree=Pos"))
            phrase.before(word(self.pick("so really sooo too"), "ADV"), "advmod")
            subject = self.the_food()
            verb = "were" if subject.head.feats == "Number=Plur" else "was"
            phrase.before(word(verb, "AUX", "be"), "cop").before(subject, "nsubj")
            mark = "!"
        if self.chance(0.35):
            greeting = Phrase(word(self.pick("hey hi thanks oh wow"), "INTJ"))
            if self.chance(0.5):
                phrase.before(comma(), "punct")
                name = self.pick(self.names)
                phrase.before(word(name, "PROPN", name, "Number=Sing"), "vocative")
            else:
                phrase.before(comma(), "punct")
            phrase.before(greeting, "discourse")
        if self.chance(0.15):
            phrase.after(word(self.pick("lol haha please btw"), "INTJ"), "discourse")
        if self.chance(0.85):
            phrase.after(word(mark, "PUNCT"), "punct")
        return phrase

    def stranded(self) -> Phrase:
        """Return a question such as "what did you cut it with": the arc from "what" to "with" crosses the verb's."""
        phrase = Phrase(word(self.pick("cut serve fry cook mix eat"), "VERB", feats="VerbForm=Inf"))
        phrase.after(word(self.pick("it them this"), "PRON"), "obj")
        phrase.before(word(self.pick("you they we"), "PRON"), "nsubj").before(word("did", "AUX", "do"), "aux")
        what = Phrase(word("what", "PRON"))
        if self.chance(0.5):
            noun = Phrase(self.noun(self.tools))
            what = noun.before(word("which", "DET"), "det")
        phrase.before(what, "obl")
        preposition = word(self.pick("with in on"), "ADP")
        preposition.head, preposition.deprel = what.head, "case"
        phrase.words = [*phrase.words, preposition]
        return phrase

    def sentence(self) -> Phrase:
        kind = self.random.random()
        return self.recipe() if kind < 0.55 else self.item() if kind < 0.65 else self.chat()


def _numeral(numeral: str) -> str:
    return "amod" if numeral == "several" else "nummod"


def _conjoined(phrase: Phrase) -> bool:
    return any(token.deprel == "conj" and token.head is phrase.head for token in phrase.words)


def _modal(grammar: Grammar) -> Token:
    return word(grammar.pick("will would can could should may must"), "AUX")


def _capitalised(phrase: Phrase) -> Phrase:
    first = phrase.words[0]
    first.form = first.form[0].upper() + first.form[1:]
    return phrase


def to_sentence(words: list[Token], sent_id: str, labelled: bool) -> Sentence:
    """Return the words as a sentence: numbered, spaced, with its text, and with its tree if ``labelled``."""
    for left, right in pairwise(words):
        if right.upos == "PUNCT":
            left.space = False
    rows, surface = [], ""
    covered = 0
    for position, token in enumerate(words, start=1):
        if token.join:
            space = words[position].space
            rows.append([f"{position}-{position + 1}", token.join, *"_______", "_" if space else "SpaceAfter=No"])
            surface += token.join + " " * space
            covered = position + 1
        elif position > covered:
            surface += token.form + " " * token.space
        misc = "SpaceAfter=No" if not token.space and position > covered else "_"
        head = words.index(token.head) + 1 if token.head else 0
        tree = [str(head), token.deprel] if labelled else ["_", "_"]
        rows.append([str(position), token.form, token.lemma, token.upos, "_", token.feats, *tree, "_", misc])
    lines = [f"# sent_id = {sent_id}", f"# text = {surface.rstrip()}", *("\t".join(row) for row in rows)]
    heads = tuple(int(row[6]) if labelled else None for row in rows if row[0].isdigit())
    forms, upos = tuple(token.form for token in words), tuple(token.upos for token in words)
    deprels = tuple(row[7] for row in rows if row[0].isdigit())
    return Sentence("\n".join(lines) + "\n\n", "<grammar>", 1, forms, upos, heads, deprels)


def draw(grammar: News | Kitchen, name: str, count: int, labelled: bool, taken: set[tuple[str, ...]]) -> list[Sentence]:
    """Return ``count`` sentences, none of them in ``taken`` (lower-cased forms), which grows by them."""
    sentences: list[Sentence] = []
    while len(sentences) < count:
        words = grammar.sentence().words
        key = tuple(token.form.lower() for token in words)
        if not SHORTEST <= len(words) <= LONGEST or key in taken:
            continue
        taken.add(key)
        labelled_sentence = to_sentence(words, f"{name}-{len(sentences) + 1}", labelled=True)
        problem = tree_problem(labelled_sentence.heads)
        if problem:
            raise ValueError(f"{labelled_sentence.text}: {problem.what}")
        sentences.append(labelled_sentence if labelled else to_sentence(words, f"{name}-{len(sentences) + 1}", False))
    return sentences


def files(seed: int) -> Iterator[tuple[str, list[Sentence]]]:
    """Yield the name and the sentences of each file; no sentence is in two files."""
    taken: set[tuple[str, ...]] = set()
    grammars: list[tuple[Callable[[random.Random], News | Kitchen], str, list[tuple[str, int]]]] = [
        (News, "tiny-source", [("train", 250), ("dev", 50)]),
        (Kitchen, "tiny-target", [("test", 120), ("dev", 40), ("unlabeled", 250)]),
    ]
    for grammar, folder, parts in grammars:
        for part, count in parts:
            generator = random.Random(f"{seed} {folder} {part}")
            name = f"{folder}-{part}"
            yield f"{folder}/{part}.conllu", draw(grammar(generator), name, count, part != "unlabeled", taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "data")
    options = parser.parse_args()
    for name, sentences in files(options.seed):
        path = options.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_treebank(path, sentences)
        print(f"{path}: {len(sentences)} sentences, {sum(map(len, sentences))} words")


if __name__ == "__main__":
    main()
