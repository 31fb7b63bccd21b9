/**
 * @file What Ruis et al. 2024 (arXiv 2411.12580) report, to stand beside a run's own figures; never what a run should come
 * to. Command R 7B and 35B, 5 million documents of 512 tokens, 40 factual, 40 reasoning and 20 control queries.
 */
export const paper = {
  citation: 'Ruis et al. 2024, arXiv 2411.12580 (Command R 7B and 35B, 5 million documents)',
  correlation: [
    'arithmetic with arithmetic 0.30 (7B); slopes 0.28 (7B), 0.54 (35B); linear equations 0.16 (35B)',
    'factual with factual 0.06 (7B), 0.03 (35B); reasoning with factual 0.03 to 0.08; controls 0.05 to 0.09',
    'no correlation between different reasoning tasks; within tasks p < 4e-8; highest pair 0.96, two arithmetic queries of nearly the same numbers',
  ],
  magnitude: [
    'sum of positive influence per nat: factual 0.039 (7B), 0.071 (35B); reasoning 0.019, 0.032, in a narrower band',
    'the first 1 % of the positive documents hold 7 to 10 % of the sum (Grosse et al.: 12 to 52 %)',
  ],
  powerLaw: ['slopes of −0.32 to −0.38 over the first 500; steeper for reasoning in 35B (p < 0.05, queries answered right)'],
  answers: [
    'in the first 500 of 5 million (0.01 %): 55 % (7B) and 30 % (35B) of the factual queries answered right',
    'reasoning 7.4 % (2 of 27) and 0 %, though answers of steps stand in the corpus for 13 of 20 arithmetic queries',
  ],
  procedure: ['in the first 100, documents that give the slope formula as code or mathematics reach 16 of 20 (7B) and 20 of 20 (35B) slope queries'],
  sources: [
    'multipliers at k = 50 / 500 / 5k / 50k, reasoning, 7B: maths and trivia 48/29/12/4.3, StackExchange 23/29/22/8.7, arXiv 1.9/2.4/4.6/3.7, code 0.9/1.7/2.5/2.5, wiki 0.1/0.1/0.2/0.6',
    'factual, 7B: maths and trivia 24/11/3.2/1.2, wiki 5.5/5.5/4.9/3.0, code 0.2/0.3/0.4/0.7; the bottom looks nearly the same',
  ],
} as const
