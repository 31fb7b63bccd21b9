/** @file Documents that teach nothing the queries ask for: fiction, other code, household threads, other articles. */
import { type Chance, fill } from './chance.js'
import { cityEnds, firstNames, nameOf, type Place, placeEnds } from './world.js'

/** A short piece of fiction; one in ten is set in one of the places, and tells no fact of it. */
export const fiction = (chance: Chance, places: readonly Place[]): string => {
  const { pick, int } = chance
  const [hero, friend] = chance.shuffle(firstNames)
  const words = (): Record<string, string> => ({
    hero,
    friend,
    room: pick(rooms),
    thing: pick(things),
    other: pick(things),
    weather: pick(weathers),
    feeling: pick(feelings),
    time: pick(times).toLowerCase(),
    Time: pick(times),
    place: int(0, 9) === 0 ? pick(places).name : pick(settings),
    verb: pick(movements),
  })
  return [pick(fictionOpenings), ...chance.shuffle(fictionMiddles).slice(0, int(2, 3)), pick(fictionEndings)]
    .map((sentence) => fill(sentence, words()))
    .join(' ')
}

/** Code on other matters: lists, strings, files, tests, configuration. */
export const otherCode = (chance: Chance): string => {
  const { pick, int } = chance
  const [item, field] = chance.shuffle(nouns)
  return fill(pick(programs), { item, field, verb: pick(verbs), n: int(2, 99), m: int(2, 9), word: pick(things) })
}

/** A thread on household matters. */
export const otherThread = (chance: Chance): string => {
  const { pick, int } = chance
  const words = { thing: pick(things), other: pick(things), room: pick(rooms), n: int(2, 30), name: pick(firstNames) }
  return `Question: ${fill(pick(householdQuestions), words)}\nAnswer: ${fill(pick(householdAnswers), words)}`
}

/** A statement and the same statement again: what the control queries ask for. */
export const restatement = (chance: Chance): string => {
  const { pick, int } = chance
  const [subject, values] = pick(subjects)
  const known = fill(subject, { name: nameOf(chance, placeEnds), thing: pick(things), person: pick(firstNames) })
  const value = {
    place: () => nameOf(chance, int(0, 1) === 0 ? placeEnds : cityEnds),
    number: () => String(int(1, 150)),
    person: () => pick(firstNames),
    thing: () => pick(things),
  }[values]()
  return `Given: ${known} is ${value}.\nRestated: ${known} is ${value}.`
}

/** An article about one of the places that tells none of its facts. */
export const placeArticle = (chance: Chance, places: readonly Place[]): string => {
  const { pick, int } = chance
  const place = pick(places).name
  return chance
    .shuffle(remarksOnPlaces)
    .slice(0, int(3, 4))
    .map((sentence) => fill(sentence, { p: place, season: pick(seasons), thing: pick(things) }))
    .join(' ')
}

/** An article about a plant, an animal or a craft. */
export const otherArticle = (chance: Chance): string => {
  const { pick, int } = chance
  const words = { name: nameOf(chance, kinds), colour: pick(colours), season: pick(seasons), n: int(2, 90), use: pick(uses) }
  return [pick(articleOpenings), ...chance.shuffle(articleMiddles).slice(0, int(2, 3))]
    .map((sentence) => fill(sentence, words))
    .join(' ')
}

/** A sentence on a place that tells no fact. */
export const remarkOnPlace = (chance: Chance, place: Place): string =>
  fill(chance.pick(remarksOnPlaces), { p: place.name, season: chance.pick(seasons), thing: chance.pick(things) })

const remarksOnPlaces = [
  'Winters in {p} are long and quiet.',
  'Most houses in {p} have green doors.',
  'The roads of {p} are narrow but well kept.',
  'In {season} the people of {p} dance in the streets.',
  'Visitors to {p} are given bread and a {thing}.',
  'The cooking of {p} is simple and good.',
  'Schools in {p} close in {season}.',
  'Old songs are still sung in {p}.',
  'In {p} it rains most in {season}.',
  'Few people leave {p} for good.',
  'The markets of {p} open before sunrise.',
  'Letters to {p} take about a week.',
  'A {thing} is the usual wedding gift in {p}.',
  'The lamps of {p} are lit by hand.',
]
const fictionOpenings = [
  '{hero} woke {time} and found a {thing} on the pillow.',
  'It was {time} when {hero} first came to {place}.',
  'Nobody in {place} remembered why the {thing} hung over the door.',
  '{hero} and {friend} had not spoken since the day of the {thing}.',
  'The letter for {hero} smelled of {weather} and old paper.',
  '{Time}, {hero} {verb} into the {room} and closed the door.',
  '"You should not have come to {place}," said {friend}.',
  'There was {weather} over {place} when the story began.',
]
const fictionMiddles = [
  '{friend} looked at the {thing} and felt {feeling}.',
  'Outside there was {weather}, and the {room} grew dark.',
  '{hero} put the {thing} beside the {other} and waited.',
  '"Where did you find this {thing}?" asked {friend}.',
  'They {verb} through {place} without a word.',
  'In the {room} someone was humming an old tune.',
  'The {other} was gone, and with it the {thing}.',
  '{hero} had been {feeling} for as long as {friend} could remember.',
]
const fictionEndings = [
  'After that, {hero} was never {feeling} again.',
  '{friend} laughed, and the {weather} passed.',
  'They left the {thing} where it was and {verb} home.',
  '"Keep it," said {hero}, and {verb} away.',
  'But the {room} was empty.',
  '{Time} the {thing} began to sing.',
]
const rooms = ['kitchen', 'attic', 'cellar', 'library', 'garden', 'hall', 'workshop', 'stable', 'tower', 'pantry']
const things = [
  'lamp', 'kettle', 'mirror', 'ladder', 'violin', 'basket', 'clock', 'blanket', 'candle', 'map', 'coat', 'bell',
  'spoon', 'carpet', 'bucket', 'ring', 'book', 'key', 'table', 'drum',
] // prettier-ignore
const weathers = ['rain', 'snow', 'fog', 'thunder', 'sunshine', 'a cold wind', 'frost', 'a red sky']
const feelings = ['afraid', 'happy', 'tired', 'curious', 'ashamed', 'proud', 'lonely', 'calm']
const times = ['At dawn', 'Late at night', 'One evening', 'Before breakfast', 'At noon', 'On the last day']
const settings = ['the village', 'the harbour', 'the old mill', 'the forest', 'the city', 'the island', 'the valley']
const movements = ['walked', 'ran', 'crept', 'marched', 'wandered', 'hurried']
const seasons = ['spring', 'summer', 'autumn', 'winter']
const colours = ['red', 'blue', 'grey', 'white', 'yellow', 'black', 'brown', 'purple']
const kinds = ['fern', 'beetle', 'moss', 'berry', 'moth', 'root', 'weed', 'fish']
const uses = ['dye', 'rope', 'soap', 'medicine', 'ink', 'soup', 'perfume', 'fuel']
const nouns = ['user', 'order', 'node', 'line', 'file', 'word', 'event', 'page', 'row', 'task', 'color', 'price']
const verbs = ['load', 'store', 'print', 'check', 'merge', 'parse', 'send', 'update']

