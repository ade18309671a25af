import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // A crash of the addon then fails one file instead of the runner.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
  },
});
