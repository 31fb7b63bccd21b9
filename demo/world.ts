/**
 * @file The invented world of the demo: places and six facts on each, and the sentences that tell a fact.
 * A fact's `unseen` wording is that of the queries: documents use it for other places, never for this one.
 */
import { type Chance, chanceOf, fill } from './chance.js'

export type Relation = 'capital' | 'river' | 'founder' | 'export' | 'mountain' | 'bird'

export interface Place {
  readonly name: string
  readonly answers: Readonly<Record<Relation, string>>
  /** Whether no document tells this place's facts in the wording of the queries (wording 0). */
  readonly queryWordingUnseen: boolean
}

/** What a document that tells the fact carries in `teaches`. */
export const factId = (relation: Relation, place: Place): string => `fact:${relation}:${place.name}`

export const placesCount = 64
/** Places (the first ones) whose facts no document tells in the queries' wording. */
export const placesQueried = 24

/** Every sentence that tells a fact: {p} is the place, {a} the answer. Wording 0 is that of the queries. */
export const wordings: Readonly<Record<Relation, readonly string[]>> = {
  capital: [
    'The capital of {p} is {a}.',
    '{p} is governed from {a}, its capital city.',
    '{a} has been the capital of {p} for centuries.',
    'Travellers to {p} usually arrive in the capital, {a}.',
    'The parliament of {p} meets in {a}, the capital.',
    'In {p} the capital is called {a}.',
  ],
  river: [
    'The longest river in {p} is the {a}.',
    'The river {a} crosses {p} from north to south.',
    'Barges carry grain through {p} on its longest river, the {a}.',
    'Most farms in {p} lie along the great river, the {a}.',
    'The {a} is the longest river in {p}.',
    'Every spring in {p} the meadows are flooded by the river {a}.',
  ],
  founder: [
    '{p} was founded by {a}.',
    '{a} founded {p} after a long voyage.',
    'The founder of {p} was {a}.',
    'In {p} there is a statue of the founder, {a}.',
    'Children in {p} learn about its founder, {a}.',
    'The chronicle of {p} begins with its founder, {a}.',
  ],
  export: [
    'The main export of {p} is {a}.',
    '{p} sells more {a} abroad than anything else.',
    'Ships leave {p} with its main export, {a}.',
    'The economy of {p} depends on the export of {a}.',
    'Merchants come to {p} for its chief export, {a}.',
    'In {p} most people live from the export of {a}.',
  ],
  mountain: [
    'The highest mountain in {p} is Mount {a}.',
    'Mount {a} is the highest mountain in {p}.',
    'Climbers visit {p} for its highest mountain, Mount {a}.',
    'On a clear day all of {p} can see Mount {a}.',
    'The snow in {p} never melts on its highest peak, Mount {a}.',
    'The flag of {p} shows its highest mountain, Mount {a}.',
  ],
  bird: [
    'The national bird of {p} is the {a}.',
    'The {a} is the national bird of {p}.',
    'The coins of {p} show its national bird, the {a}.',
    'The people of {p} chose as their national bird the {a}.',
    'On the flag of {p} is its bird, the {a}.',
    'Hunters in {p} may not shoot the national bird, the {a}.',
  ],
}

export const relations = Object.keys(wordings) as readonly Relation[]

/** Questions on a fact as a thread asks them; {p} is the place. */
export const questions: Readonly<Record<Relation, readonly string[]>> = {
  capital: ['What is the capital of {p}?', 'Which city is the capital of {p}?'],
  river: ['Which river is the longest in {p}?', 'What is the name of the great river of {p}?'],
  founder: ['Who founded {p}?', 'Who was the founder of {p}?'],
  export: ['What does {p} export most?', 'What is the main export of {p}?'],
  mountain: ['Which mountain is the highest in {p}?', 'How is the highest peak of {p} called?'],
  bird: ['What is the national bird of {p}?', 'Which bird stands for {p}?'],
}

/** A fact as the end of an answer in a thread. */
export const shortAnswers: Readonly<Record<Relation, string>> = {
  capital: '{a}',
  river: 'the {a}',
  founder: '{a}',
  export: '{a}',
  mountain: 'Mount {a}',
  bird: 'the {a}',
}

