/**
 * @file The three procedures that the demo's lessons teach, as problems with numbers, and the texts on them.
 * A fixed seventh of all number tuples of a task is held out: documents draw from the others, queries from these.
 */
import { seedOf } from '../src/base/random.js'
import { type Chance, fill } from './chance.js'

export type Task = 'slope' | 'arithmetic' | 'linear'

export const tasks: readonly Task[] = ['slope', 'arithmetic', 'linear']

export interface Problem {
  readonly task: Task
  /** slope: x1, y1, x2, y2; arithmetic: a, b, c of (a + b) * c; linear: a, b, c of ax + b = c, b of either sign. */
  readonly numbers: readonly number[]
  /** The problem as a formula: the words around it vary. */
  readonly formula: string
  /** The calculations of the solution, in order, each as it stands in a worked solution: "17 - 5 = 12". */
  readonly steps: readonly string[]
  readonly answer: number
  /** Words for the templates. */
  readonly words: Readonly<Record<string, string | number>>
}

/** Whether the problem is kept out of the corpus. Depends on the numbers alone, not on the seed. */
export const isHeldOut = (problem: Problem): boolean =>
  seedOf(`${problem.task} ${problem.numbers.join(' ')}`) % 7 === 0

/** A problem of the task, held out or not as asked. */
export const drawProblem = (task: Task, chance: Chance, { heldOut }: { heldOut: boolean }): Problem => {
  for (;;) {
    const problem = draw[task](chance)
    if (isHeldOut(problem) === heldOut) return problem
  }
}

const draw: Readonly<Record<Task, (chance: Chance) => Problem>> = {
  slope: ({ int }) => slopeProblem(int(1, 9), int(1, 12), int(1, 6), int(1, 6)),
  arithmetic: ({ int }) => arithmeticProblem(int(1, 14), int(1, 14), int(2, 9)),
  linear: ({ int }) => linearProblem(int(2, 9), int(1, 12) * (int(0, 1) === 0 ? 1 : -1), int(1, 9)),
}

const slopeProblem = (x1: number, y1: number, run: number, slope: number): Problem => {
  const [x2, y2, rise] = [x1 + run, y1 + run * slope, run * slope]
  return {
    task: 'slope',
    numbers: [x1, y1, x2, y2],
    formula: `(${x1}, ${y1}) and (${x2}, ${y2})`,
    steps: [`${y2} - ${y1} = ${rise}`, `${x2} - ${x1} = ${run}`, `${rise} / ${run} = ${slope}`],
    answer: slope,
    words: { x1, y1, x2, y2, rise, run, slope },
  }
}

const arithmeticProblem = (a: number, b: number, c: number): Problem => ({
  task: 'arithmetic',
  numbers: [a, b, c],
  formula: `(${a} + ${b}) * ${c}`,
  steps: [`${a} + ${b} = ${a + b}`, `${a + b} * ${c} = ${(a + b) * c}`],
  answer: (a + b) * c,
  words: { a, b, c, sum: a + b, product: (a + b) * c },
})

/** ax + b = c with b of either sign; where c would be negative, b is added instead. */
const linearProblem = (a: number, b: number, x: number): Problem => {
  const c = a * x + b
  if (c < 0) return linearProblem(a, -b, x)
  const [sign, undo, size] = b > 0 ? ['+', '-', b] : ['-', '+', -b]
  return {
    task: 'linear',
    numbers: [a, b, c],
    formula: `${a}x ${sign} ${size} = ${c}`,
    steps: [`${c} ${undo} ${size} = ${a * x}`, `${a * x} / ${a} = ${x}`],
    answer: x,
    words: { a, b: size, c, x, sign, undo, term: a * x, Undo: b > 0 ? 'Subtract' : 'Add' },
  }
}

/** A problem in words: {f} is its formula. The first three are those of the queries. */
const statements: Readonly<Record<Task, readonly string[]>> = {
  slope: [
    'Find the slope of the line through {f}.',
    'What is the slope of the line through {f}?',
    'A line passes through {f}. What is its slope?',
    'How steep is the line from ({x1}, {y1}) to ({x2}, {y2})?',
    'A path climbs from ({x1}, {y1}) to ({x2}, {y2}). Find its slope.',
  ],
  arithmetic: [
    'Compute {f}.',
    'What is {f}?',
    'Work out {f} step by step.',
    'A shop has {a} red boxes and {b} blue boxes with {c} pens each. How many pens is that?',
    'Add {a} and {b}, then multiply by {c}. What comes out?',
  ],
  linear: [
    'Solve {f}.',
    'Find x if {f}.',
    'What is x when {f}?',
    'Solve the equation {f} for x.',
    'For which x is {f}?',
  ],
}

