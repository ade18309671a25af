// Runs a trial of bench/trial.mjs in a fresh process.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root } from './report.mjs';

// Libraries whose threads spin while they wait take seconds for a token when other programs want the cores.
const TRIAL_TIMEOUT = 300_000;

// Not counted for either side: with NODE_EXTRA_CA_CERTS Node parses all its certificates when it starts (1.5 MB, 20 ms).
const { NODE_EXTRA_CA_CERTS: _, ...environment } = process.env;

/** @param {Partial<import('./trial.mjs').Job>} job */
export function trial(job) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(root, 'bench/trial.mjs')], {
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: TRIAL_TIMEOUT,
      env: environment,
    });
    let [out, err] = ['', ''];
    child.stdout.on('data', (d) => (out += d));
    child.stderr.on('data', (d) => (err += d));
    child.on('error', reject);
    child.on('close', (code, signal) => {
      const line = out.trim().split('\n').at(-1);
      if (code === 0 && line?.startsWith('{')) return resolve(JSON.parse(line));
      const why = signal
        ? `stopped after ${TRIAL_TIMEOUT / 1e3} s; is the machine busy?`
        : `exit code ${code}`;
      reject(new Error(`${job.side}, ${job.scenario}: ${why}\n${err.trim().slice(-2000)}`));
    });
    child.stdin.end(JSON.stringify(job));
  });
}
