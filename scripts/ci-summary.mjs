// Adds up the JSON reports of vitest and prints the line that a CI reads: `eyrie: 812 passed, 0 failed, 14 skipped`. A step
// that failed counts (FAILED_STEPS), also when no test of it did.
import { readFileSync } from 'node:fs';

let passed = 0;
let failed = 0;
let skipped = 0;
for (const path of process.argv.slice(2)) {
  const report = JSON.parse(readFileSync(path, 'utf8'));
  passed += report.numPassedTests;
  failed += report.numFailedTests;
  skipped += report.numPendingTests + report.numTodoTests;
  // A file that does not load has no failed test, but has failed.
  failed += report.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.length === 0,
  ).length;
}
failed = Math.max(failed, Number(process.env.FAILED_STEPS ?? 0));
console.log(`eyrie: ${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exitCode = failed || !passed ? 1 : 0;