/** The worked solution: the same steps in the same words everywhere, so that they can be learned. */
const solutions: Readonly<Record<Task, string>> = {
  slope: 'The rise is {y2} - {y1} = {rise}. The run is {x2} - {x1} = {run}. The slope is {rise} / {run} = {slope}.',
  arithmetic: 'First add: {a} + {b} = {sum}. Then multiply: {sum} * {c} = {product}.',
  linear: '{Undo} {b}: {a}x = {c} {undo} {b} = {term}. Divide by {a}: x = {term} / {a} = {x}.',
}

export const statementsOfQueries = 3

/** The problem in words; `wording` counts the statements. */
export const state = (problem: Problem, wording: number): string =>
  fill(statements[problem.task][wording], { f: problem.formula, ...problem.words })

export const solve = (problem: Problem): string => fill(solutions[problem.task], problem.words)

/** A lesson: a problem with its worked solution, and now and then a closing remark. */
export const lesson = (problem: Problem, chance: Chance): string => {
  const text = `Problem: ${state(problem, chance.int(0, statements[problem.task].length - 1))}\nSolution: ${solve(problem)}`
  return chance.int(0, 3) === 0 ? `${text}\n${chance.pick(remarks[problem.task])}` : text
}

const remarks: Readonly<Record<Task, readonly string[]>> = {
  slope: [
    'The slope is the rise divided by the run.',
    'Always take the two differences in the same order.',
    'A larger slope means a steeper line.',
  ],
  arithmetic: [
    'What stands in brackets is computed first.',
    'The order of the steps matters.',
    'Brackets come before multiplication.',
  ],
  linear: [
    'What is done to one side is done to the other.',
    'First move the number, then divide.',
    'Put x back into the equation to check it.',
  ],
}

/** A question-and-answer thread on a problem. */
export const thread = (problem: Problem, chance: Chance): string => {
  const question = state(problem, chance.int(0, statements[problem.task].length - 1))
  return `Question: ${chance.pick(openings)}${question}\nAnswer: ${solve(problem)}${chance.pick(closings)}`
}

const openings = ['', '', '', 'My homework says: ', 'I am stuck here. ', 'Can someone help? ']
const closings = ['', '', '', ' I hope that helps.', ' Try the next one yourself.']

/** Code that carries out the procedure, in one of three languages, with the problem as its example. */
export const code = (problem: Problem, chance: Chance): string =>
  fill(chance.pick(programs[problem.task]), {
    ...problem.words,
    ...(problem.task === 'linear' ? { shift: problem.numbers[1] } : {}),
  })

const programs: Readonly<Record<Task, readonly string[]>> = {
  slope: [
    'def slope(x1, y1, x2, y2):\n    rise = y2 - y1\n    run = x2 - x1\n    return rise / run\n\n' +
      '# rise {rise}, run {run}\nassert slope({x1}, {y1}, {x2}, {y2}) == {slope}',
    'function slope([x1, y1], [x2, y2]) {\n  return (y2 - y1) / (x2 - x1)\n}\n' +
      'slope([{x1}, {y1}], [{x2}, {y2}]) // {rise} / {run} = {slope}',
    'fn slope(p: (i32, i32), q: (i32, i32)) -> i32 {\n    (q.1 - p.1) / (q.0 - p.0)\n}\n' +
      '// slope(({x1}, {y1}), ({x2}, {y2})) is {rise} / {run} = {slope}',
  ],
  arithmetic: [
    'def evaluate(a, b, c):\n    total = a + b\n    return total * c\n\n# total {sum}\nassert evaluate({a}, {b}, {c}) == {product}',
    'const evaluate = (a, b, c) => (a + b) * c\nevaluate({a}, {b}, {c}) // {sum} * {c} = {product}',
    'fn evaluate(a: i32, b: i32, c: i32) -> i32 {\n    let sum = a + b;\n    sum * c\n}\n' +
      '// evaluate({a}, {b}, {c}) is {sum} * {c} = {product}',
  ],
  linear: [
    'def solve(a, b, c):\n    # a * x + b = c\n    return (c - b) / a\n\n# {c} {undo} {b} = {term}\nassert solve({a}, {shift}, {c}) == {x}',
    'const solve = (a, b, c) => (c - b) / a // ax + b = c\nsolve({a}, {shift}, {c}) // {term} / {a} = {x}',
    'fn solve(a: i32, b: i32, c: i32) -> i32 {\n    let term = c - b;\n    term / a\n}\n' +
      '// solve({a}, {shift}, {c}) is {term} / {a} = {x}',
  ],
}