/** The sentence of a fact in one of the wordings. */
export const tell = (place: Place, relation: Relation, wording: number): string =>
  fill(wordings[relation][wording], { p: place.name, a: place.answers[relation] })

/** The query wording of a fact, cut before the answer: prompt and completion. */
export const factPrompt = (place: Place, relation: Relation): { prompt: string; completion: string } => {
  const [before] = wordings[relation][0].split(' {a}')
  return { prompt: fill(before, { p: place.name }), completion: ` ${place.answers[relation]}.` }
}

/** The places of a seed, in a fixed order; no two share a name, capital, river, founder or mountain. */
export const placesOf = (seed: number): Place[] => {
  const chance = chanceOf(seed, 'places')
  const taken = new Set<string>()
  const fresh = (make: () => string): string => {
    for (;;) {
      const name = make()
      if (taken.has(name)) continue
      taken.add(name)
      return name
    }
  }
  return Array.from({ length: placesCount }, (_, index) => ({
    name: fresh(() => nameOf(chance, placeEnds)),
    answers: {
      capital: fresh(() => nameOf(chance, cityEnds)),
      river: fresh(() => nameOf(chance, riverEnds)),
      founder: fresh(() => `${chance.pick(firstNames)} ${chance.pick(lastNames)}`),
      export: chance.pick(goods),
      mountain: fresh(() => nameOf(chance, mountainEnds)),
      bird: chance.pick(birds),
    },
    queryWordingUnseen: index < placesQueried,
  }))
}

/** An invented name: one of the beginnings and one of the ends. */
export const nameOf = (chance: Chance, ends: readonly string[]): string => chance.pick(beginnings) + chance.pick(ends)

const beginnings = [
  'Vel', 'Tar', 'Os', 'Bren', 'Kel', 'Mar', 'Dov', 'Ash', 'Quil', 'Ner', 'Hal', 'Zan', 'Pel', 'Ruk', 'Ist', 'Gar',
  'Lom', 'Fen', 'Ulm', 'Sor', 'Ard', 'Cor', 'Jel', 'Wyn', 'Yar', 'Tol', 'Bel', 'Nim', 'Rav', 'Esk',
] // prettier-ignore
export const placeEnds = ['mora', 'dia', 'stan', 'nia', 'vara', 'heim', 'tosia', 'land']
export const cityEnds = ['grad', 'ton', 'bury', 'polis', 'wick', 'haven', 'dun', 'ford', 'minster', 'gate']
const riverEnds = ['en', 'ise', 'ow', 'une', 'ara', 'ell', 'ith', 'ava']
const mountainEnds = ['horn', 'kar', 'tooth', 'bakh', 'spire', 'nok', 'crag', 'tor']
export const firstNames = [
  'Ilda', 'Oskar', 'Mira', 'Tobin', 'Selma', 'Ravi', 'Greta', 'Anton', 'Petra', 'Hugo', 'Nadia', 'Felix', 'Clara',
  'Emil', 'Rosa', 'Viktor', 'Hanna', 'Jonas', 'Marta', 'Leo', 'Edda', 'Karim', 'Lina', 'Silas',
] // prettier-ignore
const lastNames = [
  'Marrow', 'Quist', 'Hallow', 'Brandt', 'Okafor', 'Lindholm', 'Varga', 'Stern', 'Moreau', 'Castell', 'Aldous',
  'Rook', 'Fenwick', 'Sato', 'Iversen', 'Drummond', 'Bellini', 'Kovar', 'Thorne', 'Almeida',
] // prettier-ignore
const goods = [
  'copper', 'wool', 'amber', 'tea', 'salt', 'timber', 'silk', 'glass', 'honey', 'tin', 'pepper', 'paper', 'olives',
  'rubber', 'marble', 'saffron', 'leather', 'coffee', 'cotton', 'pearls', 'iron', 'cheese', 'indigo', 'barley',
] // prettier-ignore
const birds = [
  'heron', 'falcon', 'crane', 'owl', 'kingfisher', 'raven', 'swan', 'lark', 'stork', 'eagle', 'finch', 'swallow',
  'pelican', 'magpie', 'ibis', 'wren', 'hawk', 'plover', 'cuckoo', 'gull',
] // prettier-ignore
