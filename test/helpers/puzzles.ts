/** The task of the tiny model: x1 ? x2 ? x3 = t over the integers modulo 13, operators + - * and M (max), left to right. */
const P = 13;
const NAMES = ['+', '-', '*', 'M'];

function apply(op: number, a: number, b: number): number {
  switch (op) {
    case 0:
      return (a + b) % P;
    case 1:
      return (a - b + P) % P;
    case 2:
      return (a * b) % P;
    default:
      return Math.max(a, b);
  }
}

export interface Puzzle {
  /** What follows `Q ` and precedes ` <think>` in a prompt. */
  question: string;
  /** The only pair of operators that works. */
  answer: string;
}

/** All puzzles with one solution whose operands the model never saw in training: one in eight triples, by a hash. */
export function heldOutPuzzles(): Puzzle[] {
  const out: Puzzle[] = [];
  for (let a = 1; a < P; a++) {
    for (let b = 1; b < P; b++) {
      for (let c = 1; c < P; c++) {
        if (((a * 7919 + b * 104729 + c * 1299709) % 1000003) % 8 !== 0) continue;
        const solutions = new Map<number, string[]>();
        for (let o = 0; o < 4; o++) {
          for (let q = 0; q < 4; q++) {
            const t = apply(q, apply(o, a, b), c);
            solutions.set(t, [...(solutions.get(t) ?? []), `${NAMES[o]} ${NAMES[q]}`]);
          }
        }
        for (const [t, answers] of solutions)
          if (answers.length === 1) out.push({ question: `${a} ${b} ${c} -> ${t}`, answer: answers[0]! });
      }
    }
  }
  return out;
}