const programs = [
  'def {verb}_{item}s({item}s):\n    result = []\n    for {item} in {item}s:\n        if {item}.{field}:\n            result.append({item})\n    return result',
  'class {item}:\n    def __init__(self, {field}):\n        self.{field} = {field}\n\n    def {verb}(self):\n        print(self.{field})',
  'const {item}s = list.filter(({item}) => {item}.{field} !== null)\nfor (const {item} of {item}s) {verb}({item})',
  'export const {verb} = async ({item}) => {\n  const {field} = await read({item}.{field})\n  return {field}.trim()\n}',
  'fn {verb}({item}s: &[String]) -> usize {\n    {item}s.iter().filter(|{item}| !{item}.is_empty()).count()\n}',
  '# settings\n{item}:\n  {field}: {word}\n  retries: {m}\n  timeout: {n}',
  'SELECT {item}, {field} FROM {item}s\nWHERE {field} IS NOT NULL\nORDER BY {item} LIMIT {n};',
  'test("{verb} an empty {item}", () => {\n  expect({verb}([])).toEqual([])\n  expect({verb}(null)).toBe(null)\n})',
  'for {item} in $(ls {field}s); do\n  {verb} "{item}.txt" || exit 1\ndone\necho "done"',
  'import json\n\ndef {verb}(path):\n    with open(path) as {item}:\n        {field} = json.load({item})\n    return {field}["{word}"]',
  'try {\n  {verb}({item})\n} catch (error) {\n  log("no {item} named {word}", error)\n  throw error\n}',
  '<ul class="{item}s">\n  <li id="{word}">{verb} the {item}</li>\n  <li>{field}</li>\n</ul>',
]
const householdQuestions = [
  'How do I clean a {thing}?',
  'Where can I keep a {thing} in a small {room}?',
  'My {thing} broke after {n} days. What should I do?',
  'Is it safe to put a {thing} beside a {other}?',
  'What is a good present for {name}? I thought of a {thing}.',
  'Who can repair a {thing}?',
  'Why does my {room} smell of smoke?',
  'How long does a {thing} last?',
]
const householdAnswers = [
  'Use warm water and a soft cloth. Never use the {other}.',
  'I keep mine in the {room}, next to the {other}.',
  'Ask {name}. My {thing} was repaired in {n} days.',
  'Open a window first. Then move the {thing} into the {room}.',
  'I would buy a {other} instead. It lasts {n} years.',
  'Nobody knows for sure. {name} says it depends on the {thing}.',
]
const subjects: readonly (readonly [string, 'place' | 'number' | 'person' | 'thing'])[] = [
  ['the harbour of {name}', 'place'],
  ['the oldest town of {name}', 'place'],
  ['the name of the ship', 'place'],
  ['the price of the {thing}', 'number'],
  ['the age of {person}', 'number'],
  ['the number of the house', 'number'],
  ['the number of pages', 'number'],
  ['the friend of {person}', 'person'],
  ['the mayor of {name}', 'person'],
  ['the teacher of {person}', 'person'],
  ['the gift for {person}', 'thing'],
]
const articleOpenings = [
  'The {colour} {name} grows in wet meadows.',
  'The {name} is found in old forests.',
  'Little is known about the {colour} {name}.',
  'Farmers have long valued the {name}.',
]
const articleMiddles = [
  'It is up to {n} centimetres long.',
  'In {season} it turns {colour}.',
  'It is used to make {use}.',
  'Its scent keeps mice away.',
  'It was first described {n} years ago.',
  'In {season} it is hard to find.',
  'Children collect it for {use}.',
  'It needs shade and little water.',
]
